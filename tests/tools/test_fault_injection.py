"""The injection of faults: what it makes of a command that loses data, and of one that does not."""

import argparse
import json
import shutil
import sys

import pytest

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the shim is preloaded as on Linux"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]

TOYS = """
import os, sys

DATA = b"whole" * 1000

def refused(function):
    def main(arguments):
        try:
            function(arguments[0])
        except OSError as error:
            print(f"splat: cannot write: {error}", file=sys.stderr)
            return 2
        return 0
    return main

def written(path):
    with open(path, "wb") as file:
        file.write(DATA)
        file.flush()
        os.fsync(file.fileno())

@refused
def whole(path):
    try:
        written(path + ".part")
        os.rename(path + ".part", path)
    finally:
        if os.path.exists(path + ".part"):
            os.unlink(path + ".part")

@refused
def in_place(path):
    written(path)

@refused
def untidy(path):
    scratch = os.path.join(os.path.dirname(path), "." + os.urandom(3).hex())
    written(scratch)
    written(path + ".part")
    os.rename(path + ".part", path)
    os.unlink(scratch)

@refused
def half(path):
    file = os.open(path + ".part", os.O_WRONLY | os.O_CREAT)
    os.write(file, DATA)
    os.close(file)
    os.rename(path + ".part", path)

def loud(arguments):
    written(arguments[0] + ".part")
    os.rename(arguments[0] + ".part", arguments[0])
    return 0

def hungry(arguments):
    return whole(arguments) if len(bytearray(1 << 20)) else 1
"""


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """Function from the name of a toy to the rows of its results."""
    import fault_injection as tool
    from fault_server import Server, compiled

    folder = tmp_path_factory.mktemp("faults")
    (folder / "fault_toys.py").write_text(TOYS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        server = Server(compiled(folder), ["fault_toys"], seconds=20)

    def rows(name: str, kinds=("write", "fsync", "rename", "open"), kill=False):
        results = folder / f"{name}-{kill}.jsonl"
        options = argparse.Namespace(results=results, first=50, beyond=3, kill=kill)
        toy = tool.Command(("{out}/file",), "file", entry=f"fault_toys:{name}")
        trial = tool.Trial(server, toy, folder / "out")
        for kind in kinds:
            tool.inject(trial, name, kind, options)
        return [json.loads(line) for line in results.read_text().splitlines()]

    with server:
        yield rows


def faults_of(rows):
    return {(row["kind"], row["error"]): row["exit"] for row in rows if row["wrong"]}


def test_a_command_that_writes_whole_files_passes(tried):
    rows = tried("whole")
    assert {row["kind"] for row in rows} == {"write", "fsync", "rename", "open"}
    codes = {(row["kind"], row["error"]): row["exit"] for row in rows}
    assert codes["write", "ENOSPC"] == codes["fsync", "EIO"] == codes["rename", "ENOSPC"] == codes["open", "EIO"] == 2
    assert codes["write", "EINTR"] == codes["write", "SHORT"] == 0  # Python writes on
    assert not faults_of(rows)


def test_half_files_are_reported(tried):
    assert {("write", "ENOSPC"), ("write", "EIO")} <= set(faults_of(tried("in_place")))


def test_short_writes_that_nobody_sees_are_reported(tried):
    assert faults_of(tried("half"))["write", "SHORT"] == 0


def test_temporary_files_are_reported(tried):
    assert ("rename", "ENOSPC") in faults_of(tried("untidy"))


def test_tracebacks_are_reported(tried):
    assert faults_of(tried("loud"))["rename", "ENOSPC"] == 1


def test_full_memory_is_reported(tried):
    assert faults_of(tried("hungry", ["malloc"]))["malloc", "ENOMEM"] == 1


def test_killed_at_every_call(tried):
    whole, bad = tried("whole", ["files"], kill=True), tried("in_place", ["files"], kill=True)
    assert {row["exit"] for row in whole + bad} == {-9}
    assert len(whole) == whole[0]["of"] >= 4 and not faults_of(whole)
    assert any("half a file" in " ".join(row["wrong"]) for row in bad)


def test_numbers_beyond_the_first_are_a_sample():
    import fault_injection as tool

    assert list(tool.numbers(5, 10, 3)) == [1, 2, 3, 4, 5]
    assert list(tool.numbers(40, 10, 3)) == [*range(1, 11), 20, 30, 40]
