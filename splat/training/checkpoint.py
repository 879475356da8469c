"""Checkpoints: everything a run needs to go on bit for bit, in one file that appears whole or not at all."""

import warnings
from pathlib import Path
from typing import Any

import torch

from splat.cloud import FIELDS, GaussianCloud
from splat.errors import InputError
from splat.files import atomic_path
from splat.ops.adam import AdamState
from splat.training.hooks.hook import TrainingHook
from splat.training.per_photo.corrections import corrections_of
from splat.training.population import Population
from splat.training.schedules import Schedule
from splat.training.setup import Setup
from splat.training.state import State

VERSION = 1
KEEP = 2
_OLD_HOOKS = {
    "appearance features": "looks",
    "co-regularization": "partner",
    "iterative refinement": "enhance",
    "transient masks": "occluders",
}
"""Hooks by their name today, and the name under which checkpoints of before hold their state."""


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write ``state`` (tensors, numbers, strings, and lists and dicts of them) as the newest checkpoint in ``folder``.

    Keeps the last two. Raises InputError when it cannot be written; older checkpoints are untouched then.
    """
    path = folder / f"step_{step:08d}.pt"
    with atomic_path(path) as temporary:
        try:
            torch.save({"version": VERSION, "step": step, **state}, temporary)
        except RuntimeError as error:  # PyTorch's writer hides the system's reason, such as a full disk
            raise InputError(
                f"cannot write {path}, perhaps the disk is full; free some space or choose another place"
            ) from error
    for old in _all(folder)[:-KEEP]:
        old.unlink(missing_ok=True)
    return path


def load(folder: Path) -> dict[str, Any] | None:
    """The newest readable checkpoint in ``folder`` or None; warns where it passes over a broken one."""
    found = _all(folder)
    for path in reversed(found):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # PyTorch raises many kinds for broken files
            warnings.warn(f"the checkpoint {path} cannot be read ({error}); trying the one before", stacklevel=2)
            continue
        if state.get("version") != VERSION:
            raise InputError(
                f"the checkpoint {path} has version {state.get('version')}, expected {VERSION}; "
                "resume with the splat that wrote it, or start anew in another folder"
            )
        return state
    if found:
        raise InputError(f"none of the checkpoints in {folder} can be read; start anew in another folder")
    return None


def _all(folder: Path) -> list[Path]:
    """Checkpoints in ``folder``, oldest first."""
    return sorted(folder.glob("step_*.pt"))


def pack(setup: Setup, state: State) -> dict[str, Any]:
    """Everything of ``state``, for `save`."""
    return {
        "population": pack_population(state.population),
        "fraction": state.schedule.fraction,
        "seconds": state.schedule.seconds,
        "photo_parameters": {name: each.parameters.state() for name, each in state.per_photo.items()},
        "parts": {hook.name: hook.state() for hook in setup.hooks if hook.state is not None},
        "loss": state.loss,
        "mse": state.mse,
        "history": state.history,
        "losses": state.losses,
    }


def unpack(setup: Setup, packed: dict[str, Any], schedule: Schedule) -> State:
    """The state that `pack` saw, going on in ``schedule``."""
    population = unpack_population(packed["population"], setup.device)
    state = State(population, schedule, corrections_of(setup.config, len(setup.views), setup.device))
    for name, values in packed["photo_parameters"].items():
        state.per_photo[name].parameters.restore(values)
    for hook in setup.hooks:
        if hook.restore is not None:
            hook.restore(_state_of(hook, packed["parts"]))
    schedule.resume(packed["step"], packed["fraction"], packed["seconds"])
    state.loss, state.mse, state.history = packed["loss"], packed["mse"], packed["history"]
    state.losses = [tuple(entry) for entry in packed.get("losses", [])]
    return state


def _state_of(hook: TrainingHook, packed: dict[str, Any]) -> dict[str, Any]:
    return packed[hook.name if hook.name in packed else _OLD_HOOKS[hook.name]]


def pack_population(population: Population) -> dict[str, Any]:
    """``population`` as plain dicts of tensors."""
    cloud, adam = population.cloud, population.adam
    return {
        "cloud": {name: getattr(cloud, name) for name in FIELDS},
        "extras": dict(cloud.extras),
        "m": dict(adam.m),
        "v": dict(adam.v),
        "statistics": dict(population.statistics),
        "mean": dict(population.mean),
        "averaged": population.averaged,
    }


def unpack_population(state: dict[str, Any], device: torch.device) -> Population:
    """The inverse of `pack_population`, on ``device``."""
    names = ("cloud", "extras", "m", "v", "statistics", "mean")
    moved = {each: {name: tensor.to(device) for name, tensor in state.get(each, {}).items()} for each in names}
    cloud = GaussianCloud(**moved["cloud"], extras=moved["extras"])
    adam = AdamState(moved["m"], moved["v"])
    return Population(cloud, adam, moved["statistics"], moved["mean"], state.get("averaged", 0))
