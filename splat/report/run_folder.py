"""What a run folder holds, read with tolerance: what is missing is listed, not fatal."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from splat.errors import InputError
from splat.reading import read_bytes
from splat.report.metrics_file import read_metrics
from splat.training.config.config import toml_values

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class ViewFiles:
    """One held-out view: its scores (None where not measured) and its pictures (None where missing)."""

    name: str
    psnr: float | None
    ssim: float | None
    lpips: float | None
    photo: Path | None
    render: Path | None


@dataclass(frozen=True)
class RunFolder:
    """A run.

    Attributes:
        path: the folder.
        metrics: content of metrics.json, {} if it is missing.
        config: content of config.toml, {} if it is missing.
        views: the held-out views by name.
        cloud_bytes: size of cloud.ply, None if it is missing.
        missing: sentences about what is not there.
    """

    path: Path
    metrics: dict[str, Any]
    config: dict[str, Any]
    views: tuple[ViewFiles, ...]
    cloud_bytes: int | None
    missing: tuple[str, ...]


def read_run(path: Path) -> RunFolder:
    """Read what is there.

    Raises InputError when ``path`` is no folder, or holds a metrics.json or config.toml that cannot be read.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a folder, expected the results of `splat train`; check the path")
    missing = []
    metrics = read_metrics(path / "metrics.json") if (path / "metrics.json").is_file() else {}
    if not metrics:
        missing.append("metrics.json is missing: the run has not finished, so there are no scores and no curves.")
    config = _config(path / "config.toml")
    if not config:
        missing.append("config.toml is missing: the settings are not known.")
    views = _views(metrics.get("views") or [], path / "renders")
    unseen = [view.name for view in views if view.photo is None or view.render is None]
    if not views:
        missing.append("No view was held out, so nothing could be compared.")
    elif unseen:
        names = ", ".join(unseen[:5]) + (f" and {len(unseen) - 5} more" if len(unseen) > 5 else "")
        missing.append(f"renders/ lacks the photo or the render of {names}.")
    if views and all(view.lpips is None for view in views):
        missing.append("LPIPS was not computed: its packages or network weights are not installed.")
    cloud = path / "cloud.ply"
    if not cloud.is_file():
        missing.append("cloud.ply is missing.")
    return RunFolder(path, metrics, config, views, cloud.stat().st_size if cloud.is_file() else None, tuple(missing))


def _config(path: Path) -> dict[str, Any]:
    """The settings as they stand in the file: also those that this version does not know."""
    if not path.is_file():
        return {}
    try:
        config = toml_values(read_bytes(path).decode())
        _check_look(config)
    except ValueError as error:
        raise InputError(f"{path} holds no settings of a run ({error}); restore the file the run wrote") from error
    return config


def _check_look(config: dict[str, Any]) -> None:
    """Raise ValueError where what the cloud is drawn with cannot be."""
    colour = config.get("background", [0.0, 0.0, 0.0])
    channels = colour if isinstance(colour, list) and len(colour) == 3 else [None]
    if not all(isinstance(each, (int, float)) and 0 <= each <= 1 for each in channels):
        raise ValueError("'background' is no colour of three numbers from 0 to 1")
    if not isinstance(config.get("antialiased", False), bool):
        raise ValueError("'antialiased' is neither true nor false")


def _views(scores: list[dict[str, Any]], renders: Path) -> tuple[ViewFiles, ...]:
    """Views named in the metrics; without metrics, those that have a picture."""
    if not scores and renders.is_dir():
        stems = {p.stem.removesuffix("_render") for p in renders.iterdir() if p.stem.endswith("_render")}
        scores = [{"name": stem} for stem in sorted(stems)]
    views = []
    for score in scores:
        path = PurePosixPath(score["name"])
        stem = str(path.with_suffix("") if path.name else path).replace("/", "_")
        numbers = (_number(score.get(key)) for key in ("psnr", "ssim", "lpips"))
        pictures = (_picture(renders, f"{stem}_{kind}") for kind in ("photo", "render"))
        views.append(ViewFiles(score["name"], *numbers, *pictures))
    return tuple(views)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _picture(folder: Path, stem: str) -> Path | None:
    """The file of that name; None where there is none, or can be none of such a name."""
    return next((path for suffix in SUFFIXES if os.path.isfile(path := folder / (stem + suffix))), None)
