"""The numbers of a cloud that `.splatz` codes: Gaussians in float64, their ordered axes, cells and visibility."""

from dataclasses import dataclass, replace

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import alphas, unit_quats

MIN_LOG_SCALE = -20.0
OCTAVE = float(np.log(2.0))  # coarsest step of log scales
CELLS = 16  # of opacity, at the coarsest
DETAIL = (-4, 3)  # range of the binary digits that single Gaussians have more than visibility asks for


@dataclass(frozen=True)
class Rows:
    """Arrays of N Gaussians.

    Attributes:
        means: (N, 3) float64. log_scales: (N, 3) float64, at least ``MIN_LOG_SCALE``. quats: (N, 4) float64 unit.
        alphas: (N,) float64 opacities. sh: (N, K, 3) float64.
        detail: (N,) int64 binary digits of shape and position beyond what visibility asks for, within ``DETAIL``.
    """

    means: np.ndarray
    log_scales: np.ndarray
    quats: np.ndarray
    alphas: np.ndarray
    sh: np.ndarray
    detail: np.ndarray

    @staticmethod
    def of(table: GaussianArrays, detail: np.ndarray | None = None) -> "Rows":
        """The rows of ``table``; without ``detail`` (N,) it is 0."""
        return Rows(
            table.means.astype(np.float64),
            np.maximum(table.log_scales, MIN_LOG_SCALE).astype(np.float64),
            unit_quats(table).astype(np.float64),
            alphas(table).astype(np.float64),
            table.sh.astype(np.float64),
            np.zeros(len(table), np.int64) if detail is None else np.clip(detail, *DETAIL).astype(np.int64),
        )

    def __len__(self) -> int:
        return len(self.means)

    def take(self, index: np.ndarray) -> "Rows":
        """The rows at ``index``."""
        return Rows(*(values[index] for values in vars(self).values()))

    def ordered(self) -> "Rows":
        """The same Gaussians with `ordered_axes`."""
        log_scales, quats = ordered_axes(self.log_scales, self.quats)
        return replace(self, log_scales=log_scales, quats=quats)

    def cells(self) -> tuple[np.ndarray, np.ndarray]:
        """Cells of sizes (N, 3) and of opacities (N,), int64."""
        octaves = (np.maximum(self.log_scales, MIN_LOG_SCALE) - MIN_LOG_SCALE) / OCTAVE
        opacity = np.minimum(np.floor(self.alphas * CELLS), CELLS - 1).astype(np.int64)
        return np.floor(octaves).astype(np.int64), opacity

    def visibility(self) -> np.ndarray:
        """(N,) opacity times the largest face, in powers of two; of rows with `ordered` axes."""
        return visibility_of_cells(*self.cells())


def visibility_of_cells(scale: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """(N,) opacity times the largest face of a Gaussian, in powers of two, from cells (N, 3) from long to short."""
    return scale[:, 0] + scale[:, 1] + np.frexp((2 * opacity + 1).astype(np.float64))[1].astype(np.int64)


def ordered_axes(log_scales: np.ndarray, quats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same ellipsoids with axes from long to short, and of the four rotations that give them the smallest.

    Args: log_scales (N, 3); quats (N, 4) unit, w x y z. The results have the same shapes, with w ≥ |x|, |y|, |z|.
    """
    order = np.argsort(-log_scales, axis=1, kind="stable")
    sign = np.linalg.det(np.eye(3)[order])  # an odd exchange of axes needs one axis reversed
    w, x, y, z = quats.astype(np.float64).T
    matrix = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]).transpose(2, 0, 1)  # fmt: skip
    matrix = np.take_along_axis(matrix, order[:, None, :], 2)
    matrix[:, :, 2] *= sign[:, None]
    a, b, c = matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 2, 2]
    squares = np.stack([1 + a + b + c, 1 + a - b - c, 1 - a + b - c, 1 - a - b + c], 1)  # 4 w², 4 x², …
    # Half turns about own axes change nothing: they reverse two columns. The right one makes w the largest part.
    turn = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])[squares.argmax(1)]
    matrix *= turn[:, None, :]
    w = 0.5 * np.sqrt(np.maximum(1 + np.trace(matrix, axis1=1, axis2=2), 1e-12))
    parts = [matrix[:, 2, 1] - matrix[:, 1, 2], matrix[:, 0, 2] - matrix[:, 2, 0], matrix[:, 1, 0] - matrix[:, 0, 1]]
    return np.take_along_axis(log_scales, order, 1), np.stack([w, *(part / (4 * w) for part in parts)], 1)
