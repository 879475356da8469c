"""gzip on all cores: one ordinary stream, made of blocks that are compressed side by side.

Each block but the last ends at a byte boundary by an empty stored block (zlib's Z_SYNC_FLUSH), and knows the 32 KiB
before it as a dictionary, so that next to nothing is lost; pigz (Adler) works so too.
"""

import zlib
from collections.abc import Sequence
from typing import Any

from splat.coding.parallel import each

BLOCK = 1 << 20
WINDOW = 1 << 15
HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # no name and no time, so that the same input gives the same bytes


def gzip(parts: Sequence[Any], level: int) -> bytes:
    """The gzip file that inflates to the bytes of ``parts`` (buffers), one after another."""
    data = memoryview(b"".join(parts))

    def deflate(first: int) -> bytes:
        last = first + BLOCK >= len(data)
        window = data[max(0, first - WINDOW) : first]
        packer = zlib.compressobj(level, wbits=-15, **({"zdict": window} if first else {}))
        packed = packer.compress(data[first : first + BLOCK])
        return packed + packer.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)

    blocks = each(deflate, range(0, max(len(data), 1), BLOCK))
    tail = zlib.crc32(data).to_bytes(4, "little") + (len(data) & 0xFFFFFFFF).to_bytes(4, "little")
    return b"".join([HEADER, *blocks, tail])


def with_padding(data: bytes, size: int) -> bytes:
    """The file of `gzip`, at least ``size`` bytes longer by empty blocks before its first: they inflate to nothing."""
    empty = b"\0\0\0\xff\xff"
    return data[: len(HEADER)] + empty * -(-size // len(empty)) + data[len(HEADER) :]
