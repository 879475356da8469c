"""Files appear whole or not at all."""

import os

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
    with pytest.raises(InputError, match=r"cannot write .*choose another place"):
        write_text(tmp_path / "file" / "below.txt", "x")


def test_full_disk_is_one_sentence(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    with pytest.raises(InputError, match="No space left"), atomic_path(tmp_path / "full.txt") as temporary:
        temporary.unlink()
        temporary.symlink_to("/dev/full")
        temporary.write_text("x" * 100_000)
