"""The files of a SOG: in a zip bundle or in a folder, read with bounds, written whole or not at all."""

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from splat.coding import webp
from splat.errors import InputError
from splat.files import atomic_path, write_bytes

META = "meta.json"
MAX_META = 16 << 20
# A WebP picture never gets larger than its pixels by more than a header; the largest one has 16383² of them.
MAX_PICTURE = 1 << 31


@dataclass(frozen=True)
class Files:
    """An open SOG: ``path`` for messages, ``meta`` parsed, ``read(name)`` for its pictures."""

    path: Path
    meta: Any
    archive: zipfile.ZipFile | None
    prefix: str

    def read(self, name: str) -> bytes:
        """The bytes of ``name``. Raises InputError when it is missing, damaged or beyond bounds."""
        return self._read(name, MAX_PICTURE)

    def _read(self, name: str, most: int) -> bytes:
        try:
            if self.archive is None:
                return read_bounded(self.path / name, most)
            entry = self.archive.getinfo(self.prefix + name)
            stored = min(entry.compress_size, self.path.stat().st_size)
            if entry.file_size > min(most, 1032 * stored + 64):
                raise InputError(f"{self.path}: '{name}' claims {entry.file_size:,} bytes; the bundle is damaged")
            with self.archive.open(entry) as file:
                return file.read(entry.file_size + 1)[: entry.file_size]
        except (KeyError, FileNotFoundError) as error:
            raise InputError(f"{self.path}: '{name}' is missing; copy the whole SOG again") from error
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            RuntimeError,  # encryption, or a compression that zipfile does not know
            ValueError,
            OSError,
        ) as error:
            raise InputError(f"{self.path}: '{name}' cannot be read ({error}); copy the SOG again") from error


def read_bounded(path: Path, most: int) -> bytes:
    """The bytes of a file that has at most ``most``. Raises InputError for larger ones."""
    if path.stat().st_size > most:
        raise InputError(f"{path}: {path.stat().st_size:,} bytes is too large for a SOG; check the file")
    return path.read_bytes()


@contextmanager
def open_files(path: Path) -> Iterator[Files]:
    """Open a bundle, a folder, or the folder of a `meta.json`."""
    if path.is_dir() or path.name == META:
        folder = path if path.is_dir() else path.parent
        files = Files(folder, None, None, "")
        yield Files(folder, parse_json(files._read(META, MAX_META), path), None, "")
        return
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError) as error:
        raise InputError(f"{path}: it is no SOG bundle ({error}); copy it again or give its folder") from error
    with archive:
        names = [name for name in archive.namelist() if name == META or name.endswith("/" + META)]
        if not names:
            raise InputError(f"{path}: the bundle holds no {META}, so it is no SOG; check the file")
        prefix = min(names, key=len).removesuffix(META)
        files = Files(path, None, archive, prefix)
        yield Files(path, parse_json(files._read(META, MAX_META), path), archive, prefix)


def parse_json(data: bytes, path: Path) -> Any:
    """A JSON object. Raises InputError when ``data`` is none; ``path`` is for the message."""
    try:
        meta = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: the metadata is no valid JSON ({error}); make or copy it again") from error
    if not isinstance(meta, dict):
        raise InputError(f"{path}: the metadata holds no object; make or copy it again")
    return meta


def save_files(path: Path, meta: Mapping[str, Any], pictures: Mapping[str, np.ndarray], effort: int) -> None:
    """Write (H, W, 4) ``pictures`` and ``meta``: a zip bundle, or a folder if ``path`` is a `meta.json`."""
    with ThreadPoolExecutor(2) as pool:  # libwebp runs outside Python's lock
        encoded = dict(
            zip(pictures, pool.map(lambda pixels: webp.encode(pixels, effort), pictures.values()), strict=True)
        )
    text = json.dumps(meta, separators=(",", ":")).encode()
    if path.name == META:
        folder = path.parent
        for name, data in encoded.items():
            write_bytes(folder / f"{name}.webp", data)
        write_bytes(folder / META, text)  # last: a folder without it is not taken for a SOG
        return
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, data in [(META, text), *((f"{name}.webp", data) for name, data in encoded.items())]:
            # A fixed date: the same cloud gives the same bytes.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
