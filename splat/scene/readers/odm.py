"""OpenDroneMap's results (ODM, WebODM) without the folder ``opensfm``, as they are downloaded.

``cameras.json`` has OpenSfM's cameras, ``odm_report/shots.geojson`` rotation vectors, world-to-camera, and positions in
UTM coordinates.
"""

from pathlib import Path
from typing import Any

from splat.reading import guarded, member, parse_json, read_bytes
from splat.scene.build import RawScene
from splat.scene.readers import opensfm
from splat.scene.readers.odm_place import zone_of
from splat.scene.readers.shots import Description, Shot, numbers, scene_of, turn_of_vector, world_to_camera

KIND = "ODM"
_SHOTS, _CAMERAS = "odm_report/shots.geojson", "cameras.json"


def find(root: Path) -> list[Path]:
    """The shots of the results in ``root``, unless the reconstruction is there, which has points too."""
    whole = all((root / name).is_file() for name in (_SHOTS, _CAMERAS))
    return [root / _SHOTS] if whole and not opensfm.find(root) else []


def is_one(path: Path) -> bool:
    """Whether ``path`` has the shots of results."""
    return path.name == "shots.geojson" and path.parent.name == "odm_report"


def read(path: Path, root: Path, downscale: float) -> RawScene:
    """The scene of the results that ``path`` belongs to. Raises InputError."""
    project = path.parent.parent
    cameras = parse_json(read_bytes(project / _CAMERAS), project / _CAMERAS, "its text")
    with guarded(project / _CAMERAS, "its text"):
        lenses = {key: opensfm.lens_of(key, camera, project / _CAMERAS) for key, camera in cameras.items()}
    data = parse_json(read_bytes(path), path, "its text")
    with guarded(path, "its text"):
        shots = [_shot(member(feature, "properties", dict), lenses) for feature in member(data, "features", list)]
    epsg = zone_of(project)
    return scene_of(Description(KIND, path, [project, root], shots, epsg=epsg), root, downscale)


def _shot(values: dict[str, Any], lenses: dict[str, Any]) -> Shot:
    name = member(values, "filename", str)
    size = tuple(values.get(side) for side in ("width", "height"))
    of_size = [lens for lens in lenses.values() if (lens.width, lens.height) == size]
    lens = lenses.get(str(values.get("camera"))) or next(iter(of_size or lenses.values()), None)
    if lens is None or len(set(of_size)) > 1 and str(values.get("camera")) not in lenses:
        raise ValueError(f"it does not say which camera took '{name[:60]}'")
    turn = turn_of_vector(numbers(member(values, "rotation", list), (3,), "a rotation"))
    return Shot(name, lens, world_to_camera(turn, numbers(member(values, "translation", list), (3,), "a translation")))
