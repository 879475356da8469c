"""From a file to pixels: what a picture's header tells, and its pixels as 8-bit sRGB."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from splat.errors import InputError
from splat.images import BELIEVED, open_image
from splat.reading import require_file
from splat.scene.pictures import colour, exr, float_tiff, raw
from splat.scene.pictures.kinds import RAW, suffix_of

EMPTY_MASK = 1 << 27  # pixels: masks of one colour are ordinary, and take a byte a pixel
_UNUSED = "not followed"  # the colour profile of a file of floating-point numbers
_ORIENTATION = 0x0112  # EXIF tag
_FLIP = Image.Transpose
_TURNS = {
    2: _FLIP.FLIP_LEFT_RIGHT,
    3: _FLIP.ROTATE_180,
    4: _FLIP.FLIP_TOP_BOTTOM,
    5: _FLIP.TRANSPOSE,
    6: _FLIP.ROTATE_270,
    7: _FLIP.TRANSVERSE,
    8: _FLIP.ROTATE_90,
}  # EXIF orientation → what makes the stored picture upright


@dataclass(frozen=True)
class ImageHeader:
    """Facts about a picture, known without decoding it.

    Attributes:
        width, height: pixels, as stored.
        orientation: of EXIF; 1 is upright.
        has_alpha: whether there is an alpha channel.
        kind: ``float`` (numbers of a range that is not told), ``linear`` (OpenEXR), ``raw`` or, for all others, empty.
        profile: name of the colour profile, where colours are converted by one; ``damaged`` or ``not followed``.
        gamma: exponent with which a PNG says its light was encoded, where that is not sRGB's.
    """

    width: int
    height: int
    orientation: int
    has_alpha: bool
    kind: str = ""
    profile: str = ""
    gamma: float | None = None

    @property
    def turned(self) -> tuple[int, int]:
        """(width, height) once the EXIF orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_header(path: Path) -> ImageHeader:
    """Facts about an image without decoding it. Raises InputError when it is missing or no image."""
    kind, facts = _kind(path)
    if facts is not None:
        profile = _UNUSED if facts.profile else ""
        return ImageHeader(facts.width, facts.height, facts.orientation, facts.samples == 4, kind, profile)
    if kind == "linear":
        found = exr.header(path)
        return ImageHeader(found.width, found.height, 1, found.alpha, kind)
    if kind == "raw":
        return ImageHeader(*raw.header(path), False, kind)
    with open_image(path, believed=EMPTY_MASK) as image:
        has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        # Pillow decodes a whole PNG to look for EXIF behind its pixels, where nobody writes it.
        exif = {} if image.format == "PNG" and "exif" not in image.info else exif_of(image)
        orientation = exif.get(_ORIENTATION, 1)
        profile = colour.profile_of(image)
        named = "" if profile is None else "damaged" if profile.damaged else profile.name or "unnamed"
        orientation = orientation if orientation in range(1, 9) else 1
        return ImageHeader(*image.size, orientation, has_alpha, profile=named, gamma=colour.gamma_of(image))


def _kind(path: Path) -> tuple[str, float_tiff.FloatTiff | None]:
    """The kind of `ImageHeader`, and what is known of a TIFF of kind ``float``."""
    require_file(path)
    if suffix_of(path.name) in RAW:
        return "raw", None
    try:
        facts = float_tiff.float_tiff(path)
        with open(path, "rb") as file:
            head = file.read(4)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error
    return "float" if facts is not None else "linear" if head == exr.MAGIC else "", facts


def exif_of(image: Image.Image, part: int | None = None) -> dict[int, object]:
    """The EXIF entries of an open picture, or of the ``part`` of them with this tag; none where they are damaged."""
    try:
        entries = image.getexif()
        return dict(entries if part is None else entries.get_ifd(part))
    except Exception:  # Pillow checks none of their types, so that any kind may come
        return {}


def decode(path: Path, turn: bool, keep_alpha: bool, white: float | None = None) -> np.ndarray:
    """(H, W, 3 or 4) uint8 sRGB pixels of any picture; raises InputError when it is missing or broken.

    Args:
        turn: by the EXIF orientation.
        keep_alpha: deliver transparency as a fourth channel.
        white: value of white in floating-point files; None tells it from this one alone.
    """
    kind, _ = _kind(path)
    if kind:
        pixels, orientation = _numbers(path, BELIEVED)
        if kind == "raw":
            return _turned(pixels, orientation if turn else 1)
        alpha = pixels[..., 3:] if keep_alpha else pixels[..., :0]
        rgb = pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, 2)
        if kind == "linear":
            rgb = colour.encoded(rgb)
        else:
            white = white or float_tiff.white_of([float_tiff.brightest(rgb)]) or float_tiff.WHITES[-1]
            rgb, alpha = rgb / white, alpha / white
        return _turned(colour.to_bytes(np.concatenate([rgb, alpha], 2)), orientation if turn else 1)
    with open_image(path) as image:
        profile, gamma = colour.profile_of(image), colour.gamma_of(image)
        return np.asarray(colour.to_srgb(_upright(image, turn), profile, gamma, keep_alpha))


