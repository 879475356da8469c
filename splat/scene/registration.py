"""What structure from motion found out about photos, and what is known of those that it has not seen yet."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from splat.errors import InputError
from splat.scene.images import read_header
from splat.text import printable


@dataclass(frozen=True)
class Registration:
    """How structure from motion did.

    Attributes:
        folder: where its result is kept.
        photos, registered: how many there were, and how many have a pose.
        points: sparse points.
        error: mean reprojection error, pixels.
        angles: field of view along the longer side per camera, degrees.
        left_out: photos that could not be placed.
    """

    folder: Path
    photos: int
    registered: int
    points: int
    error: float
    angles: tuple[float, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unregistered:
    """Photos, or a video, before structure from motion.

    Attributes:
        kind: ``photos`` or ``video``.
        path: the folder or file that was given.
        photos: those that structure from motion would use; of a video the frames that would be taken.
        sizes: (width, height) upright → number of photos.
        masked: photos with a mask.
        notes: what is left out, and why.
    """

    kind: str
    path: Path
    photos: int
    sizes: dict[tuple[int, int], int]
    masked: int = 0
    notes: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """What finds the cameras."""
        return shlex.join(["splat", "train", str(self.path), "--sfm-only"])


class CamerasUnknown(InputError):
    """The cameras of photos are not known, and structure from motion was not to be started (`load_scene`'s
    ``register``).

    Attributes:
        facts: what is known without them.
    """

    def __init__(self, facts: Unregistered) -> None:
        super().__init__(printable(f"{facts.path}: its cameras are not known yet; find them with: {facts.command}"))
        self.facts = facts

    def noted(self, notes: Sequence[str]) -> "CamerasUnknown":
        """The same with ``notes`` before its own."""
        return CamerasUnknown(replace(self.facts, notes=(*notes, *self.facts.notes)))


def photo_sizes(folder: Path, names: Sequence[str]) -> dict[tuple[int, int], int]:
    """How many photos there are of each upright size, the most frequent first. Raises InputError."""
    return dict(Counter(read_header(folder / name).turned for name in names).most_common())
