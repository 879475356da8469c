"""Lossless WebP pictures as containers of bytes: exact RGBA in, exact RGBA out."""

import io
from pathlib import Path

import numpy as np

from splat.errors import InputError
from splat.reading import DAMAGE, reason_of

MAX_SIDE = 16383  # of the format


def size(data: bytes) -> tuple[int, int] | None:
    """Width and height from the header of a WebP file, without decoding; None when it is none."""
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    kind = data[12:16]
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None


def decode(data: bytes, path: Path, name: str, at_least: int, at_most: int) -> np.ndarray:
    """(H, W, 4) uint8 RGBA of the picture ``name`` in ``path``.

    Raises InputError when it is damaged or does not have between ``at_least`` and ``at_most`` pixels; the count is
    checked before any pixel is decoded.
    """
    from PIL import WebPImagePlugin  # not through Image.open, which loads the readers of forty formats first

    dimensions = size(data)
    if dimensions is None:
        raise InputError(f"{path}: '{name}' is no WebP picture; the file is damaged, make or copy it again")
    if not at_least <= dimensions[0] * dimensions[1] <= at_most:
        raise InputError(
            f"{path}: '{name}' has {dimensions[0]}×{dimensions[1]} pixels, expected {at_least:,} to {at_most:,}; "
            "the file is damaged, make or copy it again"
        )
    try:
        with WebPImagePlugin.WebPImageFile(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGBA"))
    except (*DAMAGE, OSError, SyntaxError, RuntimeError, MemoryError) as error:  # Pillow has many words for damage
        raise InputError(
            f"{path}: '{name}' cannot be decoded ({reason_of(error)}); make or copy the file again"
        ) from error
    if pixels.shape[:2] != dimensions[::-1]:
        raise InputError(f"{path}: '{name}' decodes to another size than its header says; make or copy the file again")
    return pixels


def encode(pixels: np.ndarray, effort: int) -> bytes:
    """The lossless WebP of (H, W, 4) uint8 ``pixels``; ``effort`` from 0 (fast) to 6 (small)."""
    from PIL import Image, WebPImagePlugin  # noqa: F401  so that saving looks no further

    out = io.BytesIO()
    # For lossless WebP, quality is a second effort; above 75 it gets slow and gains nothing on this kind of data.
    Image.fromarray(pixels).save(out, "WEBP", lossless=True, quality=75, method=effort, exact=True)
    return out.getvalue()
