"""Meshes of one cloud by several methods: F1 against a reference, silhouettes against masks, colours between views.

    python tools/bench_mesh.py RUN --scene SCENE [--reference MESH] [--methods stereo,median] [--masks object]

Columns: seconds and memory; F1 within ½ and 1 % of the diagonal of --box (or of the reference), of what the cameras
see; IoU of the mesh's silhouettes with the held-out masks; mean deviation of the photos' colours at the mesh's vertices
between the views that see them (grey levels); faces, and pieces dropped; with --depths DIR (exact z-depth of each photo
as a 16-bit PNG of its name, 5000 a unit) the error of the fused depth maps. --save DIR keeps the meshes.
"""

import argparse
import resource
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from splat.cli.inputs import open_cloud
from splat.cli.mesh import box_of
from splat.depth.depth_maps import DepthMap, DepthMapStore
from splat.rendering import RenderOptions
from splat.scene import Scene, load_scene
from splat.surface.cameras import scene_cameras
from splat.surface.evaluation import metrics
from splat.surface.mesh import draw, mesh_io
from splat.surface.mesh.mesh import Mesh
from splat.surface.mesh.vertex_colours import visible
from splat.surface.options import MeshOptions
from splat.surface.pipeline import mesh_cloud


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--scene", type=Path, required=True)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--methods", default="stereo,median,expected,plane")
    parser.add_argument("--box", type=box_of)
    parser.add_argument("--masks", default="ignore", choices=("ignore", "object"))
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--truncation", type=float)
    parser.add_argument("--max-side", type=int, default=800)
    parser.add_argument("--depths", type=Path)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    subject, scene = open_cloud(given.run), load_scene(given.scene, progress=False)
    cameras, masks = scene_cameras(scene, with_masks=given.masks == "object")
    drawing = RenderOptions(background=subject.background, antialiased=subject.antialiased)
    judge = None if given.reference is None else Judge(mesh_io.read(given.reference), cameras, given.box)
    for method in given.methods.split(","):
        options = MeshOptions(
            method=method, box=given.box, masks=given.masks, resolution=given.resolution, pairs=given.pairs,
            max_side=given.max_side, truncation=given.truncation,
        )  # fmt: skip
        start = time.perf_counter()
        result = mesh_cloud(subject.cloud, cameras, options, drawing, masks)
        seconds = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if given.save is not None:
            mesh_io.write(given.save / f"{method}.ply", result.mesh)
        columns = [f"{method:9s} {seconds:6.1f} s {memory:6.0f} MB", f"{len(result.mesh.faces):9,} faces"]
        columns.append(f"{result.dropped:5d} dropped")
        if judge is not None:
            columns.append(judge.line(result.mesh))
        iou = silhouettes(result.mesh, scene)
        if iou is not None:
            columns.append(f"IoU {iou[0]:.4f} (least {iou[1]:.4f})")
        columns.append(f"colours {photometric(result.mesh, scene):.2f}")
        if given.depths is not None:
            columns.append(depth_errors(result.maps, [given.depths / view.name for view in scene.train_views]))
        print(" | ".join(columns), flush=True)


def depth_errors(maps: DepthMapStore, truths: list[Path]) -> str:
    """How far the fused depth maps are from the exact ones, where both know one."""
    errors, known, there = [], 0, 0
    for index, path in enumerate(truths):
        own = maps[index]
        truth = cv2.imread(str(path.with_suffix(".png")), cv2.IMREAD_UNCHANGED).astype(np.float32) / 5000
        truth = cv2.resize(truth, (own.camera.width, own.camera.height), interpolation=cv2.INTER_NEAREST)
        both = own.known & (truth > 0)
        errors.append(np.abs(own.depth[both] / truth[both] - 1))
        known, there = known + both.sum(), there + (truth > 0).sum()
    middle, most = 100 * np.quantile(np.concatenate(errors), [0.5, 0.9])
    return f"depth off by {middle:.2f} % (median), {most:.2f} % (90 %), known at {100 * known / there:.0f} % of pixels"


class Judge:
    """A reference, and what the cameras see of it."""

    def __init__(self, reference: Mesh, cameras: list, box) -> None:
        self.reference = reference
        low, high = (box[:3], box[3:]) if box else (reference.vertices.min(0), reference.vertices.max(0))
        self.diagonal = float(np.linalg.norm(np.subtract(high, low)))
        self.box = (*low, *high)
        small = [each.resized(400, max(1, round(400 * each.height / each.width))) for each in cameras[::2]]
        self.sight = metrics.Sight.of(reference, small)

    def line(self, mesh: Mesh) -> str:
        reach = 0.01 * self.diagonal
        wide = tuple(np.array(self.box) + np.repeat([-reach, reach], 3))
        own, true = metrics.sample(mesh, reach / 4, wide), metrics.sample(self.reference, reach / 4, self.box)
        own, true = own[self.sight.seen(own, reach)], true[self.sight.seen(true, 0.002 * self.diagonal)]
        scores = metrics.compare(own, true, [reach / 2, reach])
        half, whole = scores.f_scores
        return f"F1 {half.f1:.3f} {whole.f1:.3f} (precision {whole.precision:.3f}, recall {whole.recall:.3f})"


def silhouettes(mesh: Mesh, scene: Scene) -> tuple[float, float] | None:
    """Mean and least IoU of the drawn mesh with the masks of the held-out views; None without masks."""
    found = []
    for view in scene.test_views:
        mask = view.load().mask
        if mask is not None:
            drawn = draw.draw(mesh, view.camera).face >= 0
            found.append((drawn & mask.numpy()).sum() / max((drawn | mask.numpy()).sum(), 1))
    return (float(np.mean(found)), float(np.min(found))) if found else None


def photometric(mesh: Mesh, scene: Scene, points: int = 40_000, most: int = 12) -> float:
    """Mean over vertices of the deviation of the photos' colours between views, grey levels; sees its own occlusion."""
    rng = np.random.default_rng(0)
    some = mesh.vertices[rng.choice(len(mesh.vertices), min(points, len(mesh.vertices)), replace=False)]
    count, total, squares = np.zeros(len(some)), np.zeros((len(some), 3)), np.zeros((len(some), 3))
    views = scene.train_views
    for view in views[:: max(1, len(views) // most)]:
        camera = view.camera.resized(400, max(1, round(400 * view.camera.height / view.camera.width)))
        photo = cv2.resize(view.load().rgb.numpy(), (camera.width, camera.height), interpolation=cv2.INTER_AREA)
        depth = draw.draw(mesh, camera).depth
        index, row, column, _ = visible(some, DepthMap(camera, depth, depth, photo), 0.01)
        colour = photo[row, column].astype(np.float64)
        count[index] += 1
        total[index] += colour
        squares[index] += colour**2
    use = count >= 3
    mean = total[use] / count[use, None]
    variance = np.maximum(squares[use] / count[use, None] - mean**2, 0)
    return float(np.sqrt(variance.mean(1)).mean())


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
