"""Where other trainers leave their clouds: the newest one in a folder of results."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from splat import formats
from splat.errors import InputError

_NUMBER = re.compile(r"(.*?)(\d+)(\D*)")
_STEP = re.compile(r"\D*(\d+)\D*")
# Point clouds and meshes that lie beside clouds.
_OTHERS = re.compile(r"(input|points3d|sparse_pc|sparse|mesh.*|fuse.*|tsdf.*)\.ply", re.IGNORECASE)
_SCENE_NAMES = (
    "transforms*.json", "sparse", "colmap", "images", "images_*", "cameras.bin", "cameras.txt", "*.jpg", "*.jpeg",
    "*.JPG", "*.JPEG", "*.png", "*.PNG",
)  # fmt: skip
_MOST_FILES = 2000  # whose headers are looked at in one folder


@dataclass(frozen=True)
class NewestCloud:
    """A cloud in a folder, and why it was taken, for people."""

    path: Path
    reason: str


def newest_cloud(folder: Path) -> NewestCloud | None:
    """The newest cloud in a folder of results of the original 3DGS code and its relatives, gsplat, nerfstudio, or one
    of numbered clouds (LichtFeld Studio, Brush); also the only cloud of a folder. None for scenes and other folders.
    """
    try:
        if any(next(folder.glob(pattern), None) is not None for pattern in _SCENE_NAMES):
            return None
        for find in (_iterations, _gsplat, _nerfstudio, _numbered):
            if (result := find(folder)) is not None:
                return result
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror or error}); check its permissions") from error
    return None


def _iterations(folder: Path) -> NewestCloud | None:
    """``point_cloud/iteration_30000/point_cloud.ply`` of the original code."""
    for top in (folder / "point_cloud", folder):
        found = _by_number(top.glob("iteration_*/point_cloud.ply"), lambda path: path.parent.name)
        if found:
            return _newest(folder, found, "iterations")
    return None


def _gsplat(folder: Path) -> NewestCloud | None:
    """``ply/point_cloud_29999.ply`` and ``ckpts/ckpt_29999_rank0.pt`` of gsplat."""
    found = _by_number(folder.glob("ckpts/ckpt_*.pt"), lambda path: path.stem.split("_rank")[0])
    found = {number: next(folder.glob(f"ckpts/ckpt_{number}_rank0.pt"), path) for number, path in found.items()}
    found |= _by_number(folder.glob("ply/point_cloud_*.ply"), lambda path: path.stem)
    return _newest(folder, found, "steps") if found else None


def _nerfstudio(folder: Path) -> NewestCloud | None:
    """``nerfstudio_models/step-000029999.ckpt``, of the newest run in ``outputs/SCENE/splatfacto/DATE``."""
    for pattern in ("nerfstudio_models", "*/nerfstudio_models", "*/*/nerfstudio_models"):
        runs = sorted(folder.glob(pattern), key=lambda models: models.parent.name)
        if runs:
            found = _by_number(runs[-1].glob("step-*.ckpt"), lambda path: path.stem)
            return _newest(folder, found, "steps") if found else None
    return None


def _numbered(folder: Path) -> NewestCloud | None:
    """``export_30000.ply`` and its like, all of one name but for the number; or the only cloud there is."""
    files = sorted(_clouds_of(folder))
    matches = [(path, _NUMBER.fullmatch(path.name)) for path in files]
    if len({path.name.split(".")[0] for path in files}) == 1:
        path = min(files, key=lambda path: path.suffix.lower() != ".ply")
        return NewestCloud(path, f"{path.name} is read, the only cloud there")
    if not files or any(match is None for _, match in matches) or len({match[1] for _, match in matches}) > 1:
        return None
    found: dict[int, Path] = {}
    for path, match in matches:
        number = int(match[2])
        if number not in found or path.suffix.lower() == ".ply":
            found[number] = path
    return _newest(folder, found, "numbered clouds")


def _clouds_of(folder: Path) -> Iterator[Path]:
    """Files directly in ``folder`` that hold Gaussians, as far as their beginnings tell."""
    for looked_at, path in enumerate(folder.iterdir()):
        if looked_at >= _MOST_FILES:
            return
        if (
            path.is_file()
            and formats.ending(path)
            and not _OTHERS.fullmatch(path.name)
            and not path.name.endswith("json")
        ):
            try:
                if formats.recognise(path).name not in ("points", "checkpoint"):
                    yield path
            except InputError:
                continue


def _by_number(paths: Iterator[Path], name) -> dict[int, Path]:
    """Files by the number in their names."""
    matches = ((path, _STEP.fullmatch(name(path))) for path in paths if path.is_file())
    return {int(match[1]): path for path, match in matches if match is not None}


def _newest(folder: Path, found: dict[int, Path], what: str) -> NewestCloud:
    path = found[max(found)]
    of = f", the newest of {len(found)} {what}" if len(found) > 1 else ""
    return NewestCloud(path, f"{path.relative_to(folder)} is read{of}")
