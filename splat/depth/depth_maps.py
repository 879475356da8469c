"""Depth maps of views, from stereo, networks or renderings; and a store for hundreds of them on disk."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splat.camera import Camera


@dataclass(frozen=True)
class DepthMap:
    """What is known about the depth of one view.

    Attributes:
        camera: of the view, at the size of the map.
        depth: (H, W) float32 z-depth, world units; 0 where unknown, infinite where known to be empty.
        confidence: (H, W) float32 ≥ 0, weight of each pixel; stereo between photos and networks give 0 to 1.
        rgb: (H, W, 3) uint8 colours; None where the photo has them.
        agreed: (H, W) bool, where another view found the same surface; None where that was not asked.
    """

    camera: Camera
    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]
    rgb: NDArray[np.uint8] | None = None
    agreed: NDArray[np.bool_] | None = None

    @property
    def known(self) -> NDArray[np.bool_]:
        """(H, W) bool, where there is a surface."""
        return (self.depth > 0) & np.isfinite(self.depth)


class DepthMapStore:
    """Depth maps with colours in a temporary file, mapped into memory: hundreds of views fit any memory."""

    def __init__(self, cameras: Sequence[Camera]) -> None:
        self.cameras = tuple(cameras)
        pixels = [camera.width * camera.height for camera in self.cameras]
        self._starts = np.concatenate([[0], np.cumsum(pixels)]).astype(np.int64)
        self._file = tempfile.TemporaryFile(prefix="splat-depth-")
        self._bytes = np.memmap(self._file, np.uint8, "w+", shape=(max(int(self._starts[-1]), 1) * 11,))

    def __len__(self) -> int:
        return len(self.cameras)

    def __getitem__(self, index: int) -> DepthMap:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return DepthMap(self.cameras[index], *self._arrays(index))

    def put(self, index: int, depth: NDArray, confidence: NDArray, rgb: NDArray[np.uint8]) -> None:
        """Store view ``index``: depth and confidence (H, W), colours (H, W, 3)."""
        for stored, values in zip(self._arrays(index), (depth, confidence, rgb), strict=True):
            stored[:] = values

    def _arrays(self, index: int) -> tuple[NDArray, NDArray, NDArray]:
        """Views of the file: depth (float32), confidence (float32), colours."""
        camera = self.cameras[index]
        shape, count = (camera.height, camera.width), camera.width * camera.height
        raw = self._bytes[11 * self._starts[index] : 11 * self._starts[index + 1]]
        depth = raw[: 4 * count].view(np.float32).reshape(shape)
        confidence = raw[4 * count : 8 * count].view(np.float32).reshape(shape)
        return depth, confidence, raw[8 * count :].reshape(*shape, 3)
