"""The built-in demo scene: a still life with exact geometry, drawn by ourselves, in COLMAP layout.

It needs no download and no licence, and is hard where photographs are hard: fine texture, highlights that move with
the eye, wires, spindles and leaves a few pixels wide, soft shadows.
"""

from collections.abc import Callable
from pathlib import Path

from splat.errors import InputError
from splat.machine import usable_cores

MIN_VIEWS = 8
MIN_WIDTH = 64


def make(
    folder: str | Path,
    views: int = 64,
    width: int = 640,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the demo scene into ``folder`` and return it.

    The folder gets ``images/0000.png`` …, ``sparse/0/*.bin`` (exact poses; exact surface points with the views that
    see them, keypoints with a detector's noise of 0.3 px), ``mesh_gt.ply`` (every triangle that some view shows, in
    the frame of the cameras) and ``meta.json``. Equal arguments give equal files.

    Args:
        views: number of pictures, at least 8.
        width: of a picture in pixels, at least 64; its height is ¾ of that.
        seed: of the plant, the cameras and the points.
        progress: called with (pictures done, pictures in all).

    Raises:
        InputError: an argument is out of range, or the folder holds other files or cannot be written.
    """
    if views < MIN_VIEWS or width < MIN_WIDTH:
        raise InputError(
            f"the demo scene was asked for {views} views of width {width}; give at least {MIN_VIEWS} and {MIN_WIDTH}"
        )
    from splat.scene.demo import making

    return making.make(Path(folder), views, width, seed, progress or (lambda done, total: None), min(usable_cores(), 8))
