"""Where things lie in the world: float32 numbers about an origin that is kept in double precision.

Scenes and clouds in map coordinates (UTM, ECEF) lie millions of metres from zero, where float32 steps by up to half a
metre. They are held relative to an origin near them: world = local + origin.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What lies farther from zero than so many times its own reach gets an origin: float32 errs by 1e-5 of the reach there.
FAR = 128.0
MAP = 1e4  # world units; clouds nearer than this to zero keep the numbers of their file
FARTHEST = 1e15  # world units; squares of what is farther do not fit float32 with room for sums
_ENOUGH = 100_000  # rows that tell where a cloud lies


@dataclass(frozen=True)
class Georeference:
    """Attributes:
    origin: (x, y, z) in the world of the point whose local coordinates are 0, float64.
    epsg: code of the coordinate reference system, None where it is not known.
    """

    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    epsg: int | None = None

    def __post_init__(self) -> None:
        if len(self.origin) != 3 or not all(math.isfinite(value) for value in self.origin):
            raise ValueError(f"origin is {self.origin}, expected three finite numbers")

    @property
    def placed(self) -> bool:
        """Whether local and world coordinates differ."""
        return any(self.origin)

    def as_json(self) -> dict[str, Any]:
        """As it stands in the JSON of files."""
        return {"origin": list(self.origin)} | ({} if self.epsg is None else {"epsg": self.epsg})

    @staticmethod
    def of_json(value: Any) -> "Georeference":
        """What `as_json` made. Raises ValueError for anything else."""
        origin, epsg = (value.get("origin"), value.get("epsg")) if isinstance(value, dict) else (None, None)
        numbers = origin if isinstance(origin, list) and len(origin) == 3 else [None]
        if not all(type(number) in (int, float) and abs(number) <= FARTHEST for number in numbers):
            raise ValueError("'origin' is no list of three numbers")
        if epsg is not None and (type(epsg) is not int or not 0 < epsg < 1 << 31):
            raise ValueError("'epsg' is no code")
        x, y, z = map(float, numbers)
        return Georeference((x, y, z), epsg)

    def __str__(self) -> str:
        place = "(" + ", ".join(f"{value:.15g}" for value in self.origin) + ")"
        return place if self.epsg is None else f"{place} in EPSG:{self.epsg}"


AT_ZERO = Georeference()


def origin_of(middle: Sequence[float], reach: float) -> tuple[float, float, float]:
    """A round origin for what lies within ``reach`` of ``middle``; zero where float32 needs none."""
    if not (0 < reach < math.inf) or not max(map(abs, middle)) > FAR * reach:
        return 0.0, 0.0, 0.0
    digits = -math.floor(math.log10(FAR / 2 * reach))  # coarse, so that a scene and its cloud find the same
    x, y, z = (round(float(value), digits) + 0.0 for value in middle)
    return x, y, z


def origin_of_points(xyz: NDArray[np.floating]) -> tuple[float, float, float]:
    """`origin_of` for the bulk of the finite rows of ``xyz`` (N, 3), if they are coordinates of a map."""
    with np.errstate(invalid="ignore"):  # NaN of damaged files
        rows = np.asarray(xyz[:: max(1, len(xyz) // _ENOUGH)], np.float64)
    rows = rows[np.isfinite(rows).all(1)]
    if not len(rows):
        return 0.0, 0.0, 0.0
    middle = np.median(rows, axis=0)
    if np.abs(middle).max() < MAP:
        return 0.0, 0.0, 0.0
    reach = float(np.quantile(np.linalg.norm(rows - middle, axis=1), 0.9))
    return origin_of(middle.tolist(), reach)


def rounding_error(xyz: NDArray[np.floating]) -> float:
    """The largest error, world units, of float32 numbers as large as the finite ones in ``xyz`` (N, 3)."""
    size = np.abs(xyz[np.isfinite(xyz)])
    return float(np.spacing(np.float32(size.max()))) / 2 if size.size else 0.0
