"""The folder of a run: made, checked before a run goes on in it, and cleared after one that came to nothing."""

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

from splat import formats
from splat.cloud import GaussianCloud
from splat.errors import InputError
from splat.report.metrics_file import read_metrics, require_whole
from splat.training import checkpoint
from splat.training.config import config as settings
from splat.training.config.config import TrainConfig

# Settings that may differ between a run and its resumption, because the result does not depend on them (on the backend,
# by rounding: a GPU that is too small need not end a run).
FREE = ("backend", "checkpoint_seconds", "eval_every", "scene.path", "scene.cache_megabytes")
TRIAL = ".trial-"
"""Beginning of the names of folders into which a run writes for a moment."""
_STALE = re.compile(r"\..*-[0-9a-f]{12}(\.\w+)?|" + re.escape(TRIAL) + ".*")


def check_place(out: Path | None, resume: bool) -> None:
    """Raise InputError where no run can begin, or go on, in ``out``."""
    if out is None:
        if resume:
            raise InputError("there is no folder to resume from; give the one of the interrupted run")
        return
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file, expected a folder for the results; choose another path")
    if resume:
        if not (out / "config.toml").exists() and not checkpoint.all_in(out / "checkpoints"):
            raise InputError(f"there is no run in {out} to resume; check the path, or start one without --resume")
        return
    if (out / "config.toml").exists():
        raise InputError(f"{out} holds a run already; add --resume to go on with it, or choose another folder")
    foreign = sorted(path.name for path in out.glob("*") if not path.name.startswith(".") and not _is_empty(path))
    if foreign:
        raise InputError(
            f"{out} holds files that are no run of its own ({', '.join(foreign[:3])}{', …' if foreign[3:] else ''}), "
            "which a run might overwrite; choose a new or an empty folder"
        )


def prepare(out: Path | None, config: TrainConfig, resume: bool) -> None:
    """Make ``out`` ready for a run with ``config``. Raises InputError for settings unlike those of a resumed run."""
    check_place(out, resume)
    if out is None:
        return
    remove_stale(out)
    stored = out / "config.toml"
    if resume:
        changed = _changed(config, stored_settings(out))
        if changed:
            raise InputError(
                f"{stored} has other settings than those given ({', '.join(changed)}); "
                "resume with the same ones, or start anew in another folder"
            )
        if _readable(stored):
            return
    settings.write(config, stored)


def stored_settings(out: Path, named: TrainConfig | None = None) -> TrainConfig:
    """Settings of the run in ``out``: of its config.toml or, where that is of no use, of its newest checkpoint.

    Args:
        named: settings which the user gave: to run then, see `splat.training.config.config.read`; None to compare.

    Raises InputError.
    """
    stored = out / "config.toml"
    config = _readable(stored)
    if config is None:
        texts = (packed.get("settings") for _, packed in checkpoint.readable(out / "checkpoints"))
        text = next((text for text in texts if isinstance(text, str)), None)
        if text is None:
            reason = "is empty or damaged" if stored.exists() else "is missing"
            raise InputError(f"{stored} {reason}, and no checkpoint knows the settings; start anew in another folder")
        warnings.warn(f"{stored} is missing or damaged; it is made anew from the checkpoint", stacklevel=2)
        config = settings.parsed(text, f"the checkpoint in {out}")
    if named is not None:
        settings.check_code(config, named, str(stored))
    return settings.resolved(config)


def _readable(stored: Path) -> TrainConfig | None:
    """The settings in the file ``stored``; None if it is missing, empty or no TOML. Raises InputError."""
    try:
        text = stored.read_text(encoding="utf-8")
        settings.toml_values(text)
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise InputError(f"cannot read {stored}: {error.strerror or error}; check the folder") from error
    return settings.parsed(text, str(stored)) if text.strip() else None


def _changed(config: TrainConfig, before: TrainConfig) -> list[str]:
    return [name for name in settings.differences(config, settings.resolved(before)) if name not in FREE]


def check_same_settings(packed: dict[str, Any], config: TrainConfig, out: Path | None) -> None:
    """Raise InputError where the checkpoint ``packed`` was made with other settings than ``config``."""
    if not isinstance(packed.get("settings"), str):  # old checkpoints do not know
        return
    changed = _changed(config, settings.parsed(packed["settings"], f"the checkpoint in {out}"))
    if changed:
        raise InputError(
            f"the checkpoint in {out} was made with other settings than its config.toml has ({', '.join(changed)}):"
            " that was edited, or two runs were mixed; put it back, or delete config.toml and resume to make it anew"
        )


def finished(out: Path) -> tuple[GaussianCloud, dict[str, Any]] | None:
    """Cloud and metrics of a run that is over; None if it is not, or if something of them is to be made anew.

    Raises InputError where that cannot be, for want of a checkpoint.
    """
    if not (out / "metrics.json").exists():
        return None
    try:
        metrics = read_metrics(out / "metrics.json")
        require_whole(metrics)
    except (InputError, ValueError) as error:
        return _to_be_remade(out, f"metrics.json is damaged ({error})")
    if not (out / "cloud.ply").exists():
        return _to_be_remade(out, "cloud.ply is missing")
    try:
        cloud = formats.read(out / "cloud.ply")
    except InputError as error:
        return _to_be_remade(out, f"cloud.ply is damaged ({error})")
    if len(cloud) != metrics["gaussians"]:
        what = f"cloud.ply has {len(cloud)} Gaussians, metrics.json speaks of {metrics['gaussians']}"
        return _to_be_remade(out, what)
    return cloud, metrics


def _to_be_remade(out: Path, what: str) -> None:
    if not checkpoint.all_in(out / "checkpoints"):
        raise InputError(f"in {out} {what}, and there is no checkpoint to make it from; start anew in another folder")
    warnings.warn(f"in {out} {what}; made anew from the checkpoint", stacklevel=3)


def remove_stale(out: Path) -> None:
    """Remove what a run that was killed while writing has left in ``out``; the lock on it must be held."""
    for path in [*out.glob(".*"), *(out / "checkpoints").glob(".*"), *(out / "renders").glob("**/.*")]:
        if _STALE.fullmatch(path.name):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def forget(out: Path) -> None:
    """Remove what a run that failed before its first checkpoint has written: nothing of it is of use."""
    if checkpoint.all_in(out / "checkpoints"):
        return
    (out / "config.toml").unlink(missing_ok=True)
    for path in (out / "checkpoints", out):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
