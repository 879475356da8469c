"""What ``splat train`` begins with beside its scene: --points, --init, --add and --freeze."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splat.cli.checks import require
from splat.cli.inputs import open_cloud
from splat.errors import InputError

if TYPE_CHECKING:
    from splat.cloud import GaussianCloud
    from splat.scene import Points, Scene
    from splat.training.start import Start

# Of points and Gaussians, that some photo should show; fewer are said, for they may lie in another frame.
_IN_SIGHT = 0.05


def read_start(
    scene: "Scene", points: Path | None, init: Path | None, add: Sequence[Path], freeze: bool, antialiased: bool = False
) -> "Start":
    """What the files hold, in the frame of the cameras of ``scene``. Raises InputError.

    Args:
        antialiased: whether the run is; clouds that are otherwise are drawn otherwise, which is said.
    """
    from splat.cloud import GaussianCloud
    from splat.training.start import Start

    if points is not None and init is not None:
        raise InputError("--points and --init both say what to begin with; give one of them, or the cloud with --add")
    if freeze and not add:
        if init is None:
            raise InputError("--freeze is for clouds, and none is given; name one with --add")
        warnings.warn(f"{init} stays as it is, beside Gaussians that begin with the scene's points", stacklevel=2)
        init, add = None, [init]
    files: list[dict[str, Any]] = []

    def cloud_of(path: Path, role: str) -> "GaussianCloud":
        cloud, file = _cloud(scene, path, antialiased)
        files.append(_fingerprint(file, role))
        return cloud

    begun = None
    if points is not None:
        begun, epsg = _points(scene, points)
        files.append(_fingerprint(points, "file of points") | ({} if epsg is None else {"epsg": epsg}))
    first = None if init is None else cloud_of(init, "cloud to begin with")
    added = [cloud_of(path, "frozen cloud" if freeze else "added cloud") for path in add]
    beside = GaussianCloud.concat(added) if added else None
    return Start(begun, first, None if freeze else beside, beside if freeze else None, tuple(files))


def _points(scene: "Scene", path: Path) -> tuple["Points", int | None]:
    """The points of a file, and the EPSG code of its coordinates."""
    import torch

    from splat.coordinates import origin_of_points
    from splat.formats.survey import read_points
    from splat.scene import Points

    found = read_points(require(path, "file of points"))
    for note in found.notes:
        warnings.warn(f"{path.name}: {note}", stacklevel=3)
    if not len(found):
        raise InputError(f"{path} holds no points to begin with; give another file")
    place, count = scene.georeference, len(found)
    if None not in (found.epsg, place.epsg) and found.epsg != place.epsg:
        raise InputError(f"{path} is in EPSG:{found.epsg}, the scene in EPSG:{place.epsg}; bring the points into that")
    on_a_map = any(origin_of_points(found.xyz))  # others are relative to the scene's origin already
    xyz = torch.from_numpy(found.xyz) - torch.tensor(place.origin if on_a_map else (0.0, 0.0, 0.0), dtype=torch.float64)
    _check_sight(scene, xyz, path, "points")
    none = torch.zeros(0, dtype=torch.int64)
    unknown, offsets = torch.full((count,), torch.nan, dtype=torch.float64), torch.zeros(count + 1, dtype=torch.int64)
    return Points(xyz, torch.from_numpy(found.rgb), unknown, offsets, none), found.epsg


def _cloud(scene: "Scene", path: Path, antialiased: bool) -> tuple["GaussianCloud", Path]:
    """The finite Gaussians of a file or a run, without extras, and the file they are from."""
    source = open_cloud(require(path, "cloud"))
    cloud, place = source.cloud.replace(extras={}), scene.georeference
    # Without an origin its coordinates are small, and so relative to the scene's, as in `Scene.beside`.
    cloud = cloud.about(place) if cloud.georeference.placed else cloud.replace(georeference=place)
    good = cloud.finite()
    if not bool(good.any()):
        raise InputError(f"{path} holds no Gaussians to begin with; give another file")
    if not bool(good.all()):
        warnings.warn(
            f"{path}: {int((~good).sum()):,} Gaussians with NaN or infinite values are left out", stacklevel=3
        )
        cloud = cloud.select(good)
    if source.antialiased != antialiased:
        kind, option = ("with", "--antialiased") if source.antialiased else ("without", "--no-antialiased")
        warnings.warn(f"{path} was trained {kind} the 2D Mip filter; train so too: {option}", stacklevel=3)
    _check_sight(scene, cloud.means, path, "Gaussians")
    return cloud, source.file


def _check_sight(scene: "Scene", xyz: Any, path: Path, what: str) -> None:
    from splat.training.start import fraction_in_sight

    fraction = fraction_in_sight(xyz, [view.camera for view in scene.views])
    if fraction == 0:
        raise InputError(
            f"no photo shows any of the {len(xyz):,} {what} of {path}; bring them into the frame of the scene's cameras"
        )
    if fraction < _IN_SIGHT:
        warnings.warn(
            f"{path}: photos show {fraction:.1%} of its {len(xyz):,} {what}; is it in the frame of the cameras?",
            stacklevel=4,
        )


def _fingerprint(file: Path, role: str) -> dict[str, Any]:
    from splat.runs.fingerprints import sha256_of

    files = sorted(part for part in file.rglob("*") if part.is_file()) if file.is_dir() else [file]
    return {"role": role, "name": file.name, "sha256": sha256_of(files)}
