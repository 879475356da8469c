"""OpenSfM, and OpenDroneMap (ODM) which runs it in its folder ``opensfm``: reconstruction.json.

By OpenSfM's documentation. Shots have OpenCV's axes, world-to-camera, as a rotation vector and a translation. Focal
lengths and principal points are fractions of the photo's longer side, the latter from its middle.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from splat.errors import InputError
from splat.reading import guarded, member, parse_any_json, read_bytes, typed
from splat.scene.build import RawScene
from splat.scene.readers.lens_models import brown_lens, fisheye_lens
from splat.scene.readers.odm_place import place_of
from splat.scene.readers.shots import Description, Shot, known_lens, numbers, scene_of, spherical_lens, turn_of_vector
from splat.scene.undistort import Lens

KIND = "OpenSfM"
NAME = "reconstruction.json"
_PLACES = (NAME, f"opensfm/{NAME}")
_BROWN = ("perspective", "simple_radial", "radial", "brown")
_FISHEYE = ("fisheye", "fisheye_opencv", "fisheye62")
_GREY = [128, 128, 128]
_SPHERICAL = ("spherical", "equirectangular")


def find(root: Path) -> list[Path]:
    """The reconstruction of the project in ``root``."""
    return [root / place for place in _PLACES if (root / place).is_file()][:1]


def is_one(path: Path) -> bool:
    """Whether ``path`` has the name of a reconstruction."""
    return path.name.startswith("reconstruction") and path.suffix == ".json"


def read(path: Path, root: Path, downscale: float) -> RawScene:
    """The largest reconstruction in ``path``. Raises InputError."""
    part, notes = "the list of reconstructions", []
    data = parse_any_json(read_bytes(path), path, part, times=6)
    with guarded(path, part):
        whole = _largest(typed(data, list, "it"), path, notes)
        cameras = {key: lens_of(key, value, path) for key, value in member(whole, "cameras", dict).items()}
        shots = [_shot(name, shot, cameras) for name, shot in member(whole, "shots", dict).items()]
        xyz, rgb = _points(member(whole, "points", dict, {}))
        on_map = place_of(path)
        if on_map is None:
            notes += _place(whole.get("reference_lla"))
    roots = [path.parent, root]
    if path.parent.name == "opensfm":  # of ODM, whose photos are beside it
        roots.append(path.parent.parent)
    shots += [Shot(name) for name in _others(data, whole)]
    epsg = None
    if on_map is not None:
        away, epsg = on_map
        shots = [replace(shot, world_to_camera=_moved(shot.world_to_camera, away)) for shot in shots]
        xyz = None if xyz is None else xyz + away
    return scene_of(Description(KIND, path, roots, shots, xyz, rgb, notes, epsg), root, downscale)


def _moved(pose: np.ndarray | None, away: np.ndarray) -> np.ndarray | None:
    """``pose`` in a world whose coordinates are larger by ``away`` (3,)."""
    if pose is None:
        return None
    moved = pose.copy()
    moved[:3, 3] -= pose[:3, :3] @ away
    return moved


def _largest(models: list[Any], path: Path, notes: list[str]) -> dict[str, Any]:
    sizes = [len(member(model, "shots", dict)) for model in models]
    if not any(sizes):
        raise InputError(f"{path} holds no reconstruction with photos; run OpenSfM again")
    best = int(np.argmax(sizes))
    if len(models) > 1:
        rest = ", ".join(str(size) for index, size in enumerate(sizes) if index != best)
        notes.append(f"of {len(models)} reconstructions the one with the most photos is used, {sizes[best]}; {rest}")
    return models[best]


def _others(models: list[Any], whole: dict[str, Any]) -> list[str]:
    """Photos that only other reconstructions placed."""
    return sorted({name for model in models for name in model["shots"]} - whole["shots"].keys())


def lens_of(key: str, camera: Any, path: Path) -> Lens:
    """The lens of ``camera``, which ``path`` calls ``key``. Raises InputError for one that cannot be used."""
    size = (member(camera, "width", int), member(camera, "height", int))
    kind, where = member(camera, "projection_type", str), f"camera '{key[:60]}' in {path.name}"

    def value(*names: str) -> float:
        given = [float(member(camera, name, float)) for name in names if camera.get(name) is not None]
        return given[0] if given else 0.0

    if kind in _SPHERICAL:
        return spherical_lens(*size, where)
    side = max(size)
    focal = (value("focal_x", "focal") * side, value("focal_y", "focal_x", "focal") * side)
    centre = (size[0] / 2 + value("c_x") * side, size[1] / 2 + value("c_y") * side)
    k, p = [value(f"k{n}") for n in range(1, 7)], (value("p1"), value("p2"))
    if kind in _BROWN:
        return brown_lens(focal, centre, k[:3], p, size)[0]
    if kind in _FISHEYE and not any(k[4:]):
        return fisheye_lens(focal, centre, k[:4], p, size)
    if kind in _FISHEYE and not any(p):
        return known_lens("RAD_TAN_THIN_PRISM_FISHEYE", (*focal, *centre, *k, *[0.0] * 6), *size, where)
    raise InputError(
        f"{where} has the projection {kind[:40]} with parameters that are not read here, where "
        f"{', '.join((*_BROWN, *_FISHEYE, *_SPHERICAL))} are; run 'opensfm undistort' and use what it writes"
    )


def _shot(name: str, shot: Any, cameras: dict[str, Lens]) -> Shot:
    pose = np.eye(4)
    pose[:3, :3] = turn_of_vector(numbers(member(shot, "rotation", list), (3,), "a rotation"))
    pose[:3, 3] = numbers(member(shot, "translation", list), (3,), "a translation")
    camera = member(shot, "camera", str)
    if camera not in cameras:
        raise ValueError(f"shot '{name[:60]}' has the camera '{camera[:60]}', which is not there")
    return Shot(name, cameras[camera], pose)


def _points(points: dict[str, Any]) -> tuple[np.ndarray | None, np.ndarray | None]:
    if not points:
        return None, None
    places = [member(point, "coordinates", list) for point in points.values()]
    colours = [member(point, "color", list, _GREY) for point in points.values()]
    xyz, rgb = (numbers(rows, (len(points), 3), "the points") for rows in (places, colours))
    return xyz, np.clip(np.nan_to_num(rgb, nan=128), 0, 255).astype(np.uint8)


def _place(reference: Any) -> list[str]:
    """Where the world's origin is, which has metres to the east, north and up."""
    if reference is None:
        return []
    latitude, longitude, altitude = (member(reference, key, float) for key in ("latitude", "longitude", "altitude"))
    return [
        f"the world has metres to the east, north and up of latitude {latitude:.7f}, longitude {longitude:.7f}, "
        f"altitude {altitude:.2f}"
    ]
