"""Photos prepared for SfM: plain names, formats that pycolmap reads, and which photos share intrinsics."""

import os
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from splat.images import open_image
from splat.scene.images import ImageHeader, decode, decode_mask, exif_of, read_header
from splat.scene.sfm.exif_focal import focal_pixels

_DIRECT = {".jpg": ".jpg", ".jpeg": ".jpg", ".png": ".png"}  # what pycolmap reads on every platform
_MAKE, _MODEL, _EXIF = 0x010F, 0x0110, 0x8769
_FOCAL_LENGTH, _FOCAL_LENGTH_35, _LENS_MODEL = 0x920A, 0xA405, 0xA434
_SHARED_WITHOUT_EXIF = 5  # this many photos of one size, if they are also half of all, come from one camera


@dataclass(frozen=True)
class SfmPhoto:
    """A photo under the plain name structure from motion knows it by.

    Attributes:
        name: in the user's folder, forward slashes.
        alias: file name in the working folder.
        header: size and EXIF orientation.
        camera: photos with the same number share intrinsics.
        focal: focal length that EXIF tells, pixels of the stored photo; None where it does not.
    """

    name: str
    alias: str
    header: ImageHeader
    camera: int
    focal: float | None = None


def prepare(
    folder: Path, names: Sequence[str], masks: dict[str, Path], work: Path, ignore: bool = False
) -> list[SfmPhoto]:
    """Fill ``work``/images (and ``work``/masks) with links to the photos, or copies in a plainer format.

    Args:
        ignore: masks are white where pixels are left out, instead of black.
    """
    headers = [read_header(folder / name) for name in names]
    identities = [_identity(folder / name, header) for name, header in zip(names, headers, strict=True)]
    cameras = _group(identities, headers)
    (work / "images").mkdir(parents=True, exist_ok=True)
    photos = []
    for index, (name, header) in enumerate(zip(names, headers, strict=True)):
        source = folder / name
        suffix = _DIRECT.get(source.suffix.lower())
        alias = f"{index:06d}{suffix or '.png'}"
        if suffix and not header.has_alpha:
            _link(source, work / "images" / alias)
        else:
            Image.fromarray(decode(source, turn=False, keep_alpha=False)).save(work / "images" / alias)
        if name in masks:
            (work / "masks").mkdir(exist_ok=True)
            keep = decode_mask(masks[name], (header.height, header.width), False, source, ignore)
            Image.fromarray(keep.astype(np.uint8) * 255).save(work / "masks" / f"{alias}.png")
        identity = identities[index]
        photos.append(SfmPhoto(name, alias, header, cameras[index], None if identity is None else identity[0]))
    return photos


def _link(source: Path, target: Path) -> None:
    try:
        os.symlink(source.resolve(), target)
    except OSError:  # file systems and systems without links
        shutil.copyfile(source, target)


def _identity(path: Path, header: ImageHeader) -> tuple | None:
    """(focal length in pixels or None, what tells one camera at one zoom from another), or None without EXIF."""
    if header.kind:  # its EXIF, if any, is beyond Pillow
        return None
    with open_image(path) as image:
        if image.format == "PNG" and "exif" not in image.info:
            return None
        top, sub = exif_of(image), exif_of(image, _EXIF)
    focal, focal_35 = sub.get(_FOCAL_LENGTH), sub.get(_FOCAL_LENGTH_35)
    if not top.get(_MODEL) and not focal:
        return None
    facts = (top.get(_MAKE), top.get(_MODEL), sub.get(_LENS_MODEL), focal, focal_35)
    return focal_pixels(sub, header.width, header.height), *(str(fact) for fact in facts), header.width, header.height


def _group(identities: Sequence[tuple | None], headers: Sequence[ImageHeader]) -> list[int]:
    """Camera number per photo. Photos without EXIF share one per size only where that size dominates, as in frames of a
    video; a collection from the web gets one per photo."""
    sizes: dict[tuple[int, int], int] = defaultdict(int)
    for identity, header in zip(identities, headers, strict=True):
        sizes[header.width, header.height] += identity is None
    numbers: dict[object, int] = {}
    result = []
    for index, (identity, header) in enumerate(zip(identities, headers, strict=True)):
        size = (header.width, header.height)
        shared = sizes[size] >= min(_SHARED_WITHOUT_EXIF, len(headers)) and 2 * sizes[size] >= len(headers)
        key: object = identity if identity is not None else size if shared else index
        result.append(numbers.setdefault(key, len(numbers)))
    return result
