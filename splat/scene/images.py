"""From an image file to the pixels training sees: decode, orient, undistort, resize, mask."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from splat.errors import InputError
from splat.images import open_image
from splat.scene.faces import Face
from splat.scene.undistort import Lens

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
_EMPTY_MASK = 1 << 27  # pixels: masks of one colour are ordinary, and take a byte a pixel
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
_KEEP = 128  # a mask or alpha value from here on keeps its pixel


@dataclass(frozen=True, eq=False)
class Photo:
    """Decoded pixels of one view.

    Attributes:
        rgb: (H, W, 3) uint8, sRGB, straight (not premultiplied by alpha).
        mask: (H, W) bool, False where a pixel must not enter any loss or statistic; None when all count.
        alpha: (H, W) uint8, only for scenes whose transparency means "background visible here" (Blender's synthetic
            sets): composite rgb·alpha + background·(1 − alpha) before comparing. None for all others.
    """

    rgb: Tensor
    mask: Tensor | None = None
    alpha: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> "Photo":
        """The photo made of ``function`` of each of its tensors."""
        return Photo(*(None if each is None else function(each) for each in (self.rgb, self.mask, self.alpha)))

    @property
    def nbytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self.rgb, self.mask, self.alpha) if t is not None)


@dataclass(frozen=True)
class ImageHeader:
    """Size (pixels, as stored), EXIF orientation (1 = upright) and whether there is an alpha channel."""

    width: int
    height: int
    orientation: int
    has_alpha: bool

    @property
    def turned(self) -> tuple[int, int]:
        """(width, height) once the EXIF orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_header(path: Path) -> ImageHeader:
    """Facts about an image without decoding it. Raises InputError when it is missing or no image."""
    with open_image(path, believed=_EMPTY_MASK) as image:
        has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        # Pillow decodes a whole PNG to look for EXIF behind its pixels, where nobody writes it.
        exif = {} if image.format == "PNG" and "exif" not in image.info else exif_of(image)
        orientation = exif.get(_ORIENTATION, 1)
        return ImageHeader(*image.size, orientation if orientation in range(1, 9) else 1, has_alpha)


def exif_of(image: Image.Image, part: int | None = None) -> dict[int, object]:
    """The EXIF entries of an open picture, or of the ``part`` of them with this tag; none where they are damaged."""
    try:
        entries = image.getexif()
        return dict(entries if part is None else entries.get_ifd(part))
    except Exception:  # Pillow checks none of their types, so that any kind may come
        return {}


@dataclass(frozen=True)
class ImageSource:
    """How the pixels of one view come to be.

    Attributes:
        path: image file.
        turn: apply the EXIF orientation.
        lens: distortion to remove; None where the image is a pinhole image already.
        width, height: size to deliver, pixels.
        mask_path: image whose dark pixels are excluded, or None.
        alpha: ``mask`` (transparent pixels are excluded), ``composite`` (delivered as `Photo.alpha`) or ``none``.
        face: the part of a wide photo to deliver; None for all of it.
    """

    path: Path
    turn: bool
    lens: Lens | None
    width: int
    height: int
    mask_path: Path | None = None
    alpha: str = "none"
    face: Face | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """What the pixels are read from."""
        return (self.path,) if self.mask_path is None else (self.path, self.mask_path)

    @property
    def has_mask(self) -> bool:
        return self.mask_path is not None or self.alpha == "mask" or (self.face is not None and not self.face.whole)

    @property
    def has_alpha(self) -> bool:
        return self.alpha == "composite"

    def load(self) -> Photo:
        """Decode, undistort, resize. Raises InputError for a broken image, or a mask of another size."""
        pixels = decode(self.path, self.turn, keep_alpha=self.alpha != "none")
        rgb, alpha = np.ascontiguousarray(pixels[..., :3]), pixels[..., 3] if pixels.shape[2] == 4 else None
        keep = decode_mask(self.mask_path, rgb.shape[:2], self.turn, self.path) if self.mask_path else None
        if self.alpha == "mask" and alpha is not None:
            keep = alpha >= _KEEP if keep is None else keep & (alpha >= _KEEP)
            alpha = None
        if self.lens is not None:
            rgb = self.lens.undistort(rgb)
            alpha = None if alpha is None else self.lens.undistort(np.ascontiguousarray(alpha))
            keep = None if keep is None else self.lens.undistort(keep.astype(np.uint8), nearest=True) > 0
        if self.face is not None:
            rgb, alpha, keep = _gathered(self.face, rgb, alpha, keep)
        rgb, alpha, keep = self._resize(rgb, alpha, keep)
        if keep is not None and self.lens is None and rgb.shape[:2] != keep.shape:
            raise InputError(f"mask and image of {self.path} disagree in size after loading")
        return Photo(
            torch.from_numpy(np.require(rgb, requirements=("C", "W"))),  # PyTorch warns of read-only memory
            None if keep is None else torch.from_numpy(np.ascontiguousarray(keep)),
            None if alpha is None else torch.from_numpy(np.ascontiguousarray(alpha)),
        )

    @property
    def whole(self) -> "ImageSource":
        """The source of the photo that this face is a part of, in its own projection."""
        width, height = self.face.picture
        return replace(self, face=None, width=width, height=height)

    def _resize(self, rgb: np.ndarray, alpha: np.ndarray | None, keep: np.ndarray | None):
        """All three at the size to deliver."""
        size = (self.width, self.height)
        return (rgb, alpha, keep) if (rgb.shape[1], rgb.shape[0]) == size else _shrink(rgb, alpha, keep, size)


