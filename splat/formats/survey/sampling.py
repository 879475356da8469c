"""Points as they come out of a file, piece by piece, thinned to what memory has room for."""

from dataclasses import dataclass, field

import numpy as np

MOST = 4_000_000  # points that are kept of one file: more than any run begins with, 100 MB
CHUNK = 1 << 17  # points that are read at once


@dataclass(frozen=True)
class _Piece:
    seen: int
    left_out: int
    xyz: np.ndarray
    colours: np.ndarray | None
    grey: np.ndarray | None


@dataclass
class Collector:
    """Keeps at most ``most`` of ``total`` points, drawn at random but evenly over the file, those with NaN left out."""

    total: int
    most: int = MOST
    seed: int = 0
    _pieces: dict[int, _Piece] = field(default_factory=dict)
    _next: int = 0

    def add(
        self,
        xyz: np.ndarray,
        colours: np.ndarray | None = None,
        grey: np.ndarray | None = None,
        first: int | None = None,
    ) -> None:
        """Points (M, 3), with colours (M, 3) or intensities (M,) as stored.

        Args:
            first: the number of the first of them in the file; None follows on those before. Threads give it.
        """
        if first is None:
            first, self._next = self._next, self._next + len(xyz)
        good = np.isfinite(xyz).all(1)
        rows = self._rows(first, len(xyz))
        rows = rows[good[rows]]
        self._pieces[first] = _Piece(
            len(xyz),
            int((~good).sum()),
            np.asarray(xyz[rows], np.float64),
            None if colours is None else np.asarray(colours[rows], np.float32),
            None if grey is None else np.asarray(grey[rows], np.float32),
        )

    def _rows(self, first: int, count: int) -> np.ndarray:
        """Which of the points ``first`` to ``first + count`` are kept, ascending."""
        if self.total <= self.most:
            return np.arange(count)
        wanted = self.most * (first + count) // self.total - self.most * first // self.total
        rng = np.random.default_rng((self.seed, first))
        return np.sort(rng.choice(count, min(count, wanted), replace=False))

    @property
    def seen(self) -> int:
        """Number of points that came."""
        return sum(piece.seen for piece in self._pieces.values())

    def arrays(self) -> dict[str, np.ndarray]:
        """What was kept: "xyz" (N, 3) float64, and "colours" (N, 3) or "grey" (N,) float32 where all points have such.

        "counts" are how many points came, and how many of them had no finite coordinates.
        """
        pieces = [self._pieces[first] for first in sorted(self._pieces)]
        kept = {"counts": np.array([self.seen, sum(piece.left_out for piece in pieces)])}
        kept["xyz"] = np.concatenate([np.zeros((0, 3)), *(piece.xyz for piece in pieces)])
        for name in ("colours", "grey"):
            parts = [getattr(piece, name) for piece in pieces]
            if parts and all(part is not None for part in parts):
                kept[name] = np.concatenate(parts)
        return kept
