"""Agisoft Metashape (PhotoScan): the XML of "Export Cameras", and a ply of points beside it.

By the manual's appendix on camera models. Cameras have OpenCV's axes; their transforms lead into the chunk's own frame,
and that of the chunk, or of the component that a camera belongs to, from there into the world: geocentric metres where
the reference system is one of the Earth. The principal point is given from the middle of the photo, whose first pixel
has its centre at 0.5; P1 goes with r² + 2x² along x, P2 with r² + 2y² along y (OpenCV's p2, p1).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from splat.errors import InputError
from splat.reading import guarded
from splat.scene.build import RawScene
from splat.scene.listing import listed
from splat.scene.plausible import sample, sight
from splat.scene.readers.file_heads import files_in, head_of, longest_first
from splat.scene.readers.lens_models import brown_lens, fisheye_lens, off_note
from splat.scene.readers.points_file import find_points
from splat.scene.readers.safe_xml import read_xml
from splat.scene.readers.shots import (
    SPHERICAL,
    Description,
    Shot,
    counted,
    lens_numbers,
    scene_of,
    spherical_lens,
    world_to_camera,
)
from splat.scene.undistort import Lens

KIND = "Metashape"
_SAMPLE = 500  # points that tell the frame they are in
_VIEWS = 64  # that look at them
_CLEARLY = 1.5  # how many times more of the points cameras must have in their pictures in another frame
_GEOCENTRIC = 4978  # EPSG code
_EARTH = (6.30e6, 6.42e6)  # metres from its centre within which cameras stand
_TYPES = ("frame", "fisheye", "equidistant_fisheye", "spherical")
_FALSE = ("0", "false")


@dataclass(frozen=True)
class _Similarity:
    """``x ↦ scale · rotation · x + translation``."""

    rotation: np.ndarray
    translation: np.ndarray
    scale: float

    def of_pose(self, camera_to_local: np.ndarray) -> np.ndarray:
        """(4, 4) world-to-camera of a camera whose pose in the local frame is given."""
        with np.errstate(all="ignore"):  # build() names the photo
            centre = self.scale * (self.rotation @ camera_to_local[:3, 3]) + self.translation
            return world_to_camera((self.rotation @ camera_to_local[:3, :3]).T, centre)

    def of_points(self, xyz: np.ndarray) -> np.ndarray:
        return self.scale * (xyz @ self.rotation.T) + self.translation


_NONE = _Similarity(np.eye(3), np.zeros(3), 1.0)


def find(root: Path) -> list[Path]:
    """The XML files in ``root`` that hold cameras; the longest first."""
    return longest_first([path for path in files_in(root, ".xml") if is_one(path)])


def is_one(path: Path) -> bool:
    """Whether ``path`` looks like an export of cameras."""
    head = head_of(path)
    return b"<document" in head and (b"<chunk" in head or b"<sensors" in head)


def read(path: Path, root: Path, downscale: float) -> RawScene:
    """The scene that ``path`` describes. Raises InputError."""
    tree, notes = read_xml(path, "the XML of cameras"), []
    with guarded(path, "the XML of cameras"):
        chunk = _chunk(tree, path, notes)
        sensors = {sensor.get("id"): sensor for sensor in chunk.iter("sensor")}
        moves = _moves(chunk)
        shots, used = _shots(chunk, sensors, moves, path, notes)
        epsg = _epsg(chunk, shots)
    if len(others := find(path.parent)) > 1:
        notes.append(f"the cameras are those of {path.name}; {listed([o.name for o in others if o != path])} not used")
    xyz, rgb, said = find_points([path.parent, root])
    notes += said
    if xyz is not None and len(used) == 1 and used[0] is not _NONE:
        xyz = _in_frame_of(shots, xyz, used[0], notes)
    return scene_of(Description(KIND, path, [path.parent, root], shots, xyz, rgb, notes, epsg), root, downscale)


def _chunk(tree: Element, path: Path, notes: list[str]) -> Element:
    """The chunk with the most cameras."""
    chunks = [chunk for chunk in tree.iter("chunk") if chunk.find("cameras") is not None]
    if not chunks:
        raise InputError(f"{path} holds no cameras; export it with File > Export > Export Cameras as Agisoft XML")
    sizes = [sum(camera.find("transform") is not None for camera in chunk.iter("camera")) for chunk in chunks]
    best = int(np.argmax(sizes))
    if len(chunks) > 1:
        notes.append(f"of {len(chunks)} chunks '{chunks[best].get('label', best)}' is used, which has the most cameras")
    return chunks[best]


# ---- frames ----


def _moves(chunk: Element) -> dict[str | None, _Similarity]:
    """From the local frame to the world: of the chunk under None, of components under their ids."""
    moves = {None: _similarity(chunk.find("transform"))}
    for component in chunk.iterfind("components/component"):
        if component.find("transform") is not None:
            moves[component.get("id")] = _similarity(component.find("transform"))
    return moves


def _similarity(element: Element | None) -> _Similarity:
    if element is None:
        return _NONE
    rotation, translation, scale = (_numbers(element.find(name)) for name in ("rotation", "translation", "scale"))
    if len(rotation) == len(translation) == len(scale) == 0:
        return _NONE
    factor = float(scale[0]) if len(scale) else 1.0
    if not 0 < factor < np.inf:
        raise ValueError(f"the scale of a transform is {factor}")
    return _Similarity(
        rotation.reshape(3, 3) if len(rotation) else np.eye(3),
        translation.reshape(3) if len(translation) else np.zeros(3),
        factor,
    )


def _numbers(element: Element | None) -> np.ndarray:
    return np.array([float(word) for word in (element.text or "").split()] if element is not None else [])


def _epsg(chunk: Element, shots: list[Shot]) -> int | None:
    """The reference system of the poses: where the chunk names one of the Earth they are geocentric."""
    reference = chunk.find("reference")
    text = (reference.text or "").strip() if reference is not None else ""
    codes = re.findall(r'(?:AUTHORITY|ID)\s*\[\s*"EPSG"\s*,\s*"?(\d{1,9})"?\s*\]\s*\]\s*$|^EPSG::?(\d{1,9})$', text)
    code = int("".join(codes[0])) if codes else None
    centres = [-shot.world_to_camera[:3, :3].T @ shot.world_to_camera[:3, 3] for shot in shots if _placed(shot)]
    if centres and not text.startswith("LOCAL_CS"):
        away = np.linalg.norm(centres, axis=1)
        if text and _EARTH[0] < away.min() and away.max() < _EARTH[1]:
            return _GEOCENTRIC
    return code if code and code < 1 << 31 else None


def _in_frame_of(shots: list[Shot], xyz: np.ndarray, move: _Similarity, notes: list[str]) -> np.ndarray:
    """``xyz``, moved into the world where it was exported in the chunk's own frame: there the cameras see it."""
    few = sample(xyz, _SAMPLE)
    own, moved = (_seen(shots, points) for points in (few, move.of_points(few)))
    if moved < _CLEARLY * own or moved == 0:
        return xyz
    notes.append("the points were in the frame of the chunk, and were moved into the world's")
    return move.of_points(xyz)