def values(path: Path, turn: bool) -> tuple[np.ndarray, np.ndarray | None, str]:
    """What a picture stores, for masks: (H, W, 1 or 3) colours, (H, W) alpha or None, and what is special.

    Colours are not converted: integers of 8 or 16 bits, or floating-point numbers. Special is ``lossy`` where equal
    pixels may differ a little, and ``labels`` where a palette of colours stands for a few kinds of things.
    """
    if _kind(path)[0]:
        pixels, orientation = _numbers(path, EMPTY_MASK)
        pixels = _turned(pixels, orientation if turn else 1)
        if pixels.shape[2] == 4:
            return pixels[..., :3], pixels[..., 3], ""
        return pixels, None, ""
    with open_image(path, believed=EMPTY_MASK) as image:
        lossy = "lossy" if image.format in ("JPEG", "WEBP", "HEIF", "AVIF", "JXL") else ""
        if _has_sixteen_bits(image):
            return _sixteen_bits(path, image)
        turned = _oriented(image, turn)
        if turned.mode.startswith("I;16") or turned.mode in ("I", "F"):
            return np.asarray(turned)[..., None], None, ""
        palette = turned.mode in ("P", "PA")
        if turned.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            pixels = np.asarray(turned.convert("RGBA"))
            return pixels[..., :3], pixels[..., 3], lossy
        if turned.mode in ("1", "L"):
            return np.asarray(turned.convert("L"))[..., None], None, lossy
        pixels = np.asarray(turned.convert("RGB"))
        return pixels, None, "labels" if palette and (pixels != pixels[..., :1]).any() else lossy


def _has_sixteen_bits(image: Image.Image) -> bool:
    """Whether Pillow drops the lower half of the numbers of an open picture in colour or with alpha."""
    if image.mode not in ("RGB", "RGBA", "LA"):
        return False
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (8,))) == 16 and image.tag_v2.get(_ORIENTATION, 1) == 1
    return image.format == "PNG" and bool(image.tile) and image.tile[0][3] in ("RGB;16B", "RGBA;16B", "LA;16B")


def _sixteen_bits(path: Path, image: Image.Image) -> tuple[np.ndarray, np.ndarray | None, str]:
    """As `values`. Raises ValueError, which the guard around it takes for damage."""
    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.shape[1::-1] != image.size:
        raise ValueError("its 16-bit numbers cannot be unpacked")
    return pixels[..., 2::-1], pixels[..., 3] if pixels.shape[2] == 4 else None, ""


def _numbers(path: Path, believed: int) -> tuple[np.ndarray, int]:
    """Pixels (H, W, C) as stored, of the kinds that Pillow does not read, and their EXIF orientation."""
    kind, facts = _kind(path)
    if facts is not None:
        return float_tiff.read(path, facts, believed), facts.orientation
    if kind == "linear":
        return exr.read(path, believed), 1
    return raw.read(path, believed), raw.header(path)[2]


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """``pixels`` (H, W, …) made upright; the transpositions are those of `_TURNS`."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _oriented(image: Image.Image, turn: bool) -> Image.Image:
    orientation = exif_of(image).get(_ORIENTATION, 1) if turn else 1
    return image.transpose(_TURNS[orientation]) if orientation in range(2, 9) else image


def _upright(image: Image.Image, turn: bool) -> Image.Image:
    """``image`` with 8 bits, turned by its EXIF orientation if asked."""
    info = image.info
    image = _oriented(image, turn)
    if image.mode.startswith("I;16") or image.mode == "I":  # Pillow would clip 16 bit at 255
        numbers = np.asarray(image)
        numbers = numbers.astype(np.uint32) if image.mode != "I" else numbers.view(np.uint32)
        image = Image.fromarray((numbers >> (24 if numbers.size and numbers.max() > 0xFFFF else 8)).astype(np.uint8))
        image.info = {name: value for name, value in info.items() if name != "transparency"}
    elif image.mode == "F":
        numbers = np.asarray(image)
        white = float_tiff.white_of([float_tiff.brightest(numbers[..., None])]) or float_tiff.WHITES[-1]
        image = Image.fromarray(colour.to_bytes(numbers / white))
    return image


def white_of_scene(paths: Sequence[Path]) -> float:
    """The value of white in floating-point photos: one for all of them. Raises InputError for values beyond 16 bits."""
    most = [float_tiff.brightest(_numbers(path, BELIEVED)[0]) for path in paths]
    white = float_tiff.white_of(most)
    if white is None:
        worst = max(range(len(most)), key=most.__getitem__)
        raise InputError(
            f"{paths[worst]} holds floating-point values up to {most[worst]:g}, expected 0 to 1, to 255 or to 65535; "
            "scale all photos alike"
        )
    return white


def notes_of(headers: Sequence[ImageHeader], white: float | None) -> list[str]:
    """What the user should know about how the colours of the photos with ``headers`` are read."""
    notes = []
    kinds = Counter(header.kind for header in headers)
    if kinds["float"]:
        notes.append(
            f"{_photos(kinds['float'])} of floating-point numbers: 0 is taken as black and {white:g} as white, by the "
            "range of their values"
        )
    if kinds["linear"]:
        notes.append(f"{_photos(kinds['linear'])} of linear light (OpenEXR): encoded as sRGB, and cut above 1")
    if kinds["raw"]:
        notes.append(
            f"{_photos(kinds['raw'])} of raw sensor data: developed with the camera's white balance and no brightening"
        )
    for name, count in Counter(header.profile for header in headers if header.profile).items():
        if name == _UNUSED:
            notes.append(
                f"{_photos(count)} of floating-point numbers with a colour profile, which is not followed: export them "
                "with 16-bit integers"
            )
        elif name == "damaged":
            notes.append(f"{_photos(count)} with a damaged colour profile: their colours are used as they are")
        else:
            notes.append(f"{_photos(count)} with the colour profile {name}: converted to sRGB")
    for gamma, count in Counter(header.gamma for header in headers if header.gamma).items():
        kind = "of linear light" if abs(gamma - 1) < 0.01 else f"encoded with the gamma {gamma:g}"
        notes.append(f"{_photos(count)} {kind}, by their headers: encoded as sRGB")
    return notes


def _photos(count: int) -> str:
    return "1 photo is" if count == 1 else f"{count} photos are"
