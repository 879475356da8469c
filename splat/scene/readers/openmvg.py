"""OpenMVG: sfm_data.json with views, intrinsics, extrinsics and structure.

Poses are a rotation (world to camera, OpenCV's axes) and the camera's centre. Focal length and principal point are in
pixels, and are taken as OpenMVG's own export to COLMAP takes them. Points have no colours here: OpenMVG writes them
into another file, colorized.ply.
"""

from pathlib import Path
from typing import Any

import numpy as np

from splat.errors import InputError
from splat.reading import guarded, member, parse_json, read_bytes
from splat.scene.build import RawScene
from splat.scene.readers.file_heads import files_in, head_of, longest_first
from splat.scene.readers.lens_models import brown_lens, fisheye_lens
from splat.scene.readers.shots import Description, Shot, numbers, scene_of, spherical_lens, world_to_camera
from splat.scene.readers.sparse_ply import read_ply_points
from splat.scene.undistort import Lens

KIND = "OpenMVG"
_FOLDERS = ("", "reconstruction", "reconstruction_sequential", "reconstruction_global", "matches")
_COLOURS = "colorized.ply"
_GREY = 128
_NUMBERED = 0x7FFFFFFF  # of the number of a type; the highest bit says that its name follows
# Name of the camera model → the key of its coefficients.
_MODELS = {
    "pinhole": "",
    "pinhole_radial_k1": "disto_k1",
    "pinhole_radial_k3": "disto_k3",
    "pinhole_brown_t2": "disto_t2",
    "fisheye": "fisheye",
    "spherical": "",
}


def find(root: Path) -> list[Path]:
    """Files with views in ``root`` or the usual folders there, the longest first: those without poses are short."""
    places = [root / name if name else root for name in _FOLDERS]
    return longest_first([path for place in places for path in files_in(place, ".json") if is_one(path)])


def is_one(path: Path) -> bool:
    """Whether ``path`` begins as OpenMVG's file does."""
    return b'"sfm_data_version"' in head_of(path)


def read(path: Path, root: Path, downscale: float) -> RawScene:
    """The scene that ``path`` describes. Raises InputError."""
    part = "its text"
    data = parse_json(read_bytes(path), path, part)
    with guarded(path, part):
        lenses = _lenses(member(data, "intrinsics", list, []), path)
        poses = dict(_pose(entry) for entry in member(data, "extrinsics", list, []))
        shots, rows = [], {}
        for entry in member(data, "views", list):
            view = _contents(entry)
            shots.append(_shot(view, poses, lenses, path))
            rows[member(view, "id_view", int)] = len(shots) - 1
        structure = member(data, "structure", list, [])
        xyz, seen = _points(structure, rows)
    shots = [Shot(shot.name, shot.lens, shot.world_to_camera, *seen.get(row, ())) for row, shot in enumerate(shots)]
    notes: list[str] = []
    rgb = None if xyz is None else _colours(xyz, path.parent, notes)
    roots = [path.parent, root, *_named_root(data, path, root)]
    return scene_of(Description(KIND, path, list(dict.fromkeys(roots)), shots, xyz, rgb, notes), root, downscale)


def _named_root(data: dict[str, Any], path: Path, root: Path) -> list[Path]:
    """The folder of photos that the file names, if it is here."""
    with guarded(path, "'root_path'"):
        name = member(data, "root_path", str, "").replace("\\", "/").rstrip("/")
    places = [root / name, path.parent / name, root / name.rsplit("/", 1)[-1]] if name else []
    try:
        return [place for place in places if place.is_dir()]
    except (OSError, ValueError):  # no name that a folder can have
        return []


def _contents(entry: Any) -> dict[str, Any]:
    """What a pointer of the file leads to, whatever is nested in it."""
    data = member(member(member(entry, "value", dict), "ptr_wrapper", dict), "data", dict)
    inner = data.get("value0")
    return {**data, **inner} if isinstance(inner, dict) else data


def _lenses(entries: list[Any], path: Path) -> dict[int, Lens]:
    """Lens by the number of its intrinsic. The name of a type stands only where it is met first."""
    names: dict[int, str] = {}
    lenses = {}
    for entry in entries:
        value = member(entry, "value", dict)
        number = member(value, "polymorphic_id", int, 0) & _NUMBERED
        if value.get("polymorphic_name") is not None:
            names[number] = member(value, "polymorphic_name", str)
        data, key = _contents(entry), member(entry, "key", int)
        lenses[key] = _lens(names.get(number) or _guess(data), data, f"intrinsic {key} in {path.name}")
    return lenses


