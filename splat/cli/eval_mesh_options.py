"""Options of ``splat eval-mesh``, and what its files and numbers say."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import tyro

from splat.cli.checks import require
from splat.errors import InputError

if TYPE_CHECKING:
    from splat.surface.evaluation.registration import Similarity


@dataclass(frozen=True)
class EvalMesh:
    """Compare a mesh with a reference: accuracy, completeness, chamfer distance and F1.

    With --benchmark the protocol of DTU or of Tanks and Temples is followed, on the files which these publish.
    """

    mesh: tyro.conf.Positional[Path]
    """Mesh to evaluate (.ply, .obj, .glb, .stl)."""
    reference: tyro.conf.Positional[Path]
    """Ground truth: a mesh, or with --benchmark the scan's points (.ply)."""
    thresholds: str | None = None
    """Distances for F1 in world units, such as 0.01,0.02; by default ¼, ½, 1 and 2 % of the reference's diagonal, with
    --benchmark tnt the published one of the scene that the reference's file is named after."""
    scene: Path | None = None
    """Scene whose cameras decide which surface is visible and counts. With --benchmark dtu, its masks cut the mesh."""
    box: str | None = None
    """Evaluate only this box: x0,y0,z0,x1,y1,z1 in world units."""
    align: Literal["none", "rigid", "similarity"] = "none"
    """Move the mesh onto the reference first, by iterated closest points (ICP)."""
    transform: Path | None = None
    """Text file with the 4×4 matrix from the mesh's frame to the reference's, applied first."""
    benchmark: Literal["dtu", "tnt"] | None = None
    """Follow a benchmark's protocol: DTU (Jensen et al. 2014; millimetres), or Tanks and Temples (Knapitsch et al.
    2017; ICP from --transform, then F1)."""
    observed: Path | None = None
    """DTU: the observability mask, ObsMask<scan>_10.mat; what lies outside does not count."""
    ground: Path | None = None
    """DTU: the ground plane, Plane<scan>.mat; points of the scan below do not count."""
    crop: Path | None = None
    """Tanks and Temples: the crop volume, <Scene>.json; what lies outside does not count."""
    save: Path | None = None
    """Write the mesh coloured by its error (.ply, .glb) to this file."""
    json: Path | None = None
    """Write the scores as JSON to this file; - is standard output, without the table."""


def numbers(text: str) -> list[float]:
    """The thresholds in ``text``, ascending. Raises InputError."""
    try:
        values = sorted(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        values = []
    if not values or values[0] <= 0:
        raise InputError(f"--thresholds is '{text}', expected distances such as 0.01,0.02")
    return values


def transform_of(options: EvalMesh) -> "Similarity":
    """The similarity in the file ``--transform``; identity without one. Raises InputError."""
    from splat.surface.evaluation.registration import Similarity

    if options.transform is None:
        return Similarity.identity()
    try:
        matrix = np.loadtxt(require(options.transform, "file"), dtype=np.float64).reshape(4, 4)
    except ValueError as error:
        raise InputError(f"{options.transform} does not hold 16 numbers ({error}); give a 4×4 matrix") from error
    return Similarity.of_matrix(matrix)


def similarity_as_dict(moved: "Similarity") -> dict:
    """For JSON."""
    return {"scale": moved.scale, "rotation": moved.rotation.tolist(), "translation": moved.translation.tolist()}