def _placed(shot: Shot) -> bool:
    return shot.world_to_camera is not None and bool(np.isfinite(shot.world_to_camera).all())


def _seen(shots: list[Shot], xyz: np.ndarray) -> float:
    """The mean fraction of the points that a camera has in its picture."""
    placed = [shot for shot in shots if _placed(shot) and shot.lens.model != SPHERICAL]
    fractions = [
        sight(shot.world_to_camera[None], np.array([lens_numbers(shot.lens)]), xyz)[0]
        for shot in placed[:: max(1, len(placed) // _VIEWS)]
    ]
    return float(np.mean(fractions)) if fractions else 0.0


# ---- cameras ----


def _shots(
    chunk: Element, sensors: dict, moves: dict[str | None, _Similarity], path: Path, notes: list[str]
) -> tuple[list[Shot], list[_Similarity]]:
    """The cameras that are enabled, and the moves that took them into the world."""
    lenses: dict[str | None, Lens] = {}
    shots, used, disabled = [], {}, []
    for camera in _cameras(chunk):
        name = camera.get("label") or f"camera {camera.get('id')}"
        if camera.get("enabled", "true").lower() in _FALSE:
            disabled.append(name)
            continue
        given, sensor = _numbers(camera.find("transform")), camera.get("sensor_id")
        if len(given) != 16:
            shots.append(Shot(name))
            continue
        if sensor not in lenses:
            if sensor not in sensors:
                raise ValueError(f"camera '{name}' has the sensor {sensor}, which is not there")
            lenses[sensor] = _lens(sensors[sensor], path, notes)
        move = moves.get(camera.get("component_id"), moves[None])
        used[id(move)] = move
        shots.append(Shot(name, lenses[sensor], move.of_pose(given.reshape(4, 4))))
    if disabled:
        said = counted(len(disabled), "camera is", "cameras are")
        notes.append(f"{said} disabled in {path.name} and left out ({listed(disabled)})")
    if len(used) > 1:
        notes.append(f"the cameras are in {len(used)} components, each placed by itself; align them to one another")
    return shots, list(used.values())


def _cameras(chunk: Element) -> Iterator[Element]:
    for holder in chunk.iterfind("cameras"):
        yield from holder.iter("camera")


def _lens(sensor: Element, path: Path, notes: list[str]) -> Lens:
    where = f"sensor {sensor.get('id')} in {path.name}"
    calibrations = sensor.findall("calibration")
    best = next((each for each in calibrations if each.get("class") == "adjusted"), (calibrations or [None])[-1])
    size = _size(best, sensor, where)
    kind = (best.get("type") if best is not None else None) or sensor.get("type") or "frame"
    if kind == "spherical":
        return spherical_lens(*size, where)
    if kind not in _TYPES:
        raise InputError(
            f"{where} is of the type '{kind}', which is not one of {', '.join(_TYPES)}; undistort the photos in {KIND} "
            "(Export > Convert Images) and export their cameras"
        )
    if best is None:
        raise InputError(f"{where} has no calibration; align the photos in {KIND} and export again")
    values = {child.tag: float(child.text or "nan") for child in best if child.tag in _NAMES}
    focal, centre = _places(values, size, where)
    k, p = [values.get(f"k{n}", 0.0) for n in range(1, 5)], (values.get("p2", 0.0), values.get("p1", 0.0))
    ignored = [name for name in ("p3", "p4", "b2", "skew") if values.get(name)]
    if ignored:
        shear = abs(values.get("b2") or values.get("skew") or 0.0) * size[1] / 2 / focal[1]
        said = f"; the shear moves the edges by {shear:.2g} pixels" if shear else ""
        notes.append(f"{', '.join(ignored)} of {where} have no place in the camera models here and are not used{said}")
    if kind == "frame":
        lens, off = brown_lens(focal, centre, k, p, size)
        notes += off_note(off)
        return lens
    return fisheye_lens(focal, centre, k, p, size)


_NAMES = frozenset(
    ("f", "fx", "fy", "cx", "cy", "skew", "b1", "b2", "k1", "k2", "k3", "k4", "p1", "p2", "p3", "p4"),
)


def _places(
    values: dict[str, float], size: tuple[int, int], where: str
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Focal lengths and principal point in pixels."""
    if "fx" in values:  # before version 1.3, the principal point from the corner
        places = tuple(values.get(name, side / 2) for name, side in zip(("cx", "cy"), size, strict=True))
        return (values["fx"], values.get("fy", values["fx"])), places
    if "f" not in values:
        raise ValueError(f"{where} has no focal length")
    focal = (values["f"] + values.get("b1", 0.0), values["f"])
    return focal, (size[0] / 2 + values.get("cx", 0.0), size[1] / 2 + values.get("cy", 0.0))


def _size(calibration: Element | None, sensor: Element, where: str) -> tuple[int, int]:
    for holder in (calibration, sensor):
        resolution = holder.find("resolution") if holder is not None else None
        if resolution is not None:
            return int(resolution.get("width", "")), int(resolution.get("height", ""))
    raise ValueError(f"{where} has no resolution")