def _guess(data: dict[str, Any]) -> str:
    """The model by the coefficients that are there."""
    return next((name for name, key in _MODELS.items() if key and key in data), "pinhole")


def _lens(model: str, data: dict[str, Any], where: str) -> Lens:
    size = (member(data, "width", int), member(data, "height", int))
    if model not in _MODELS:
        raise InputError(
            f"{where} has the camera model {model[:40]}, which is not one of {', '.join(_MODELS)}; undistort "
            "the photos with openMVG_main_ExportUndistortedImages"
        )
    if model == "spherical":
        return spherical_lens(*size, where)
    focal = float(member(data, "focal_length", float))
    x, y = numbers(member(data, "principal_point", list), (2,), "the principal point").tolist()
    key = _MODELS[model]
    given = numbers(member(data, key, list), (-1,), f"'{key}'").tolist() if key else []
    k, p = (given[:3], (*given[3:5], 0.0, 0.0)[:2]) if model != "fisheye" else (given[:4], (0.0, 0.0))
    if model == "fisheye":
        return fisheye_lens((focal, focal), (x, y), k, p, size)
    return brown_lens((focal, focal), (x, y), k, p, size)[0]


def _pose(entry: Any) -> tuple[int, np.ndarray]:
    value = member(entry, "value", dict)
    rotation = numbers(member(value, "rotation", list), (3, 3), "a rotation")
    return member(entry, "key", int), world_to_camera(rotation, numbers(value.get("center"), (3,), "a centre"))


def _shot(view: dict[str, Any], poses: dict[int, np.ndarray], lenses: dict[int, Lens], path: Path) -> Shot:
    name = f"{member(view, 'local_path', str, '')}/{member(view, 'filename', str)}".replace("\\", "/").lstrip("/")
    pose = poses.get(member(view, "id_pose", int))
    intrinsic = member(view, "id_intrinsic", int)
    if pose is not None and intrinsic not in lenses:
        raise ValueError(f"view '{name[:60]}' has the intrinsic {intrinsic}, which is not there")
    return Shot(name, lenses.get(intrinsic), pose)


def _points(
    structure: list[Any], rows: dict[int, int]
) -> tuple[np.ndarray | None, dict[int, tuple[np.ndarray, np.ndarray]]]:
    """(M, 3) points, and by the row of the shot which of them it sees and where."""
    if not structure:
        return None, {}
    places, seen = [], {}
    for index, entry in enumerate(structure):
        value = member(entry, "value", dict)
        places.append(member(value, "X", list))
        for observation in member(value, "observations", list, []):
            view, where = member(observation, "key", int), member(observation, "value", dict)
            if view in rows:
                seen.setdefault(rows[view], []).append((index, member(where, "x", list)))
    return numbers(places, (len(places), 3), "the structure"), {
        row: (np.array([index for index, _ in pairs]), numbers([xy for _, xy in pairs], (-1, 2), "observations"))
        for row, pairs in seen.items()
    }


def _colours(xyz: np.ndarray, folder: Path, notes: list[str]) -> np.ndarray:
    """(M, 3) uint8 from colorized.ply, whose points are told by their places."""
    rgb = np.full((len(xyz), 3), _GREY, np.uint8)
    path = folder / _COLOURS
    if not path.is_file():
        notes.append(f"the points have no colours ({_COLOURS} of openMVG_main_ComputeSfM_DataColor has them)")
        return rgb
    places, colours, _ = read_ply_points(path)
    by_place = {_key(place): colour for place, colour in zip(places, colours, strict=True)}
    found = [by_place.get(_key(place)) for place in xyz]
    for row, colour in enumerate(found):
        if colour is not None:
            rgb[row] = colour
    if (without := sum(colour is None for colour in found)) > 0:
        notes.append(f"{without:,} of {len(xyz):,} points have no colour in {_COLOURS}")
    return rgb


def _key(place: np.ndarray) -> tuple[str, ...]:
    """A point by the digits that every way of writing it keeps."""
    return tuple(f"{value:.5e}" for value in place)
