"""Fingerprints of the photos a run was trained on, by which a resumed run knows that they are still the same."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splat.errors import InputError
from splat.scene import Scene, View

_BLOCK = 1 << 20  # bytes
_TOLERANCE = 1e-4  # of the numbers of a camera, whose poses another machine may round otherwise


def of_views(views: Sequence[View]) -> list[dict[str, Any]]:
    """For each view its name, its size and camera as loaded, and a hash: of its files, or of its pixels without one."""
    prints: list[dict[str, Any]] = []
    for before, view in zip((None, *views), views, strict=False):
        same = before is not None and before.source.files == view.source.files != ()  # another face of the same photo
        prints.append(
            {
                "name": view.name,
                "size": [view.camera.width, view.camera.height],
                "camera": _numbers(view),
                "sha256": prints[-1]["sha256"] if same else _sha256(view),
            }
        )
    return prints


def check(stored: list[Any], scene: Scene, out: Path | None, now: list[dict[str, Any]]) -> None:
    """Raise InputError where ``stored`` (fingerprints, or the mere names of old checkpoints) is not ``now``."""
    before = [each if isinstance(each, str) else each.get("name") for each in stored]
    names = [each["name"] for each in now]
    if before != names:
        other = next((name for name in before if name not in names), None) or next(
            (name for name in names if name not in before), "their order"
        )
        _refuse(out, f"on {len(before)} photos, {scene.root} has {len(names)} or other ones (the first: {other})")
    for old, new in zip(stored, now, strict=True):
        if isinstance(old, str):
            continue
        if old.get("size") != new["size"]:
            _refuse(out, f"with {new['name']} of {old.get('size')} pixels, it has {new['size']} now")
        if old.get("sha256") != new["sha256"]:
            _refuse(out, f"with another photo {new['name']}: its content has changed")
        if not _close(old.get("camera"), new["camera"]):
            _refuse(out, f"with another camera of {new['name']}: its pose or its lens has changed")


def check_start(stored: list[Any], now: Sequence[dict[str, Any]], out: Path | None) -> None:
    """Raise InputError where ``now``, the files named to begin with, are other ones than ``stored``.

    None need be named: what the run began with is in its checkpoint. A scan must be, but for its depth (`check_depth`).
    """
    for new in now:
        same = [each for each in stored if isinstance(each, dict) and each.get("role") == new["role"]]
        if new["sha256"] not in [each.get("sha256") for each in same]:
            _refuse(out, f"from another {new['role']} than {new['name']}")


def of_depth(known: Sequence[tuple[Tensor | None, Tensor | None]]) -> list[float]:
    """Number and mean of the points and pixels that hold the depth of the photos; [] where none do."""
    pairs = [(points.double().cpu(), pixels.double().cpu()) for points, pixels in known if points is not None]
    if not pairs:
        return []
    means = [torch.cat(each).mean(0).tolist() if sum(map(len, each)) else [] for each in zip(*pairs, strict=True)]
    return [float(sum(len(points) for points, _ in pairs)), *means[0], *means[1]]


def check_depth(stored: Any, now: list[float], out: Path | None) -> None:
    """Raise InputError where ``stored`` (None in old checkpoints) is of other depth than ``now``."""
    if stored is not None and stored != now and not (now and _close(stored, now)):
        _refuse(out, "with other known depth: maps beside the photos, a scan given with --points, or sparse points")


def sha256_of(files: Sequence[Path]) -> str:
    """Of the bytes of ``files``, one after the other. Raises InputError."""
    return _digest(files).hexdigest()


def _refuse(out: Path | None, how: str) -> None:
    raise InputError(f"{out} was trained {how}; resume with the same scene, or start anew in another folder")


def _numbers(view: View) -> list[float]:
    camera = view.camera
    pose = camera.world_to_camera.double().reshape(-1).tolist()
    return [*map(float, (camera.fx, camera.fy, camera.cx, camera.cy)), *pose]


def _close(a: Any, b: list[float]) -> bool:
    try:
        a = np.asarray(a, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return False
    # Relative to the largest: a rounding error of a pose is one of its translation's size.
    largest = max(map(abs, b))
    return a.shape == (len(b),) and bool(np.allclose(a, b, rtol=_TOLERANCE, atol=1e-7 * largest))


def _sha256(view: View) -> str:
    files = view.source.files
    digest = _digest(files)
    if not files:
        photo = view.load()
        for tensor in (photo.rgb, photo.mask, photo.alpha):
            if tensor is not None:
                digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _digest(files: Sequence[Path]) -> "hashlib._Hash":
    digest = hashlib.sha256()
    for path in files:
        try:
            with open(path, "rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}; check the file") from error
    return digest
