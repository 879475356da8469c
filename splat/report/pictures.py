"""Pictures that travel inside the page: base64 JPEGs, and maps of the difference."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from splat.colormaps import magma
from splat.errors import InputError
from splat.images import open_image

LONGEST_SIDE = 1000  # pixels of an embedded picture
THUMBNAIL_HEIGHT = 96  # pixels; shown at half that on common screens
ERROR_LIMIT = 0.2  # difference drawn in the brightest colour; 1 is black against white


@dataclass(frozen=True)
class Pair:
    """Data URLs of a photo, its render, their difference map and a thumbnail; size in pixels."""

    photo: str
    render: str
    difference: str | None
    thumbnail: str
    width: int
    height: int


def pair(photo: Path, render: Path) -> Pair:
    """Read and encode one view. The difference map is None where the two have different sizes."""
    a, b = _open(photo), _open(render)
    difference = None
    if a.size == b.size:
        shrunk = (np.asarray(_fit(image), np.float32) / 255 for image in (a, b))
        difference = data_url(Image.fromarray(difference_map(*shrunk)), 82)
    small = _fit(b)
    thumbnail = b.resize((max(1, round(b.width * THUMBNAIL_HEIGHT / b.height)), THUMBNAIL_HEIGHT), Image.Resampling.BOX)
    urls = data_url(_fit(a), 90), data_url(small, 90), difference, data_url(thumbnail, 75)
    return Pair(*urls, small.width, small.height)


def difference_map(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Mean absolute difference over the channels of (H, W, 3) in [0, 1], as colours from black (0) to `ERROR_LIMIT`."""
    error = np.abs(a - b).mean(-1)
    return magma(error / ERROR_LIMIT)


def _open(path: Path) -> Image.Image:
    try:
        with open_image(path) as image:
            return image.convert("RGB")
    except InputError as error:
        raise InputError(
            f"{path} is not a readable picture ({error}); run `splat eval` again to make it anew"
        ) from error


def _fit(image: Image.Image) -> Image.Image:
    scale = LONGEST_SIDE / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def data_url(image: Image.Image, quality: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
