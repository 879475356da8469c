"""``splat info``: says what is in a cloud, a scene or a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splat.cli.console import console, grid, heading, literal, table
from splat.cli.inputs import cloud_file, kind_of
from splat.cli.plain_parser import parse
from splat.cli.results import present
from splat.cli.spinner import waiting
from splat.text import amount, duration, printable, score

if TYPE_CHECKING:
    from splat.cloud_arrays import GaussianArrays
    from splat.scene.registration import Unregistered

QUANTILES = (0.0, 0.01, 0.5, 0.99, 1.0)


@dataclass(frozen=True)
class Info:
    """Describe a cloud (any format), a scene, or a run: counts, sizes, bounds, statistics."""

    path: Path
    """Cloud file, scene folder or video, or run folder."""
    json: Path | None = None
    """Write the same facts as JSON to this file; - is standard output, without the tables."""


def run(arguments: Sequence[str]) -> None:
    """Run ``splat info``."""
    options = parse("info", Info, arguments)
    describe, show = {
        "cloud": (cloud_facts, show_cloud),
        "scene": (scene_facts, show_scene),
        "run": (run_facts, show_run),
    }[kind_of(options.path)]
    with waiting(f"reading {options.path.name}"):
        facts = describe(options.path)
    present(facts, options.json, lambda: show(facts))


# ---- clouds ----


def cloud_facts(path: Path) -> dict[str, Any]:
    """What a cloud file holds. Statistics leave non-finite Gaussians out."""
    from splat import formats
    from splat.coding.attributes import alphas, finite

    path = cloud_file(path)
    entry = formats.recognise(path)
    cloud = formats.read_table(path)
    kept = finite(cloud)
    good = cloud if kept.all() else cloud.select(kept)
    size = sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size
    facts: dict[str, Any] = {
        "kind": "cloud",
        "path": str(path),
        "format": entry.name,
        "format_description": entry.description,
        "bytes": size,
        "gaussians": len(cloud),
        "sh_degree": cloud.sh_degree,
        "antialiased": formats.antialiased(path, entry.name),
        "georeference": cloud.local().georeference.as_json(),
        "not_finite": len(cloud) - len(good),
        "extras": {name: list(array.shape[1:]) for name, array in cloud.extras.items()},
        "notes": list(formats.notes(path, entry.name)),
        "statistics": {},
    }
    if len(good):
        good = good.in_world()
        facts["bounds"] = {"min": good.means.min(0).tolist(), "max": good.means.max(0).tolist()}
        facts["statistics"] = cloud_statistics(good)
        facts["faint"] = int((alphas(good) < 1 / 255).sum())
    return facts


def cloud_statistics(cloud: "GaussianArrays") -> dict[str, list[float]]:
    """Quantiles (as in QUANTILES) of what makes the shape of a cloud."""
    import numpy as np

    from splat.coding.attributes import alphas, scales

    sizes = np.sort(scales(cloud), 1)
    columns = {
        "x": cloud.means[:, 0],
        "y": cloud.means[:, 1],
        "z": cloud.means[:, 2],
        "opacity": alphas(cloud),
        "longest axis": sizes[:, 2],
        "middle axis": sizes[:, 1],
        "shortest axis": sizes[:, 0],
        "longest : shortest": sizes[:, 2] / np.maximum(sizes[:, 0], 1e-30),
    }
    return {name: np.quantile(values.astype(np.float64), QUANTILES).tolist() for name, values in columns.items()}


def _coordinate(value: float) -> str:
    """Four digits, or all before the point and some behind it for what lies far out on a map."""
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.2f}"


def _origin(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The row that says to what the numbers are relative, for what lies far from zero."""
    from splat.coordinates import Georeference

    place = Georeference.of_json(facts["georeference"])
    return [("relative to", str(place))] if place.placed else []


def show_cloud(facts: dict[str, Any]) -> None:
    """Print `cloud_facts`."""
    each = f" ({facts['bytes'] / facts['gaussians']:.1f} bytes each)" if facts["gaussians"] else ""
    rows = [
        ("format", facts["format_description"]),
        ("size", amount(facts["bytes"]) + each),
        (
            "points" if facts["format"] in ("points", "las", "e57", "pcd", "text") else "Gaussians",
            f"{facts['gaussians']:,}",
        ),
        ("SH degree", str(facts["sh_degree"])),
        ("anti-aliased", "yes" if facts["antialiased"] else "no"),
    ]
    rows += _origin(facts)
    if facts["extras"]:
        extras = ", ".join(name + (f" {shape}" if shape else "") for name, shape in facts["extras"].items())
        rows.append(("extras", literal(extras)))
    if facts["not_finite"]:
        rows.append(("not finite", f"[red]{facts['not_finite']:,}[/] (left out below)"))
    if facts.get("faint"):
        rows.append(("invisible", f"{facts['faint']:,} with an opacity below 1/255"))
    rows += [("note", literal(note)) for note in facts["notes"]]
    heading(facts["path"])
    console.print(grid(rows))
    if facts["statistics"]:
        console.print()
        body = [(name, *map(_coordinate, values)) for name, values in facts["statistics"].items()]
        console.print(table(("", "min", "1 %", "median", "99 %", "max"), body, numeric=range(1, 6)))


# ---- scenes ----


