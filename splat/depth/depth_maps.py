"""Depth maps: what is fused into a surface. They lie in a temporary file, so that hundreds of views fit any memory."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splat.camera import Camera


@dataclass(frozen=True)
class DepthMap:
    """One view.

    Attributes:
        camera: through which it is seen.
        depth: (H, W) float32 z-depth, world units; 0 where unknown, infinite where known to be empty.
        weight: (H, W) float32, how much each pixel counts in fusion.
        rgb: (H, W, 3) uint8 colours.
    """

    camera: Camera
    depth: NDArray[np.float32]
    weight: NDArray[np.float32]
    rgb: NDArray[np.uint8]

    @property
    def known(self) -> NDArray[np.bool_]:
        """(H, W) where there is a surface."""
        return (self.depth > 0) & np.isfinite(self.depth)


class MapStore:
    """Depth maps in a file without a name, mapped into memory; the system keeps what fits."""

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
        return DepthMap(self.cameras[index], *self._parts(index))

    def put(self, index: int, depth: NDArray, weight: NDArray, rgb: NDArray[np.uint8]) -> None:
        """Store view ``index``: depth and weight (H, W), colours (H, W, 3)."""
        for place, values in zip(self._parts(index), (depth, weight, rgb), strict=True):
            place[:] = values

    def _parts(self, index: int) -> tuple[NDArray, NDArray, NDArray]:
        """Views of the file: depth (float32), weight (float32), colours."""
        camera = self.cameras[index]
        shape, count = (camera.height, camera.width), camera.width * camera.height
        raw = self._bytes[11 * self._starts[index] : 11 * self._starts[index + 1]]
        depth = raw[: 4 * count].view(np.float32).reshape(shape)
        weight = raw[4 * count : 8 * count].view(np.float32).reshape(shape)
        return depth, weight, raw[8 * count :].reshape(*shape, 3)
