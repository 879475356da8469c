"""``splat eval-mesh``: how near a mesh is to a reference."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from splat.cli.console import console, heading, parse, require, say, table
from splat.cli.eval_mesh_benchmark import run_benchmark
from splat.cli.eval_mesh_options import EvalMesh, numbers, similarity_as_dict, transform_of
from splat.cli.mesh import box_of
from splat.cli.results import present
from splat.errors import InputError

if TYPE_CHECKING:
    from splat.surface.evaluation.metrics import SurfaceScores
    from splat.surface.evaluation.registration import Similarity
    from splat.surface.mesh.mesh import Mesh

FRACTIONS = (0.0025, 0.005, 0.01, 0.02)  # default thresholds, in diagonals of the reference
BRIGHTEST = 0.02  # of the diagonal: the error drawn in the brightest colour


def run(arguments: Sequence[str]) -> None:
    """Run ``splat eval-mesh``."""
    options = parse("eval-mesh", EvalMesh, arguments)
    if options.benchmark is not None:
        run_benchmark(options)
        return
    for name in ("observed", "ground", "crop"):
        if getattr(options, name) is not None:
            raise InputError(f"--{name} belongs to a benchmark; add --benchmark {'tnt' if name == 'crop' else 'dtu'}")
    from splat.surface.evaluation import metrics
    from splat.surface.mesh import mesh_io

    box = None if options.box is None else box_of(options.box)
    if options.save is not None:
        mesh_io.check_suffix(options.save)
    mesh, reference = mesh_io.read(require(options.mesh, "mesh")), mesh_io.read(require(options.reference, "mesh"))
    low, high = (box[:3], box[3:]) if box else (reference.vertices.min(0), reference.vertices.max(0))
    diagonal = float(np.linalg.norm(np.array(high) - np.array(low)))
    thresholds = [each * diagonal for each in FRACTIONS] if options.thresholds is None else numbers(options.thresholds)
    mesh, moved = _aligned(options, mesh, reference, diagonal)
    points, true = _samples(options, mesh, reference, thresholds, box, diagonal)
    scores = metrics.compare(points, true, thresholds)
    if options.save is not None:
        mesh_io.write(options.save, metrics.error_coloured(mesh, true, BRIGHTEST * diagonal))
    facts = _as_dict(options, scores, diagonal, moved)
    present(facts, options.json, lambda: _show(options, scores, diagonal))


def _samples(options: EvalMesh, mesh: "Mesh", reference: "Mesh", thresholds: list[float], box, diagonal: float):
    """Points on the mesh and on the reference that are compared, (M, 3) and (K, 3)."""
    from splat.scene import load_scene
    from splat.surface.evaluation import metrics

    spacing, reach = min(thresholds) / 2, max(thresholds)
    low, high = (box[:3], box[3:]) if box else (reference.vertices.min(0), reference.vertices.max(0))
    # What sticks out of the reference's bounds by more than the largest threshold is another matter, unless asked for.
    wide = tuple(np.concatenate([np.array(low) - reach, np.array(high) + reach]))
    points, true = metrics.sample(mesh, spacing, wide), metrics.sample(reference, spacing, box)
    if options.scene is not None:
        scene = load_scene(require(options.scene, "scene"), max_side=640)
        sight = metrics.Sight.of(reference, [view.camera for view in scene.train_views])
        points, true = points[sight.seen(points, reach)], true[sight.seen(true, 0.002 * diagonal)]
    return points, true


def _aligned(options: EvalMesh, mesh: "Mesh", reference: "Mesh", diagonal: float) -> tuple["Mesh", "Similarity | None"]:
    """The mesh in the reference's frame, and the similarity that brought it there (None if it was left alone)."""
    from splat.surface.evaluation import metrics, registration
    from splat.surface.mesh.mesh import Mesh

    moved = transform_of(options)
    if options.align != "none":
        spacing = diagonal / 200
        target = registration.voxel_downsample(metrics.sample(reference, spacing), spacing)
        fine = spacing / max(moved.scale, 1e-12)
        source = registration.voxel_downsample(metrics.sample(mesh, fine), fine)
        for reach in (0.1, 0.03, 0.01):
            moved = registration.icp(source, target, reach * diagonal, moved, options.align == "similarity")
    elif options.transform is None:
        return mesh, None
    return Mesh(moved.apply(mesh.vertices), mesh.faces, mesh.colours), moved


def _show(options: EvalMesh, scores: "SurfaceScores", diagonal: float) -> None:
    heading(f"{options.mesh} against {options.reference}")
    rows = [
        (f"{f.threshold:.4g}", f"{f.threshold / diagonal:.2%}", f"{f.precision:.4f}", f"{f.recall:.4f}", f"{f.f1:.4f}")
        for f in scores.f_scores
    ]
    console.print(table(("threshold", "of diagonal", "precision", "recall", "F1"), rows, numeric=range(5)))
    say(f"accuracy {scores.accuracy:.4g}, completeness {scores.completeness:.4g}, chamfer {scores.chamfer:.4g}")
    say(f"{scores.points[0]:,} and {scores.points[1]:,} points compared; diagonal {diagonal:.4g}", "dim")
    if options.save is not None:
        say(f"{options.save}: coloured from black (no error) to yellow ({BRIGHTEST:.0%} of the diagonal and more)")


def _as_dict(options: EvalMesh, scores: "SurfaceScores", diagonal: float, moved: "Similarity | None") -> dict:
    return {
        "mesh": str(options.mesh),
        "reference": str(options.reference),
        "accuracy": scores.accuracy,
        "completeness": scores.completeness,
        "chamfer": scores.chamfer,
        "diagonal": diagonal,
        "points": list(scores.points),
        "f": [
            {"threshold": f.threshold, "precision": f.precision, "recall": f.recall, "f1": f.f1}
            for f in scores.f_scores
        ],
        "aligned": None if moved is None else similarity_as_dict(moved),
    }
