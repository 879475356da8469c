"""Bytes that begin with a magic word and carry a checksum: the frame of the simple formats."""

import struct
import zlib
from pathlib import Path

from splat.errors import InputError

CHECK = struct.Struct("<I")


def checked(magic: bytes, body: bytes) -> bytes:
    """A file: ``magic``, the CRC-32 of ``body``, and ``body``."""
    return magic + CHECK.pack(zlib.crc32(body)) + body


def body_of(magic: bytes, data: bytes, path: Path) -> bytes:
    """The body of a file that `checked` made. Raises InputError where it is another file or damaged."""
    start = len(magic) + CHECK.size
    if not data.startswith(magic):
        raise InputError(f"{path}: the file does not begin as {path.suffix} does; check what it is with `splat info`")
    if len(data) < start or CHECK.unpack_from(data, len(magic))[0] != zlib.crc32(data[start:]):
        raise InputError(f"{path}: the checksum does not fit, so that bytes are wrong or missing; copy the file again")
    return data[start:]
