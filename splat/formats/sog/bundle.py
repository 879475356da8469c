"""The files of a SOG: in a zip bundle or in a folder, read with bounds, written whole or not at all."""

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from splat.coding import webp
from splat.coding.limits import padding
from splat.errors import InputError
from splat.files import atomic_path, write_bytes
from splat.reading import DAMAGE, parse_json, read_bytes, reason_of, require_file

META = "meta.json"
MAX_META = 12 << 20
MAX_DIRECTORY = 1 << 20  # bytes of a bundle's list of members, of which there are eight
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others expand without limit, and no SOG has them
# A WebP picture never gets larger than its pixels by more than a header; the largest one has 16383² of them.
MAX_PICTURE = 1 << 31


@dataclass(frozen=True)
class Files:
    """An open SOG: ``path`` for messages, ``meta`` parsed, ``read(name)`` and ``size(names)`` for its pictures."""

    path: Path
    meta: Any
    archive: zipfile.ZipFile | None
    prefix: str

    def read(self, name: str) -> bytes:
        """The bytes of ``name``. Raises InputError when it is missing, damaged or beyond bounds."""
        return self._read(name, MAX_PICTURE)

    def size(self, names: Iterable[str]) -> int:
        """Bytes of the bundle, or of `meta.json` and ``names`` in the folder."""
        if self.archive is not None:
            return self.path.stat().st_size
        places = {self.path / name for name in (META, *names)}
        return sum(place.stat().st_size for place in places if place.is_file())

    def _read(self, name: str, most: int) -> bytes:
        try:
            if self.archive is None:
                if not (self.path / name).exists():
                    raise KeyError(name)
                return read_bytes(self.path / name, most)
            entry = self.archive.getinfo(self.prefix + name)
            if entry.compress_type not in PACKINGS:
                raise InputError(f"{self.path}: '{name}' is packed in a way that no SOG is; make the bundle again")
            stored = min(entry.compress_size, self.path.stat().st_size)
            if entry.file_size > min(most, 1032 * stored + 64):
                raise InputError(f"{self.path}: '{name}' claims {entry.file_size:,} bytes; the bundle is damaged")
            with self.archive.open(entry) as file:
                return file.read(entry.file_size + 1)[: entry.file_size]
        except KeyError as error:
            raise InputError(f"{self.path}: '{name}' is missing; copy the whole SOG again") from error
        except (*DAMAGE, RuntimeError, OSError) as error:  # RuntimeError: encryption
            raise InputError(
                f"{self.path}: '{name}' cannot be read ({reason_of(error)}); copy the SOG again"
            ) from error


class _Bundle(io.FileIO):
    """A file of which zipfile reads little until it knows the members; a long list of them would fill the memory."""

    opening = True

    def read(self, size: int = -1) -> bytes:
        if self.opening and size > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"a list of members of {size:,} bytes")
        return super().read(size)


@contextmanager
def open_files(path: Path) -> Iterator[Files]:
    """Open a bundle, a folder, or the folder of a `meta.json`."""
    if path.is_dir() or path.name == META:
        folder = path if path.is_dir() else path.parent
        files = Files(folder, None, None, "")
        yield Files(folder, parse_json(files._read(META, MAX_META), path, META), None, "")
        return
    with _Bundle(require_file(path)) as file:
        try:
            archive = zipfile.ZipFile(file)
        except (*DAMAGE, OSError) as error:
            raise InputError(
                f"{path}: it is no SOG bundle ({reason_of(error)}); copy it again or give its folder"
            ) from error
        file.opening = False
        names = [name for name in archive.namelist() if name == META or name.endswith("/" + META)]
        if not names:
            raise InputError(f"{path}: the bundle holds no {META}, so it is no SOG; check the file")
        prefix = min(names, key=len).removesuffix(META)
        files = Files(path, None, archive, prefix)
        yield Files(path, parse_json(files._read(META, MAX_META), path, META), archive, prefix)


def save_files(
    path: Path, meta: Mapping[str, Any], pictures: Mapping[str, np.ndarray], effort: int, sh_degree: int
) -> None:
    """Write (H, W, 4) ``pictures`` and ``meta``: a zip bundle, or a folder if ``path`` is a `meta.json`."""
    with ThreadPoolExecutor(2) as pool:  # libwebp runs outside Python's lock
        encoded = dict(
            zip(pictures, pool.map(lambda pixels: webp.encode(pixels, effort), pictures.values()), strict=True)
        )
    text = json.dumps(meta, separators=(",", ":")).encode()
    text = padded(text, path, meta["count"], sh_degree, sum(map(len, encoded.values())))
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


def padded(text: bytes, path: Path, count: int, sh_degree: int, others: int) -> bytes:
    """JSON ``text`` with so many blanks that it and ``others`` bytes of pictures are believed to hold the cloud.

    Raises InputError for clouds so large and uniform that even that is not enough.
    """
    text += b" " * padding(count, sh_degree, len(text) + others)
    if len(text) > MAX_META:
        raise InputError(f"{path}: {count:,} Gaussians so alike are too many for a SOG; decimate the cloud first")
    return text
