"""The folder of a run: made, checked before a run goes on in it, and cleared after one that came to nothing."""

from pathlib import Path
from typing import Any

from splat.errors import InputError
from splat.scene import Scene
from splat.training import checkpoint
from splat.training.config import config as settings
from splat.training.config.config import TrainConfig

# Settings that may differ between a run and its resumption, because the result does not depend on them (on the backend,
# by rounding: a GPU that is too small need not end a run).
FREE = ("backend", "checkpoint_seconds", "eval_every", "scene.path", "scene.cache_megabytes")


def prepare(out: Path | None, config: TrainConfig, resume: bool) -> dict[str, Any] | str | None:
    """Prepare ``out``; the checkpoint to go on from, "finished" if there is nothing left to do, else None."""
    if out is None:
        if resume:
            raise InputError("there is no folder to resume from; give the one of the interrupted run")
        return None
    stored = out / "config.toml"
    if stored.exists() and not resume:
        raise InputError(f"{out} holds a run already; add --resume to go on with it, or choose another folder")
    if stored.exists():
        before = settings.resolved(settings.read_to_show(stored))
        changed = [name for name in settings.differences(config, before) if name not in FREE]
        if changed:
            raise InputError(
                f"{stored} has other settings than those given ({', '.join(changed)}); "
                "resume with the same ones, or start anew in another folder"
            )
        if (out / "metrics.json").exists():
            return "finished"
        return checkpoint.load(out / "checkpoints")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file, expected a folder for the results; choose another path")
    settings.write(config, stored)
    return None


def forget(out: Path) -> None:
    """Remove what a run that failed before its first checkpoint has written: nothing of it is of use."""
    if any((out / "checkpoints").glob("step_*.pt")):
        return
    (out / "config.toml").unlink(missing_ok=True)
    for path in (out / "checkpoints", out):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def check_same_photos(packed: dict[str, Any], scene: Scene, out: Path | None) -> None:
    """Raise InputError where the checkpoint ``packed`` of ``out`` was made from other photos than ``scene`` has."""
    names = [view.name for view in scene.train_views]
    if packed["photos"] != names:
        raise InputError(
            f"{out} was trained on {len(packed['photos'])} photos, {scene.root} has {len(names)} or other ones; "
            "resume with the same scene, or start anew in another folder"
        )
