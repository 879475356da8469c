"""Structural check of COLMAP model files before pycolmap reads them.

pycolmap takes a truncated cameras.bin for a valid one and asks for absurd amounts of memory on other damage, so the
binary files are walked here first (layout: COLMAP documentation, "Output format").
"""

import struct
from pathlib import Path

from splat.errors import InputError
from splat.scene.colmap_library import pycolmap
from splat.scene.undistort import MODELS, unknown_model

# Camera model id → (name, number of parameters).
_MODELS = {
    int(value): (name, len(pycolmap.Camera.create_from_model_id(1, value, 1.0, 2, 2).params))
    for name, value in pycolmap.CameraModelId.__members__.items()
    if name != "INVALID"
}
_NEED = ("cameras", "images", "points3D")


def check_model(folder: Path) -> None:
    """Raise InputError naming the file of the model in ``folder`` that is missing, truncated or of unknown model."""
    kind = "bin" if (folder / "cameras.bin").is_file() or (folder / "images.bin").is_file() else "txt"
    for stem in _NEED:
        path = folder / f"{stem}.{kind}"
        if not path.is_file():
            raise InputError(
                f"the COLMAP model {folder} lacks {path.name}, but needs cameras, images and points3D of one kind; "
                "copy the missing file"
            )
    if kind == "txt":
        _check_text_cameras(folder / "cameras.txt")
        return
    for stem, walk in _WALKS.items():
        path = folder / f"{stem}.bin"
        if stem not in _NEED and not path.is_file():
            continue  # models older than COLMAP 3.12 have no rigs and frames
        data = path.read_bytes()
        try:
            end = walk(data, path)
        except (struct.error, IndexError, ValueError) as error:
            raise _truncated(path, data) from error
        if end != len(data):
            raise _truncated(path, data)


def _truncated(path: Path, data: bytes) -> InputError:
    count = struct.unpack_from("<Q", data)[0] if len(data) >= 8 else "?"
    return InputError(
        f"{path} is truncated or damaged: it has {len(data)} bytes, which do not hold the {count} entries it "
        "announces; copy it again or run COLMAP again"
    )


def _walk_cameras(data: bytes, path: Path) -> int:
    (count,), at = struct.unpack_from("<Q", data), 8
    for _ in range(count):
        identifier, model, _, _ = struct.unpack_from("<IiQQ", data, at)
        name, parameters = _MODELS.get(model, (f"number {model}", 0))
        if name not in MODELS:
            raise unknown_model(f"camera {identifier} in {path}", name)
        at += 24 + 8 * parameters
        if at > len(data):
            raise ValueError
    return at


def _walk_images(data: bytes, path: Path) -> int:
    (count,), at = struct.unpack_from("<Q", data), 8
    for _ in range(count):
        at = data.index(b"\0", at + 64) + 1  # id, quaternion, translation, camera id: 64 bytes, then the name
        (points,) = struct.unpack_from("<Q", data, at)
        at += 8 + 24 * points
        if at > len(data):
            raise ValueError
    return at


def _walk_points(data: bytes, path: Path) -> int:
    (count,), at = struct.unpack_from("<Q", data), 8
    length = struct.Struct("<Q").unpack_from
    for _ in range(count):
        at += 51 + 8 * length(data, at + 43)[0]  # id, xyz, rgb, error, track length, track
    if at > len(data):
        raise ValueError
    return at


def _walk_rigs(data: bytes, path: Path) -> int:
    (count,), at = struct.unpack_from("<Q", data), 8
    for _ in range(count):
        (sensors,) = struct.unpack_from("<I", data, at + 4)
        at += 8 + (8 if sensors else 0)  # ids, then the reference sensor
        for _ in range(sensors - 1):
            at += 9 + 56 * (data[at + 8] != 0)  # sensor, flag, and its pose if the flag is set
    return at


def _walk_frames(data: bytes, path: Path) -> int:
    (count,), at = struct.unpack_from("<Q", data), 8
    for _ in range(count):
        at += 64  # frame id, rig id, pose
        at += 4 + 16 * struct.unpack_from("<I", data, at)[0]
    return at


_WALKS = {
    "cameras": _walk_cameras,
    "images": _walk_images,
    "points3D": _walk_points,
    "rigs": _walk_rigs,
    "frames": _walk_frames,
}


def _check_text_cameras(path: Path) -> None:
    for line in path.read_text(errors="replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 5:
            raise InputError(
                f"{path} has the line '{line.strip()}', expected: id, model, width, height, parameters; export it again"
            )
        if words[1] not in MODELS:
            raise unknown_model(f"camera {words[0]} in {path}", words[1])
