"""The frame of the command line: help, speed of start, exit codes, and what happens to errors."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
from support.tiny import tiny_cloud

from splat import __version__
from splat.cli import COMMANDS, console, main
from splat.errors import InputError, memory_ran_out


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  {command} " in text


def test_no_arguments_is_help(capsys):
    assert main([]) == 0
    assert "usage: splat" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"usage: splat {command}" in text
    assert "None" not in text


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"splat {__version__}"


@pytest.mark.parametrize("code", ["import splat", "import splat.cli; splat.cli.main(['--help'])"])
def test_start_loads_nothing_heavy(code):
    heavy = ("torch", "numpy", "cv2", "pycolmap", "PIL", "scipy", "tyro", "rich")
    script = f"import sys; {code}; print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"


def test_help_of_train_needs_no_torch():
    script = "import sys, splat.cli; splat.cli.main(['train', '--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0


def test_unknown_command(capsys):
    assert main(["trian"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("splat: there is no command 'trian'; expected one of train, ")


def test_unknown_option(capsys):
    assert main(["info", "x", "--nonsense", "1"]) == 2
    assert "--nonsense" in capsys.readouterr().err


@pytest.mark.parametrize(
    "raised, code, said",
    [
        (InputError("a.ply is odd; mend it"), 2, "splat: a.ply is odd; mend it\n"),
        (KeyboardInterrupt("go on so"), 130, "\nsplat: interrupted; go on so\n"),
        (KeyboardInterrupt(), 130, "\nsplat: interrupted\n"),
    ],
)
def test_exceptions_become_exit_codes(raised, code, said, capsys, monkeypatch):
    def fail(_arguments):
        raise raised

    monkeypatch.setattr("splat.cli.info.run", fail)
    assert main(["info"]) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    "raised, said",
    [
        (MemoryError("Unable to allocate 9 GiB"), "this machine's memory is full"),
        (RuntimeError("[enforce fail at alloc.cpp:1] Allocator: can't allocate memory"), "memory is full"),
        (RuntimeError("std::bad_alloc"), "memory is full"),
        (OSError(errno.ENOMEM, "Cannot allocate memory", "a.ply"), "memory is full"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/a"), "cannot use runs/a: No space left on device"),
        (OSError(errno.EIO, "Input/output error", "runs/a"), "cannot use runs/a: Input/output error"),
    ],
)
def test_what_the_machine_refuses_is_one_sentence(raised, said, capsys, monkeypatch):
    def fail(_arguments):
        raise raised

    monkeypatch.setattr("splat.cli.info.run", fail)
    assert main(["info"]) == 2
    text = capsys.readouterr().err
    assert text.startswith("splat: ") and said in text and text.count("\n") == 1


def test_pytorch_and_opencv_say_that_memory_is_full_in_these_words():
    import cv2
    import torch

    for fails in (lambda: torch.empty(1 << 60), lambda: cv2.resize(np.zeros((1, 1)), (1 << 20, 1 << 25))):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            fails()
        assert memory_ran_out(caught.value), caught.value


def test_a_defect_shows_its_traceback_and_asks_for_a_report(capsys, monkeypatch):
    def fail(_arguments):
        raise ZeroDivisionError("of our own making")

    monkeypatch.setattr("splat.cli.info.run", fail)
    assert main(["info"]) == 1
    text = capsys.readouterr().err
    assert "ZeroDivisionError: of our own making" in text
    assert "splat doctor" in text


@pytest.mark.parametrize(
    "text, value", [("7", 7), ("-3", -3), ("300k", 300_000), ("1.5M", 1_500_000), ("0.5k", 500), ("1e4", 10_000)]
)
def test_whole_numbers(text, value):
    assert console.whole_number(text) == value


@pytest.mark.parametrize("text", ["", "k", "1.5", "ten", "inf", "nan", "1.2345k"])
def test_what_is_no_whole_number(text):
    with pytest.raises(ValueError, match="is not a whole number"):
        console.whole_number(text)


def test_amounts_and_durations():
    assert [console.amount(x) for x in (0, 999, 1500, 2_500_000, 3e9)] == ["0 B", "999 B", "1.5 kB", "2.5 MB", "3.0 GB"]
    assert [console.duration(x) for x in (1.25, 59.9, 75, 3600)] == ["1.2 s", "59.9 s", "1 min 15 s", "1 h 00 min"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_full_and_closed_standard_output(tmp_path):
    from splat import formats

    formats.write(tiny_cloud(), tmp_path / "cloud.ply")
    command = f"{sys.executable} -m splat info {tmp_path / 'cloud.ply'}"
    full = subprocess.run(f"{command} > /dev/full", shell=True, capture_output=True, text=True)
    assert full.returncode == 2 and full.stderr.count("\n") == 1 and "No space left" in full.stderr
    closed = subprocess.run(f"{command} >&- 2>&-", shell=True, capture_output=True, text=True)
    assert closed.returncode == 0