def _gathered(face: Face, rgb: np.ndarray, alpha: np.ndarray | None, keep: np.ndarray | None):
    """All three as ``face`` shows them; what the photo does not show is not kept."""
    keep = None if keep is None else face.gather(keep.astype(np.uint8), nearest=True) > 0
    if not face.whole:
        keep = face.seen() if keep is None else keep & face.seen()
    return face.gather(rgb), None if alpha is None else face.gather(np.ascontiguousarray(alpha)), keep


def shrunk(photo: Photo, width: int, height: int) -> Photo:
    """``photo`` at a smaller size, each pixel the mean of those it stands for; on the device of ``photo``."""
    arrays = (None if each is None else each.cpu().numpy() for each in (photo.rgb, photo.alpha, photo.mask))
    rgb, alpha, keep = (None if each is None else torch.from_numpy(each) for each in _shrink(*arrays, (width, height)))
    return Photo(rgb, keep, alpha).map(lambda tensor: tensor.to(photo.rgb.device))


def _shrink(rgb: np.ndarray, alpha: np.ndarray | None, keep: np.ndarray | None, size: tuple[int, int]):
    """Shrink by averaging areas; a pixel stays in the mask only if all it averages was kept."""
    if alpha is None:
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    else:  # average premultiplied colours, else the invisible colour behind transparent pixels bleeds in
        weight = alpha.astype(np.float32) / 255
        mean = cv2.resize(rgb * weight[..., None], size, interpolation=cv2.INTER_AREA)
        weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
        rgb = np.clip(mean / np.maximum(weight, 1e-6)[..., None] + 0.5, 0, 255).astype(np.uint8)
        alpha = (weight * 255 + 0.5).astype(np.uint8)
    if keep is not None:
        keep = cv2.resize(keep.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.999
    return rgb, alpha, keep


def decode(path: Path, turn: bool, keep_alpha: bool) -> np.ndarray:
    """(H, W, 3 or 4) uint8 pixels of any image Pillow reads; raises InputError when it is missing or broken."""
    with open_image(path) as image:
        image = _upright(image, turn)
        transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        return np.asarray(image.convert("RGBA" if transparent and keep_alpha else "RGB"))


def _upright(image: Image.Image, turn: bool) -> Image.Image:
    """``image`` with 8 bits, turned by its EXIF orientation if asked."""
    orientation = exif_of(image).get(_ORIENTATION, 1) if turn else 1
    if orientation in range(2, 9):
        image = image.transpose(_TURNS[orientation])
    if image.mode.startswith("I;16") or image.mode == "I":  # Pillow would clip 16 bit at 255
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    return image


def decode_mask(path: Path, shape: tuple[int, int], turn: bool, image: Path) -> np.ndarray:
    """(H, W) bool, True = keep: bright pixels of the mask file. Raises InputError unless it has ``shape``."""
    pixels = _brightest(path, turn=False)
    if turn and pixels.shape != shape:
        pixels = _brightest(path, turn=True)
    if pixels.shape != shape:
        raise InputError(
            f"the mask {path} is {pixels.shape[1]}×{pixels.shape[0]} pixels but its image {image} is "
            f"{shape[1]}×{shape[0]}; make them the same size or remove the mask"
        )
    return pixels >= _KEEP


def _brightest(path: Path, turn: bool) -> np.ndarray:
    """(H, W) uint8, the largest channel of each pixel."""
    with open_image(path, believed=_EMPTY_MASK) as mask:
        mask = _upright(mask, turn)
        if mask.mode in ("1", "L"):
            return np.asarray(mask.convert("L"))
        return np.asarray(mask.convert("RGB")).max(axis=2)
