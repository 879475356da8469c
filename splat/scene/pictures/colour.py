"""Colours as sRGB: profiles (ICC), gammas of PNG files, and linear light."""

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_SAME = 2  # of 255: a profile that moves no colour farther is sRGB in all but name
_SRGB_GAMMA = 1 / 2.2


@dataclass(frozen=True, eq=False)
class Profile:
    """What an embedded colour profile asks for.

    Attributes:
        name: as the profile calls itself.
        transform: to sRGB; None where the colours are sRGB already, or the profile is damaged.
        damaged: it cannot be understood, so that colours are taken as they are.
    """

    name: str
    transform: ImageCms.ImageCmsTransform | None = None
    damaged: bool = False


def profile_of(image: Image.Image) -> Profile | None:
    """The colour profile of an open picture; None if it has none that matters."""
    data = image.info.get("icc_profile")
    if not data:
        return None
    profile = _profile(bytes(data), _colour_mode(image.mode))
    return profile if profile.transform is not None or profile.damaged else None


def _colour_mode(mode: str) -> str:
    """The mode in which the colours of a picture go through its profile."""
    if mode in ("CMYK", "LAB"):
        return mode
    return "L" if mode in ("1", "L", "LA", "I", "F") or mode.startswith("I;16") else "RGB"


@lru_cache(maxsize=64)
def _profile(data: bytes, mode: str) -> Profile:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(data))
        name = ImageCms.getProfileDescription(source).strip()
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return Profile("", damaged=True)
    if mode in ("L", "RGB"):
        levels = np.arange(256, dtype=np.uint8) if mode == "L" else np.arange(0, 256, 15, dtype=np.uint8)
        grid = levels[None] if mode == "L" else np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
        before = Image.fromarray(grid)
        after = np.asarray(ImageCms.applyTransform(before, transform), np.int16)
        if np.abs(after - np.asarray(before.convert("RGB"), np.int16)).max() <= _SAME:
            return Profile(name)
    return Profile(name, transform)


def gamma_of(image: Image.Image) -> float | None:
    """The exponent with which a PNG says its light was encoded, where that is not sRGB's; 1 is linear."""
    gamma = image.info.get("gamma")
    if not gamma or "srgb" in image.info or "icc_profile" in image.info:
        return None
    return None if abs(gamma / _SRGB_GAMMA - 1) < 0.05 or not 0.05 < gamma < 5 else float(gamma)


def to_srgb(image: Image.Image, profile: Profile | None, gamma: float | None, keep_alpha: bool) -> Image.Image:
    """``image`` as RGB, or as RGBA where it is transparent and ``keep_alpha``, in sRGB."""
    transparent = keep_alpha and (image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info)
    if profile is not None and profile.transform is not None:
        mode = _colour_mode(image.mode)
        colours = image if image.mode == mode else image.convert("RGBA").convert(mode)
        result = ImageCms.applyTransform(colours, profile.transform)
    elif image.mode == "LAB":
        result = ImageCms.profileToProfile(
            image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    elif gamma is not None:
        light = (np.arange(256) / 255) ** (1 / gamma)
        result = image.convert("RGB").point([int(level) for level in to_bytes(encoded(light))] * 3)
    else:
        return image.convert("RGBA" if transparent else "RGB")
    if transparent:
        result.putalpha(image.convert("RGBA").getchannel("A"))
    return result


def encoded(light: np.ndarray) -> np.ndarray:
    """Linear light, 1 = white, with the transfer function of sRGB (IEC 61966-2-1); what is outside [0, 1] is cut."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """``values`` in [0, 1] as uint8; what is outside is cut, NaN is black."""
    return (np.nan_to_num(np.clip(values, 0, 1)) * 255 + 0.5).astype(np.uint8)


# Linear sRGB of CIE XYZ under D65 (IEC 61966-2-1).
_FROM_XYZ = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D65 = (0.3127, 0.3290)


def from_primaries(chromaticities: np.ndarray) -> np.ndarray:
    """(3, 3) from linear RGB with these primaries to linear sRGB; x, y of red, green, blue and white (8,).

    The white point is adapted to D65 with Bradford's cone responses. Raises ValueError for primaries on one line.
    """
    xyz = [np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in np.asarray(chromaticities, np.float64).reshape(4, 2)]
    primaries, white = np.stack(xyz[:3], 1), xyz[3]
    x, y = _D65
    try:
        to_xyz = primaries * np.linalg.solve(primaries, white)
    except np.linalg.LinAlgError as error:
        raise ValueError("its primaries lie on one line") from error
    gains = (_BRADFORD @ [x / y, 1.0, (1 - x - y) / y]) / (_BRADFORD @ white)
    matrix = _FROM_XYZ @ np.linalg.inv(_BRADFORD) @ (gains[:, None] * (_BRADFORD @ to_xyz))
    if not np.isfinite(matrix).all():
        raise ValueError("its primaries are no colours")
    return matrix