def scene_facts(path: Path) -> dict[str, Any]:
    """What a scene holds. Cameras that are not known yet are not looked for."""
    from splat.scene import load_scene
    from splat.scene.registration import CamerasUnknown
    from splat.scene.scene import photo_count

    try:
        scene = load_scene(path, register=False)
    except CamerasUnknown as error:
        return _unregistered_facts(path, error.facts)
    points, cameras = scene.points, {}
    for view in scene.views:
        size = (view.camera.width, view.camera.height)
        cameras.setdefault((*size, round(view.camera.fx, 1), round(view.camera.fy, 1)), []).append(view.name)
    return {
        "kind": "scene",
        "path": str(path),
        "layout": scene.kind,
        "registered": True,
        "photos": photo_count(scene.views),
        "train": photo_count(scene.train_views),
        "held_out": photo_count(scene.test_views),
        "masked": photo_count([view for view in scene.views if view.source.has_mask]),
        "bytes_decoded": scene.nbytes,
        "cameras": [
            {"width": w, "height": h, "fx": fx, "fy": fy, "photos": len(names)}
            for (w, h, fx, fy), names in cameras.items()
        ],
        "points": len(points),
        "points_measured": points.measured,
        "views_per_point": float(points.track_lengths.double().mean()) if len(points) else 0.0,
        "georeference": scene.georeference.as_json(),
        "extent": scene.extent,
        "center": (scene.center.numpy() + scene.georeference.origin).tolist(),
        "up": scene.up.tolist(),
        "notes": list(scene.notes),
    }


def _unregistered_facts(path: Path, known: "Unregistered") -> dict[str, Any]:
    """What photos or a video hold whose cameras are not known yet."""
    return {
        "kind": "scene",
        "path": str(path),
        "layout": known.kind,
        "registered": False,
        "photos": known.photos,
        "sizes": [{"width": w, "height": h, "photos": count} for (w, h), count in known.sizes.items()],
        "masked": known.masked,
        "notes": [printable(note) for note in known.notes],
        "next": known.command,
    }


def _show_unregistered(facts: dict[str, Any]) -> None:
    rows = [("layout", literal(facts["layout"])), ("photos", str(facts["photos"]))]
    sizes = [f"{size['width']}×{size['height']}, {size['photos']} photos" for size in facts["sizes"]]
    rows += [("size", text) for text in sizes[:6]]
    if len(sizes) > 6:
        rows.append(("size", f"and {len(sizes) - 6} more"))
    if facts["masked"]:
        rows.append(("masks", f"on {facts['masked']} photos"))
    rows += [("note", literal(note)) for note in facts["notes"]]
    rows.append(("cameras", f"not known yet; find them with: {literal(facts['next'])}"))
    heading(facts["path"])
    console.print(grid(rows))


def show_scene(facts: dict[str, Any]) -> None:
    """Print `scene_facts`."""
    if not facts["registered"]:
        return _show_unregistered(facts)
    seen = f", each seen in {facts['views_per_point']:.1f} photos" if facts["views_per_point"] else ""
    rows = [
        ("layout", literal(facts["layout"])),
        ("photos", f"{facts['photos']} ({facts['train']} to train on, {facts['held_out']} held out)"),
        (
            "points",
            f"{facts['points']:,}{seen}" if facts["points_measured"] else f"{facts['points']:,} drawn at random",
        ),
        ("extent", f"{facts['extent']:.4g} world units around ({', '.join(_coordinate(x) for x in facts['center'])})"),
        ("decoded", amount(facts["bytes_decoded"])),
    ]
    rows += _origin(facts)
    if facts["masked"]:
        rows.insert(2, ("masks", f"on {facts['masked']} photos"))
    for camera in facts["cameras"][:6]:
        size, focal = f"{camera['width']}×{camera['height']}", f"{camera['fx']:g} × {camera['fy']:g}"
        text = f"{size}, focal {focal} px, {camera['photos']} photos"
        rows.append(("camera", text))
    if len(facts["cameras"]) > 6:
        rows.append(("camera", f"and {len(facts['cameras']) - 6} more"))
    rows += [("note", literal(note)) for note in facts["notes"]]
    heading(facts["path"])
    console.print(grid(rows))


# ---- runs ----


def run_facts(path: Path) -> dict[str, Any]:
    """What a run was asked for, and what came out."""
    from splat.report.metrics_file import read_metrics
    from splat.training.config import config as settings

    config = settings.read_to_show(path / "config.toml")
    facts: dict[str, Any] = {
        "kind": "run",
        "path": str(path),
        "settings": settings.chosen(config),
        "metrics": None,
        "cloud": None,
    }
    if (path / "metrics.json").is_file():
        metrics = read_metrics(path / "metrics.json")
        facts["metrics"] = {name: value for name, value in metrics.items() if not isinstance(value, (list, dict))}
    if (path / "cloud.ply").is_file():
        facts["cloud"] = cloud_facts(path / "cloud.ply")
    return facts


def show_run(facts: dict[str, Any]) -> None:
    """Print `run_facts`."""
    rows = [(literal(name), literal(str(value))) for name, value in facts["settings"].items()]
    for name, value in (facts["metrics"] or {}).items():
        rows.append((literal(name), metric_text(name, value)))
    if facts["metrics"] is None:
        rows.append(("state", f"unfinished; go on with: splat train --out {literal(facts['path'])} --resume"))
    heading(facts["path"])
    console.print(grid(rows))
    if facts["cloud"]:
        console.print()
        show_cloud(facts["cloud"])


def metric_text(name: str, value: Any) -> str:
    """A metric of ``metrics.json`` for people."""
    if value is None:
        return "not computed"
    if name == "seconds":
        return duration(value)
    if name.endswith("bytes"):
        return amount(value)
    if isinstance(value, float):
        return f"{value:.4g}" if name != "psnr" else f"{score(value, 2)} dB"
    return f"{value:,}" if isinstance(value, int) else literal(str(value))
