"""Colours as files store them, in whatever type and range, as numbers from 0 to 1."""

import numpy as np


def largest_colour(largest: float, kind: np.dtype) -> float:
    """What stands for full brightness in colours of the type ``kind``, the largest of which is ``largest``.

    Bytes go to 255. Of wider types a file says nothing: those up to 255 are taken as bytes, others as 16 bits (LAS,
    PDAL) or, beyond, as the whole range of the type. Fractions up to 1 go to 1.
    """
    if kind.kind == "f" and largest <= 1:
        return 1.0
    if kind.itemsize == 1 or largest <= 255:
        return 255.0
    if largest <= 65535:
        return 65535.0
    return largest if kind.kind == "f" else float(np.iinfo(kind).max)


def as_fractions(colours: np.ndarray, kind: np.dtype) -> np.ndarray:
    """``colours`` (…) float, changed in place from the range in which a file of type ``kind`` stores them to 0…1."""
    with np.errstate(invalid="ignore"):
        np.nan_to_num(colours, copy=False, nan=0.5, posinf=0.0, neginf=0.0)
        if kind.kind == "i" and kind.itemsize == 1:  # bytes that were called signed
            colours[colours < 0] += 256
        colours /= largest_colour(float(colours.max(initial=0)), kind)
        return np.clip(colours, 0, 1, out=colours)
