"""What the page can do to a cloud: filters, the crop box, thinning out for the browser, saving."""

from dataclasses import dataclass
from pathlib import Path

import torch

from splat import formats
from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.coding.importance import importance
from splat.errors import InputError

# WebGL sorts every Gaussian at every motion; above this number a page of an ordinary laptop stutters.
BROWSER_LIMIT = 500_000


@dataclass(frozen=True)
class Edits:
    """Which Gaussians stay.

    Attributes:
        min_opacity: fainter ones go.
        max_scale: those whose longest axis is longer go, world units; None keeps all.
        box: (low, high) corners of the crop box, world units; None keeps all.
    """

    min_opacity: float = 0.0
    max_scale: float | None = None
    box: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None


def apply(cloud: GaussianCloud, edits: Edits) -> GaussianCloud:
    """The Gaussians of ``cloud`` that ``edits`` leave, in their order."""
    if edits == Edits():
        return cloud
    keep = torch.ones(len(cloud), dtype=torch.bool, device=cloud.device)
    if edits.min_opacity > 0:
        keep &= cloud.opacities >= edits.min_opacity
    if edits.max_scale is not None:
        keep &= cloud.scales.amax(1) <= edits.max_scale
    if edits.box is not None:
        low, high = (cloud.means.new_tensor(corner) for corner in edits.box)
        keep &= ((cloud.means >= low) & (cloud.means <= high)).all(1)
    return cloud.select(keep)


def thin(cloud: GaussianCloud, limit: int = BROWSER_LIMIT) -> GaussianCloud:
    """The ``limit`` Gaussians of most opacity × area, in their order."""
    if len(cloud) <= limit:
        return cloud
    rows = torch.from_numpy(importance(GaussianArrays.of(cloud), 1e12)).topk(limit).indices.sort().values
    return cloud.select(rows.to(cloud.device))


def inside(folder: Path, name: str) -> Path:
    """The file ``name`` of ``folder``. Raises InputError for a name that is no plain, visible file name."""
    plain = name.strip()
    if not plain or plain.startswith(".") or any(mark in plain for mark in "/\\:\0") or not plain.isprintable():
        raise InputError(f"'{name}' is no plain file name; give one without folders, such as edited.ply")
    target = folder / plain
    if target.is_symlink():
        raise InputError(f"'{name}' is a link, which may lead out of the served folder; choose another name")
    return target


def new_file(folder: Path, name: str) -> Path:
    """The file ``name`` of ``folder``, which is not there yet. Raises InputError."""
    target = inside(folder, name)
    if target.exists():
        raise InputError(f"{target.name} is there already; choose another name")
    return target


def save(cloud: GaussianCloud, folder: Path, name: str) -> Path:
    """Write ``cloud`` as a new file of ``folder`` in the format that ``name`` ends with. Raises InputError."""
    target = new_file(folder, name)
    formats.write(cloud, target)
    return target
