"""`Scene`: the views (photo + camera) and sparse points that training starts from, and facts about their layout."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.coordinates import AT_ZERO, Georeference, origin_of
from splat.scene.camera_layout import camera_centres, meeting_point, up_direction, world_to_camera_matrices
from splat.scene.faces import Face
from splat.scene.images import DepthSource, ImageSource, Photo
from splat.scene.registration import Registration


@dataclass(frozen=True, eq=False)
class View:
    """One photo and the pinhole camera it is seen through once loaded (distortion removed, resized).

    Attributes:
        name: path of the photo relative to its image folder, with forward slashes; unique in a scene.
        camera: at the loaded resolution, in the frame of the input cameras.
        source: where the pixels come from and what is done to them; `load` does it.
        held_out: kept from training, used for evaluation.
        keypoint_ids: (K,) int64 rows of ``scene.points`` seen in this view.
        keypoint_xy: (K, 2) float32 where they were measured, pixels of ``camera`` (pixel centres at +0.5).
        depth: measured depth of the photo, if there is some.
        group: which physical camera took it (the input's camera id); views of one group share intrinsics.
        photo: name of the photo, where this is one of the pinhole pictures cut out of it; otherwise empty.
        face: which of them; None for a whole photo.
    """

    name: str
    camera: Camera
    source: ImageSource
    held_out: bool = False
    keypoint_ids: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    keypoint_xy: Tensor = field(default_factory=lambda: torch.zeros((0, 2)))
    group: int = 0
    depth: DepthSource | None = None
    photo: str = ""
    face: Face | None = None

    @property
    def photo_name(self) -> str:
        """Name of the photo that this view shows, or shows a part of."""
        return self.photo or self.name

    def load(self) -> Photo:
        """Decode, undistort and resize the photo now (see `ImageCache` for keeping it). Raises InputError."""
        return self.source.load()

    def keypoints(self) -> tuple[Tensor, Tensor]:
        """Rows of ``scene.points`` (K,) int64 seen here and their measured pixel positions (K, 2) float32."""
        return self.keypoint_ids, self.keypoint_xy

    @property
    def nbytes(self) -> int:
        """Bytes the decoded photo takes, known without decoding."""
        channels = 3 + self.source.has_mask + self.source.has_alpha
        return self.camera.width * self.camera.height * channels


@dataclass(frozen=True, eq=False)
class Points:
    """M sparse points of the reconstruction.

    Attributes:
        xyz: (M, 3) float64, frame of the input cameras.
        rgb: (M, 3) uint8.
        error: (M,) float64 mean reprojection error, pixels of the input images; NaN where unknown.
        track_offsets: (M + 1,) int64; point m is seen by ``track_views[track_offsets[m]:track_offsets[m + 1]]``.
        track_views: (T,) int64 positions in ``scene.views``.
        measured: False for random points drawn because the input had none.
        confidence: (M,) float32 in [0, 1] where a dense reconstruction tells it; None elsewhere.
    """

    xyz: Tensor
    rgb: Tensor
    error: Tensor
    track_offsets: Tensor
    track_views: Tensor
    measured: bool = True
    confidence: Tensor | None = None

    def __len__(self) -> int:
        return self.xyz.shape[0]

    def views_of(self, point: int) -> Tensor:
        """Positions in ``scene.views`` of the views that see ``point``, ascending."""
        return self.track_views[self.track_offsets[point] : self.track_offsets[point + 1]]

    @property
    def track_lengths(self) -> Tensor:
        """(M,) int64 number of views that see each point."""
        return self.track_offsets.diff()


@dataclass(frozen=True, eq=False)
class Scene:
    """Views sorted by name, sparse points, and what there is to say about them.

    Attributes:
        name: name of the folder.
        root: the folder (or file) that was loaded.
        kind: ``colmap``, ``blender``, ``nerfstudio``, ``instant-ngp``, ``photos`` or ``video``.
        views: sorted by name.
        points: in the same frame as the cameras.
        notes: sentences the user should read: what was chosen, found odd, or left out.
        georeference: what cameras and points are relative to; zero but for scenes in map coordinates.
        registration: how structure from motion did; None where the cameras were given.
    """

    name: str
    root: Path
    kind: str
    views: tuple[View, ...]
    points: Points
    notes: tuple[str, ...] = ()
    georeference: Georeference = AT_ZERO
    registration: Registration | None = None

    @property
    def train_views(self) -> tuple[View, ...]:
        """Views to train on: all but the held-out ones."""
        return tuple(view for view in self.views if not view.held_out)

    @property
    def test_views(self) -> tuple[View, ...]:
        """Held-out views, for evaluation: those that `load_scene` was told to hold out."""
        return tuple(view for view in self.views if view.held_out)

    @cached_property
    def _poses(self) -> Tensor:
        return world_to_camera_matrices([view.camera for view in self.views])

    @cached_property
    def positions(self) -> Tensor:
        """(V, 3) float64 camera centres."""
        return camera_centres(self._poses)

    @cached_property
    def extent(self) -> float:
        """1.1 × the largest distance of a camera centre from their mean, world units (as in Kerbl et al. 2023)."""
        return 1.1 * float((self.positions - self.center).norm(dim=1).max())

    @cached_property
    def up(self) -> Tensor:
        """(3,) float64 unit vector that points up in most photos (see `camera_layout.up_direction`)."""
        return up_direction(self._poses)

    @cached_property
    def focus(self) -> Tensor:
        """(3,) float64 point the cameras look at, for orbits; the median sparse point where their axes do not meet."""
        meeting = meeting_point(self._poses)
        return self.points.xyz.median(0).values if meeting is None else meeting

    @property
    def center(self) -> Tensor:
        """(3,) float64 mean of the camera centres."""
        return self.positions.mean(0)

    def about(self, place: Georeference) -> "Scene":
        """The same scene relative to the origin of ``place``, whose reference system it then names."""
        if place == self.georeference:
            return self
        if place.origin == self.georeference.origin:
            return replace(self, georeference=place)
        views = tuple(replace(view, camera=view.camera.about(self.georeference, place)) for view in self.views)
        moved = [mine - new for mine, new in zip(self.georeference.origin, place.origin, strict=True)]
        points = replace(self.points, xyz=self.points.xyz + torch.tensor(moved, dtype=torch.float64))
        return replace(self, views=views, points=points, georeference=place)

    def near_zero(self) -> "Scene":
        """The same scene about a round origin near its cameras, where float32 would not do without one."""
        x, y, z = self.georeference.origin
        away = origin_of(self.center.tolist(), self.extent)
        if not any(away):
            return self
        return self.about(Georeference((x + away[0], y + away[1], z + away[2]), self.georeference.epsg))

    def beside(self, cloud: GaussianCloud) -> "Scene":
        """The same scene in the coordinates of ``cloud``.

        A cloud without an origin has small coordinates, so that it is about the scene's own origin: not every file
        format can hold one.
        """
        return self.about(cloud.georeference) if cloud.georeference.placed else self

    @property
    def nbytes(self) -> int:
        """Bytes all decoded photos take together."""
        return sum(view.nbytes for view in self.views)


def photo_numbers(views: Sequence[View]) -> list[int]:
    """For each of ``views`` the number of its photo, counted from 0: the faces of a wide photo share one."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(view.photo_name, len(numbers)) for view in views]


def photo_count(views: Sequence[View]) -> int:
    """How many photos ``views`` show."""
    return len({view.photo_name for view in views})


def tracks_from_keypoints(views: list[View], count: int) -> tuple[Tensor, Tensor]:
    """Offsets (count + 1,) and view positions (T,) of which view sees which of ``count`` points."""
    ids = [view.keypoint_ids.numpy() for view in views]
    points = np.concatenate(ids) if ids else np.zeros(0, np.int64)
    owners = np.repeat(np.arange(len(views)), [len(each) for each in ids])
    pairs = np.unique(points * len(views) + owners) if len(points) else points
    points, owners = pairs // max(len(views), 1), pairs % max(len(views), 1)
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(points, minlength=count), out=offsets[1:])
    return torch.from_numpy(offsets), torch.from_numpy(owners.astype(np.int64))
