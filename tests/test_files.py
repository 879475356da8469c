"""Files appear whole or not at all."""

import os
import signal
import socket
import stat
import subprocess
import sys
import threading

import pytest

from splat.errors import InputError
from splat.files import atomic_path, write_json, write_text


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "result.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("interrupted")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["result.txt"]


def test_folders_are_made_and_modes_follow_the_umask(tmp_path):
    path = tmp_path / "a" / "b.json"
    write_json(path, {"x": 1})
    umask = os.umask(0)
    os.umask(umask)
    assert path.read_text() == '{\n  "x": 1\n}\n' and path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_unwritable_place_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*choose another folder"):
        write_text(tmp_path / "file" / "below.txt", "x")


def test_full_disk_is_one_sentence(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    with pytest.raises(InputError, match="No space left"), atomic_path(tmp_path / "full.txt") as temporary:
        temporary.unlink()
        temporary.symlink_to("/dev/full")
        temporary.write_text("x" * 100_000)


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "real.txt").write_text("old")
    for name, target in (("link.txt", "disk/real.txt"), ("dangling.txt", "disk/new.txt")):
        (tmp_path / name).symlink_to(target)
        write_text(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink() and (tmp_path / target).read_text() == "new"
    assert sorted(p.name for p in (tmp_path / "disk").iterdir()) == ["new.txt", "real.txt"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_a_file_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "secret.txt"
    path.write_text("old")
    path.chmod(mode)
    with atomic_path(path) as temporary:
        assert temporary.stat().st_mode & 0o077 & ~mode == 0  # nobody may read meanwhile who may not afterwards
        temporary.write_text("new")
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == mode


def test_pipes_and_devices_are_written_into(tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    read = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    content = "x" * 3_000_000
    write_text(fifo, content)
    reader.join(10)
    assert read == [content.encode()] and stat.S_ISFIFO(fifo.stat().st_mode)
    before = os.stat(os.devnull)
    write_text(os.devnull, "x")
    assert os.stat(os.devnull).st_ino == before.st_ino and stat.S_ISCHR(os.stat(os.devnull).st_mode)
    with pytest.raises(InputError, match="No space left"):
        write_text("/dev/full", "x")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_folder_and_a_socket_are_refused(tmp_path):
    with pytest.raises(InputError, match="it is a folder"):
        write_text(tmp_path, "x")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(InputError, match="a socket"):
            write_text(tmp_path / "socket", "x")


def test_the_longest_names_are_possible(tmp_path):
    path = tmp_path / ("x" * 251 + ".txt")
    write_text(path, "a")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("mode", [0o600, 0o666, 0o755])
def test_a_replaced_file_keeps_its_mode_whatever_the_umask(tmp_path, mode):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(mode)
    before = os.umask(0o027)
    try:
        write_text(path, "new")
    finally:
        os.umask(before)
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == mode


KILLED = """
import os, signal, sys
from splat.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("written", flush=True)
    if sys.argv[2] == "wait":
        sys.stdin.read()
    else:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def writing(path, how):
    command = [sys.executable, "-c", KILLED, str(path), how]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "written\n"
    return writer


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    path, other = tmp_path / "cloud.ply", tmp_path / "other.ply"
    for each in (path, other):
        with writing(each, "die") as writer:
            assert writer.wait(30) == -signal.SIGKILL
    kept = [tmp_path / ".cloud-notes.ply", tmp_path / ".cloud-0123456789ab.txt"]
    for each in kept:
        each.touch()
    assert len(list(tmp_path.iterdir())) == 4
    write_text(path, "whole")
    names = {each.name for each in tmp_path.iterdir()}
    assert names >= {"cloud.ply", *(each.name for each in kept)} and len(names) == 4
    assert not any(name.startswith(".cloud") and name.endswith(".ply") for name in names - {kept[0].name})


def test_what_another_process_is_writing_stays(tmp_path):
    path = tmp_path / "cloud.ply"
    with writing(path, "wait") as writer:
        write_text(path, "ours")
        assert path.read_text() == "ours" and len(list(tmp_path.iterdir())) == 2
        writer.communicate("", timeout=30)
    assert path.read_text() == "half" and list(tmp_path.iterdir()) == [path]
