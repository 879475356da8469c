"""``splat eval-mesh``: how near a mesh is to a reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from splat.cli.console import console, emit_json, heading, parse, require, say, table
from splat.cli.mesh import box_of
from splat.errors import InputError

SHARES = (0.0025, 0.005, 0.01, 0.02)  # thresholds in diagonals of the reference
COLOURED = 0.02  # of the diagonal: the error drawn in the brightest colour


@dataclass(frozen=True)
class EvalMesh:
    """Compare a mesh with a reference mesh: accuracy, completeness, chamfer distance and F1."""

    mesh: tyro.conf.Positional[Path]
    """Mesh to judge (.ply, .obj, .glb, .stl)."""
    reference: tyro.conf.Positional[Path]
    """Mesh that is true."""
    thresholds: str | None = None
    """Distances for F1 in world units, such as 0.01,0.02; by default ¼, ½, 1 and 2 % of the reference's diagonal."""
    scene: Path | None = None
    """Scene whose cameras say what could be seen: only that counts."""
    box: str | None = None
    """Judge only this box: x0,y0,z0,x1,y1,z1."""
    align: Literal["none", "rigid", "similarity"] = "none"
    """Move the mesh onto the reference first, by iterated closest points."""
    transform: Path | None = None
    """Text file with the 4×4 matrix from the mesh's frame to the reference's, applied first."""
    save: Path | None = None
    """Write the mesh coloured by its error (.ply, .glb) to this file."""
    json: Path | None = None
    """Write the scores to this file; - is standard output, without the table."""


def run(arguments: Sequence[str]) -> None:
    """Run ``splat eval-mesh``."""
    options = parse("eval-mesh", EvalMesh, arguments)
    from splat.surface.evaluation import metrics
    from splat.surface.mesh import mesh_io

    box = None if options.box is None else box_of(options.box)
    if options.save is not None:
        mesh_io.check_suffix(options.save)
    mesh, reference = mesh_io.read(require(options.mesh, "mesh")), mesh_io.read(require(options.reference, "mesh"))
    low, high = (box[:3], box[3:]) if box else (reference.vertices.min(0), reference.vertices.max(0))
    diagonal = float(np.linalg.norm(np.array(high) - np.array(low)))
    thresholds = [share * diagonal for share in SHARES] if options.thresholds is None else _numbers(options.thresholds)
    spacing, reach = min(thresholds) / 2, max(thresholds)
    mesh, moved = _aligned(options, mesh, reference, diagonal)
    # What sticks out of the reference's bounds by more than the largest threshold is another matter, unless asked for.
    wide = tuple(np.concatenate([np.array(low) - reach, np.array(high) + reach]))
    own, true = metrics.sample(mesh, spacing, wide), metrics.sample(reference, spacing, box)
    if options.scene is not None:
        sight = metrics.Sight.of(reference, _cameras(options.scene))
        own, true = own[sight.seen(own, reach)], true[sight.seen(true, 0.002 * diagonal)]
    scores = metrics.compare(own, true, thresholds)
    if options.save is not None:
        mesh_io.write(options.save, metrics.error_coloured(mesh, true, COLOURED * diagonal))
    if options.json is not None:
        emit_json(_as_dict(options, scores, diagonal, moved), options.json)
        if str(options.json) == "-":
            return
    heading(f"{options.mesh} against {options.reference}")
    rows = [
        (f"{f.threshold:.4g}", f"{f.threshold / diagonal:.2%}", f"{f.precision:.4f}", f"{f.recall:.4f}", f"{f.f1:.4f}")
        for f in scores.f_scores
    ]
    console.print(table(("threshold", "of diagonal", "precision", "recall", "F1"), rows, numeric=range(5)))
    say(f"accuracy {scores.accuracy:.4g}, completeness {scores.completeness:.4g}, chamfer {scores.chamfer:.4g}")
    say(f"{scores.points[0]:,} and {scores.points[1]:,} points compared; diagonal {diagonal:.4g}", "dim")
    if options.save is not None:
        say(f"{options.save}: coloured from black (no error) to yellow ({COLOURED:.0%} of the diagonal and more)")


def _numbers(text: str) -> list[float]:
    try:
        values = sorted(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        values = []
    if not values or values[0] <= 0:
        raise InputError(f"--thresholds is '{text}', expected distances such as 0.01,0.02")
    return values


def _aligned(options: EvalMesh, mesh, reference, diagonal: float):
    """The mesh in the reference's frame, and the similarity that brought it there (None if it was left alone)."""
    from splat.surface.evaluation import metrics, registration
    from splat.surface.mesh.mesh import Mesh

    moved = registration.Similarity.identity()
    if options.transform is not None:
        try:
            matrix = np.loadtxt(require(options.transform, "file"), dtype=np.float64).reshape(4, 4)
        except ValueError as error:
            raise InputError(f"{options.transform} does not hold 16 numbers ({error}); give a 4×4 matrix") from error
        moved = registration.Similarity.of_matrix(matrix)
    if options.align != "none":
        spacing = diagonal / 200
        target = registration.thin(metrics.sample(reference, spacing), spacing)
        own = registration.thin(
            metrics.sample(mesh, spacing / max(moved.scale, 1e-12)), spacing / max(moved.scale, 1e-12)
        )
        for reach in (0.1, 0.03, 0.01):
            moved = registration.icp(own, target, reach * diagonal, moved, options.align == "similarity")
    elif options.transform is None:
        return mesh, None
    return Mesh(moved.apply(mesh.vertices), mesh.faces, mesh.colours), moved


def _cameras(path: Path) -> list:
    from splat.scene import load_scene

    return [view.camera for view in load_scene(require(path, "scene"), max_side=640).train_views]


def _as_dict(options: EvalMesh, scores, diagonal: float, moved) -> dict:
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
        "aligned": None
        if moved is None
        else {"scale": moved.scale, "rotation": moved.rotation.tolist(), "translation": moved.translation.tolist()},
    }
