"""Scenes in zip archives: unpacked once, into a folder kept beside the archive as results of structure from motion are.

What an archive claims is held against its bytes before anything is written; names that lead outside are refused, links
are left out.
"""

import hashlib
import os
import shutil
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from splat.errors import InputError
from splat.files import write_json
from splat.reading import guarded, require_file
from splat.scene.listing import MOST_ENTRIES, listed
from splat.scene.progress import Report, reporter
from splat.scene.sfm import result_cache

SUFFIXES = frozenset({".zip", ".r3d"})
_RATIO, _SLACK = 100, 32 << 20  # an archive may claim so many times its bytes, and so many more
_CHUNK = 1 << 20
_CLUTTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")
_FOLDER = "scene"  # of the unpacked files in the folder kept


def is_cloud(path: Path) -> bool:
    """Whether the archive ``path`` is a cloud's file under another name: SOG and USD are archives too."""
    require_file(path)
    with guarded(path, "the archive"), zipfile.ZipFile(path) as archive:
        return any(name.endswith(("means_l.webp", ".usdc", ".usda")) for name in archive.namelist())


def unpack(path: Path, progress: Report | bool) -> tuple[Path, list[str]]:
    """The folder with the scene of the archive ``path``, and notes. Raises InputError."""
    require_file(path)
    with guarded(path, "the archive"), zipfile.ZipFile(path) as archive:
        members, notes = _members(archive, path)
        fingerprint = _fingerprint(members)
        candidates = result_cache.candidate_folders(path.parent, f"{path.name}.unpacked", fingerprint)
        kept = result_cache.find_result(candidates, fingerprint)
        if kept is None:
            kept = result_cache.first_writable(candidates)
            _check_room(members, kept.parent)
            with reporter(progress) as report, result_cache.atomic_folder(kept) as work:
                _extract(archive, members, work / _FOLDER, report)
                write_json(work / result_cache.RECORD, {"fingerprint": fingerprint})
    return _innermost(kept / _FOLDER), [f"{path.name} is unpacked in {kept}", *notes]


def _members(archive: zipfile.ZipFile, path: Path) -> tuple[list[zipfile.ZipInfo], list[str]]:
    """The files to unpack, and a note about links. Raises InputError for what is out of bounds."""
    members, links = [], []
    for info in archive.infolist():
        name = PurePosixPath(info.filename.replace("\\", "/"))
        if info.is_dir() or any(part in _CLUTTER or part.startswith("._") for part in name.parts):
            continue
        if name.is_absolute() or ".." in name.parts or not name.parts or ":" in name.parts[0]:
            raise InputError(f"{path} holds a file whose path leads outside, {info.filename[:80]!r}; make it again")
        if info.flag_bits & 1:
            raise InputError(f"{path} is encrypted; unpack it and give the folder")
        if stat.S_ISLNK(info.external_attr >> 16):
            links.append(info.filename)
        else:
            members.append(info)
    if len(members) > MOST_ENTRIES:
        raise InputError(f"{path} holds more than {MOST_ENTRIES:,} files, too many for one scene")
    claimed, size = sum(info.file_size for info in members), path.stat().st_size
    if claimed > _RATIO * size + _SLACK:
        raise InputError(
            f"{path} has {size:,} bytes and claims to hold {claimed:,}, which no photos do; check the file"
        )
    if not members:
        raise InputError(f"{path} holds no files; give an archive with a scene")
    verb = "link in it is" if len(links) == 1 else "links in it are"
    return members, [f"{len(links)} {verb} left out ({listed(links)})"] if links else []


def _fingerprint(members: Sequence[zipfile.ZipInfo]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for info in members:
        digest.update(f"{info.filename}\0{info.file_size}\0{info.CRC}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _check_room(members: Sequence[zipfile.ZipInfo], folder: Path) -> None:
    needed, free = sum(info.file_size for info in members), shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(f"unpacking needs {needed:,} bytes in {folder}, where {free:,} are free; free some space")


def _extract(archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo], folder: Path, report: Report) -> None:
    for index, info in enumerate(members):
        target = folder / PurePosixPath(info.filename.replace("\\", "/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as source, open(target, "xb") as file:  # no more is read than was claimed
            shutil.copyfileobj(source, file, _CHUNK)
        report("unpacking", (index + 1) / len(members))


def _innermost(folder: Path) -> Path:
    """``folder``, or the only folder in it where it holds nothing else, and so on."""
    while True:
        with guarded(folder, "the folder"):
            entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
        if len(entries) != 1 or not entries[0].is_dir() or entries[0].name in _MEANT:
            return folder
        folder = Path(entries[0].path)


_MEANT = ("images", "input", "sparse", "keyframes", "opensfm")  # folders that mean something by their names
