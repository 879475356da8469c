"""``splat train PHOTOS --sfm-only``: finds the cameras of bare photos, keeps them, and stops."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from splat.cli.checks import require
from splat.cli.console import console, grid, heading, literal, say
from splat.cli.inputs import of_scene
from splat.cli.results import present
from splat.errors import InputError

if TYPE_CHECKING:
    from splat.scene import Scene
    from splat.training.config.config import TrainConfig


def run(config: "TrainConfig", resume: bool, json: Path | None) -> None:
    """Find the cameras of the scene that ``config`` names, or take the ones that were found before."""
    from splat.scene import load_scene

    if resume:
        raise InputError("--sfm-only starts no run, so there is none to resume; leave out --resume")
    if config.priors.reconstruct:
        raise InputError(
            "--sfm-only finds cameras by structure from motion, but --priors.reconstruct names a function that gives "
            "them; leave out one of the two"
        )
    path = require(Path(config.scene.path), "scene")
    scene = load_scene(path, **of_scene(config.scene))
    facts = camera_facts(path, scene)
    present(facts, json, lambda: _show(facts))


def camera_facts(path: Path, scene: "Scene") -> dict[str, Any]:
    """What is known of the cameras of ``scene``, read from ``path``."""
    from splat.scene.scene import photo_count

    found = scene.registration
    facts: dict[str, Any] = {"path": str(path), "layout": scene.kind, "given": found is None}
    if found is None:
        return facts | {"registered": photo_count(scene.views), "points": len(scene.points)}
    return facts | {
        "photos": found.photos,
        "registered": found.registered,
        "points": found.points,
        "reprojection_pixels": found.error,
        "field_of_view_degrees": list(found.angles),
        "left_out": list(found.left_out),
        "kept_in": str(found.folder),
        "notes": list(scene.notes),
    }


def _show(facts: dict[str, Any]) -> None:
    if facts["given"]:
        return say(f"the cameras of {facts['path']} were given with it ({facts['layout']}); there are none to find")
    low, high = min(facts["field_of_view_degrees"]), max(facts["field_of_view_degrees"])
    rows = [
        ("registered", f"{facts['registered']} of {facts['photos']} photos"),
        ("points", f"{facts['points']:,}"),
        ("reprojection", f"{facts['reprojection_pixels']:.2f} pixels"),
        ("field of view", f"{low:.1f}°" if high - low < 0.05 else f"{low:.1f}° to {high:.1f}°"),
        ("kept in", literal(facts["kept_in"])),
    ]
    rows += [("note", literal(note)) for note in facts["notes"]]
    heading(facts["path"])
    console.print(grid(rows))
