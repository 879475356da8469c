"""Which pixels a mask keeps, whatever numbers it is made of."""

from pathlib import Path

import cv2
import numpy as np

from splat.errors import InputError
from splat.scene.pictures.decode import values

_BYTE, _SHORT = 255, 65535


def decode_mask(path: Path, shape: tuple[int, int], turn: bool, image: Path, ignore: bool = False) -> np.ndarray:
    """(H, W) bool, True = keep: the bright pixels of the mask file, or with ``ignore`` the dark ones.

    A mask of another size but the same shape is enlarged or shrunk. Raises InputError for one of another shape.
    """
    bright = bright_pixels(path, turn=False)
    if turn and bright.shape != shape:
        bright = bright_pixels(path, turn=True)
    if bright.shape != shape:
        if not same_shape(bright.shape, shape):
            raise size_error(path, bright.shape, image, shape)
        size = (shape[1], shape[0])
        bright = cv2.resize(bright.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) > 0
    return ~bright if ignore else bright


def same_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two pictures (height, width) are one at two sizes, give or take rounding to whole pixels."""
    small, large = sorted((a, b))
    factor = large[0] / small[0]
    return abs(large[1] - small[1] * factor) <= max(1.0, factor)


def size_error(path: Path, size: tuple[int, int], image: Path, shape: tuple[int, int]) -> InputError:
    """The error for a mask that does not fit its image; sizes are (height, width)."""
    return InputError(
        f"the mask {path} is {size[1]}×{size[0]} pixels but its image {image} is {shape[1]}×{shape[0]}; make them the "
        "same size or remove the mask"
    )


def bright_pixels(path: Path, turn: bool) -> np.ndarray:
    """(H, W) bool, True where the mask file is white: at half of white and above.

    White is 1 where no value is larger, else 255, else 65535. A file without loss whose values stay below half of white
    holds labels, and what is not 0 is white. Where the colour is one and the same everywhere, the alpha channel counts.
    """
    colours, alpha, special = values(path, turn)
    if alpha is not None and (alpha != alpha.flat[0]).any():
        if (colours == colours[:1, :1]).all() or _varied(colours, alpha):
            return _bright(alpha, special)
        return _bright(colours.max(axis=2), special) & _bright(alpha, special)
    if special == "labels":
        return (colours > 0).any(axis=2)
    return _bright(colours.max(axis=2), special)


def _varied(colours: np.ndarray, alpha: np.ndarray) -> bool:
    """Whether the visible pixels show a picture, cut out by its alpha, and not black and white."""
    seen = colours[alpha > 0]
    return len(seen) > 0 and bool((seen != seen[:, :1]).any())


def _bright(numbers: np.ndarray, special: str) -> np.ndarray:
    most = float(np.nanmax(numbers, initial=0))
    if most <= 1:
        return numbers > 0 if numbers.dtype.kind in "iub" else numbers >= 0.5
    half = (_BYTE if most <= _BYTE else _SHORT) / 2
    return numbers > 0 if most < half and special != "lossy" else numbers >= half
