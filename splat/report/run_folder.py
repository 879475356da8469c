"""What a run folder holds, read with tolerance: what is missing is listed, not fatal."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from splat.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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
    metrics = _metrics(path / "metrics.json")
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


def _metrics(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is not readable JSON ({error}); run `splat train` again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}, expected an object; run `splat train` again")
    return value


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is not readable TOML ({error}); restore the file the run wrote") from error


def _views(scores: list[dict[str, Any]], renders: Path) -> tuple[ViewFiles, ...]:
    """Views named in the metrics; without metrics, those that have a picture."""
    if not scores and renders.is_dir():
        stems = {p.stem.removesuffix("_render") for p in renders.iterdir() if p.stem.endswith("_render")}
        scores = [{"name": stem} for stem in sorted(stems)]
    views = []
    for score in scores:
        stem = str(PurePosixPath(str(score["name"])).with_suffix("")).replace("/", "_")
        numbers = (_number(score.get(key)) for key in ("psnr", "ssim", "lpips"))
        pictures = (_picture(renders, f"{stem}_{kind}") for kind in ("photo", "render"))
        views.append(ViewFiles(str(score["name"]), *numbers, *pictures))
    return tuple(views)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _picture(folder: Path, stem: str) -> Path | None:
    return next((folder / (stem + suffix) for suffix in SUFFIXES if (folder / (stem + suffix)).is_file()), None)
