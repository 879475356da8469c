"""From surfaces to files."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splat.errors import InputError
from splat.files import write_json
from splat.images import write_image
from splat.scene.demo import still_life
from splat.scene.demo.bake import assemble, bake, in_order
from splat.scene.demo.colmap import Sighting, sighting, surface_points, write_mesh, write_model
from splat.scene.demo.views import picture, poses, see
from splat.triangle_raster import NOTHING

PARTS = ("images", "sparse", "mesh_gt.ply", "meta.json")


def make(folder: Path, count: int, width: int, seed: int, progress: Callable[[int, int], None], workers: int) -> Path:
    """See `splat.scene.demo.make`; ``workers`` threads draw."""
    with whole_folder(folder) as temporary:
        patches = still_life.build(seed)
        mesh = assemble(patches)
        texture = bake(patches, mesh, workers)
        cameras = poses(count, width, seed)
        points = surface_points(patches, mesh, seed)
        names = [f"{index:04d}.png" for index in range(count)]
        (temporary / "images").mkdir()

        def draw(index: int) -> tuple[Sighting, NDArray]:
            pose = cameras[index]
            seen, projected = see(mesh, pose)
            image = picture(patches, mesh, texture, pose, seen, projected)
            write_image(temporary / "images" / names[index], image, compress_level=4)
            shown = np.bincount(seen.face[seen.face != NOTHING], minlength=len(mesh.faces)) > 0
            return sighting(points, pose, seen, image, seed=seed * count + index), shown

        sightings, shown = [], np.zeros(len(mesh.faces), bool)
        for sight, faces in in_order(draw, range(count), workers):
            sightings.append(sight)
            shown |= faces
            progress(len(sightings), count)
        kept, track = write_model(temporary / "sparse" / "0", names, cameras, points, sightings)
        write_mesh(temporary / "mesh_gt.ply", mesh, shown)
        write_json(temporary / "meta.json", {
            "name": "demo", "images": count, "size": [[cameras[0].width, cameras[0].height]], "points": kept,
            "mean_track": round(track, 2), "seed": seed, "test_images": names[::8], "up": [0, 0, 1], "unit": "metre",
            "source": "made by splat.scene.demo", "license": "Apache-2.0", "poses": "exact",
            "ground_truth": "mesh_gt.ply: the triangles that were drawn and that some picture shows",
        })  # fmt: skip
    return folder


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder whose parts move into ``folder`` at the end, so that a scene is there whole or not at all.

    An older demo scene there is replaced; a folder with anything else in it is refused.
    """
    if folder.exists() and (not folder.is_dir() or any(item.name not in PARTS for item in folder.iterdir())):
        raise InputError(f"{folder} already holds other files; choose a new or empty folder for the demo scene")
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        temporary.chmod(0o755)
        yield temporary
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except OSError as error:
        raise InputError(
            f"cannot write {folder}: {error.strerror or error}; choose another place or free some space"
        ) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary)
