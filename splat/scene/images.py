"""From an image file to the pixels training sees: decode, orient, undistort, resize, mask."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from splat.errors import InputError
from splat.scene.faces import Face
from splat.scene.pictures import kinds
from splat.scene.pictures.decode import ImageHeader, decode, exif_of, read_header
from splat.scene.pictures.mask_values import bright_pixels, decode_mask
from splat.scene.undistort import Lens

__all__ = [
    "IMAGE_SUFFIXES", "ImageHeader", "ImageSource", "Photo", "decode", "decode_mask", "exif_of", "read_header",
    "shrunk",
]  # fmt: skip


IMAGE_SUFFIXES = kinds.ALL
_KEEP = 128  # an alpha value from here on keeps its pixel


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
    def hidden(self) -> bool:
        """Whether its mask leaves no pixel to compare."""
        return self.mask is not None and not bool(self.mask.any())

    @property
    def nbytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self.rgb, self.mask, self.alpha) if t is not None)


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
        ignore: of the mask, the bright pixels are excluded instead.
        white: value of white in a file of floating-point numbers; None tells it from the file alone.
        face: the part of a wide photo to deliver; None for all of it.
    """

    path: Path
    turn: bool
    lens: Lens | None
    width: int
    height: int
    mask_path: Path | None = None
    alpha: str = "none"
    ignore: bool = False
    white: float | None = None
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

    def keeps_a_pixel(self) -> bool:
        """Whether mask and transparency leave anything of the photo. Raises InputError for a broken file."""
        if self.alpha != "mask" and self.mask_path is not None:
            bright = bright_pixels(self.mask_path, turn=False)
            return bool((~bright if self.ignore else bright).any())
        mask = self.load().mask
        return mask is None or bool(mask.any())

    def load(self) -> Photo:
        """Decode, undistort, resize. Raises InputError for a broken image, or a mask of another size."""
        pixels = decode(self.path, self.turn, keep_alpha=self.alpha != "none", white=self.white)
        rgb, alpha = np.ascontiguousarray(pixels[..., :3]), pixels[..., 3] if pixels.shape[2] == 4 else None
        keep = None
        if self.mask_path is not None:
            keep = decode_mask(self.mask_path, rgb.shape[:2], self.turn, self.path, self.ignore)
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


@dataclass(frozen=True)
class DepthSource:
    """A depth map: its file, world units per value, and whether it counts along the ray instead of the optical axis."""

    path: Path
    unit: float
    along_ray: bool = False


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
