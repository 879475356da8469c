"""`load`: from a path to a `Scene`, whatever lies there."""

import math
from pathlib import Path

from splat.errors import InputError
from splat.scene.build import LoadOptions, build
from splat.scene.colmap import find_model, read_colmap
from splat.scene.scene import Scene


def load(
    path: str | Path,
    downscale: float | None = None,
    max_side: int | None = None,
    progress=True,
    test_every: int = 8,
    alpha: str = "auto",
    masks: bool = True,
) -> Scene:
    """Read the scene in ``path``, finding out itself what it is."""
    root = Path(path).expanduser()
    factor = 1.0 if downscale is None else float(downscale)
    if not (math.isfinite(factor) and factor >= 1):
        raise InputError(f"the downscale factor is {downscale}, expected 1 (as is) or more; give for example 2")
    options = LoadOptions(factor, max_side, test_every, alpha, masks)
    if not root.exists():
        raise InputError(f"{root} does not exist; give the folder of a scene")
    model = find_model(root)
    if model is None:
        raise InputError(f"{root} holds no COLMAP model")
    raw = read_colmap(root, model, factor)
    return build(raw, options)
