"""Signals to a run: those that end it leave a checkpoint, and SIGUSR1 writes one while the run goes on."""

import os
import signal
import subprocess
import sys
import time

import pytest
from support.tiny import write_scene

from splat.cli import main
from splat.errors import Interrupted
from splat.training import checkpoint


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("signals") / "scene")


def begin(scene, run, *before):
    options = ["--steps", "1000000", "--gaussians", "80", "--preset", "default", "--checkpoint-seconds", "0"]
    return subprocess.Popen(
        [*before, sys.executable, "-m", "splat", "train", str(scene), "--out", str(run), *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


def wait_for(holds, child):
    until = time.monotonic() + 60
    while not holds():
        assert child.poll() is None and time.monotonic() < until
        time.sleep(0.05)


def checkpoint_after_usr1(child, run):
    """Ask for a checkpoint until the loop is there to hear it."""
    wait_for((run / "config.toml").exists, child)

    def written():
        child.send_signal(signal.SIGUSR1)
        time.sleep(0.2)
        return checkpoint.all_in(run / "checkpoints")

    wait_for(written, child)


@pytest.mark.parametrize(("number", "code"), [("TERM", 143), ("HUP", 129), ("QUIT", 131), ("INT", 130)])
def test_signals_that_end_a_run_leave_a_checkpoint(scene, tmp_path, number, code):
    run = tmp_path / "run"
    child = begin(scene, run)
    try:
        checkpoint_after_usr1(child, run)
        first = checkpoint.all_in(run / "checkpoints")[-1]
        time.sleep(0.3)
        assert child.poll() is None
        child.send_signal(signal.Signals[f"SIG{number}"])
        error = child.communicate(timeout=30)[1]
    finally:
        child.kill()
    assert child.returncode == code
    newest = checkpoint.all_in(run / "checkpoints")[-1]
    assert newest > first and str(newest) in error and "--resume" in error
    assert "Aborted" not in error and "Traceback" not in error and len(error.strip().splitlines()) <= 2
    assert checkpoint.load(run / "checkpoints")["step"] > 0
    assert not (run / ".lock").exists()


def test_a_run_under_nohup_outlives_its_terminal(scene, tmp_path):
    run = tmp_path / "run"
    child = begin(scene, run, "nohup")
    try:
        checkpoint_after_usr1(child, run)
        child.send_signal(signal.SIGHUP)
        before = len(checkpoint.all_in(run / "checkpoints"))
        time.sleep(0.5)
        assert child.poll() is None and before
    finally:
        child.kill()
        child.communicate()


def test_a_command_ends_at_once_with_the_code_of_the_signal(monkeypatch, capsys):
    import splat.cli.info

    def run(arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(splat.cli.info, "run", run)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["info", "x"]) == 143
    assert "interrupted" in capsys.readouterr().err and signal.getsignal(signal.SIGTERM) is before
    assert str(Interrupted(15)) == "" and str(Interrupted(15, "x")) == "x"


STILLBORN = """
import sys, threading
from splat.cli import main
import splat.cli.info as info

def no_memory(thread):
    raise MemoryError

def run(arguments):
    threading.Thread._bootstrap_inner = no_memory
    threading.Thread(target=print).start()

info.run = run
sys.exit(main(["info"]))
"""


def test_a_thread_that_finds_no_memory_ends_the_command():
    """Thread.start() waits for ever for a thread that dies before it has begun."""
    done = subprocess.run([sys.executable, "-c", STILLBORN], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("splat: this machine's memory is full") and done.stderr.count("\n") == 1
