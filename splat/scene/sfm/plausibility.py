"""Plausibility of an SfM model: a model can register every photo at a small reprojection error and still be wrong."""

import math
from dataclasses import dataclass
from pathlib import Path

from splat.scene.colmap_library import pycolmap

_NARROW, _WIDE = 12.0, 100.0  # degrees along the longer side; lenses outside are rare and mostly wrong estimates
_DISTORTION = 0.5  # |k| of SIMPLE_RADIAL beyond which the estimate ran away
_PRIOR = 0.3  # relative deviation from the focal length EXIF tells
_STRONG = 60  # verified matches that leave no doubt that two photos show the same thing
_SHARED = 0.15  # of those, so many should be points of the model
_SUPPORTED = 0.8  # of the strong pairs
_FEWEST_PHOTOS = 2  # a camera used by fewer photos is not judged


@dataclass(frozen=True)
class Finding:
    """What is known about a model.

    Attributes:
        registered: photos with a pose.
        points, observations: sparse points, and how often they are seen.
        error: mean reprojection error, pixels.
        supported: fraction of strongly matching pairs of placed photos that see common points of the model.
        angles: field of view along the longer side per camera, degrees.
        doubts: reasons to mistrust the model, in words.
        choice: which mapper's model this is and why, in words, where there were several.
    """

    registered: int
    points: int
    observations: int
    error: float
    supported: float
    angles: tuple[float, ...]
    doubts: tuple[str, ...]
    choice: str = ""

    @property
    def score(self) -> tuple[float, float]:
        """Larger is better: photos that are placed consistently, then observations."""
        return (self.registered * self.supported / (1 + len(self.doubts)), float(self.observations))


def field_of_view(camera: pycolmap.Camera) -> float:
    """Degrees along the longer side."""
    return 2 * math.degrees(math.atan(0.5 * max(camera.width, camera.height) / camera.mean_focal_length()))


def plausible(camera: pycolmap.Camera) -> bool:
    """Whether a lens of this field of view is common."""
    return _NARROW < field_of_view(camera) < _WIDE


def examine(model: pycolmap.Reconstruction, database: Path, photos: int) -> Finding:
    """Look at ``model``, made from the matches in ``database``, for signs that it is wrong."""
    images = [image for image in model.images.values() if image.has_pose]
    doubts: list[str] = []
    angles = []
    for camera_id, camera in model.cameras.items():
        users = sum(image.camera_id == camera_id for image in images)
        if users == 0:
            continue
        angle = field_of_view(camera)
        angles.append(angle)
        if users < _FEWEST_PHOTOS:
            continue
        if not plausible(camera):
            doubts.append(f"a field of view of {angle:.0f}° is implausible")
        if any(abs(camera.params[i]) > _DISTORTION for i in camera.extra_params_idxs()):
            doubts.append(f"the lens distortion {camera.params[-1]:.2f} is implausible")
    doubts += _focal_doubts(model, database)
    supported = supported_fraction(images, database)
    if supported < _SUPPORTED:
        doubts.append(f"{1 - supported:.0%} of the pairs that match well share hardly a point in the model")
    if len(images) < 0.9 * photos:
        doubts.append(f"only {len(images)} of {photos} photos could be placed")
    return Finding(
        len(images),
        model.num_points3D(),
        model.compute_num_observations(),
        model.compute_mean_reprojection_error(),
        supported,
        tuple(angles),
        tuple(doubts),
    )


def _focal_doubts(model: pycolmap.Reconstruction, database: Path) -> list[str]:
    """Cameras whose focal length deviates from that in EXIF, in words."""
    doubts = []
    with pycolmap.Database.open(database) as opened:
        priors = {camera.camera_id: camera for camera in opened.read_all_cameras() if camera.has_prior_focal_length}
    for camera_id, camera in model.cameras.items():
        prior = priors.get(camera_id)
        if prior is None:
            continue
        ratio = camera.mean_focal_length() / prior.mean_focal_length()
        if not 1 - _PRIOR < ratio < 1 + _PRIOR:
            doubts.append(
                f"the focal length came out as {camera.mean_focal_length():.0f} pixels where EXIF says "
                f"{prior.mean_focal_length():.0f}"
            )
    return doubts


def supported_fraction(images: list[pycolmap.Image], database: Path) -> float:
    """Fraction of pairs with many verified matches that see common points; 1 when there are no such pairs.

    A ring of photos that does not close, or a part folded onto another, leaves matching photos without common points.
    """
    seen = {image.image_id: {p.point3D_id for p in image.get_observation_points2D()} for image in images}
    with pycolmap.Database.open(database) as opened:
        pair_ids, counts = opened.read_two_view_geometry_num_inliers()
    strong = good = 0
    for pair_id, inliers in zip(pair_ids, counts, strict=True):
        first, second = pair_id if isinstance(pair_id, tuple) else pycolmap.pair_id_to_image_pair(pair_id)
        if inliers < _STRONG or first not in seen or second not in seen:
            continue
        strong += 1
        good += len(seen[first] & seen[second]) >= _SHARED * inliers
    return good / strong if strong else 1.0
