"""Checkpoints: everything a run needs to go on bit for bit, in one file that appears whole or not at all.

A safetensors file (`splat.coding.safetensors`): the tensors, and a text of JSON with all else. Those of before were
pickled dictionaries of plain data; they are still read, as data only.
"""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import splat
from splat.cloud import FIELDS, GaussianCloud
from splat.coding import safetensors
from splat.errors import InputError, memory_ran_out
from splat.files import atomic_path
from splat.ops.adam import AdamState
from splat.scene.scene import photo_count
from splat.training import checkpoint_schema
from splat.training.checkpoint_schema import check_alike, check_population
from splat.training.hooks.hook import TrainingHook
from splat.training.per_photo.corrections import corrections_of
from splat.training.plain_data import flattened, restored
from splat.training.population import Population
from splat.training.schedules import Schedule
from splat.training.setup import Setup
from splat.training.state import State

VERSION, OLD_VERSION = 2, 1
SUFFIX, OLD_SUFFIX = ".safetensors", ".pt"
KEEP = 2
_HEADER = "splat"  # name of the text in a checkpoint
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
    path = folder / f"step_{step:08d}{SUFFIX}"
    tensors: dict[str, torch.Tensor] = {}
    content = {"version": VERSION, "splat": splat.__version__, "step": step, **state}
    text = json.dumps(flattened(content, tensors), allow_nan=False)
    with atomic_path(path) as temporary:
        safetensors.write(temporary, tensors, {_HEADER: text})
    for old in all_in(folder)[:-KEEP]:
        old.unlink(missing_ok=True)
    return path


def readable(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each checkpoint in ``folder`` that is whole and in order, newest first; warns of each that is not.

    Raises InputError for one of another version.
    """
    for path in reversed(all_in(folder)):
        try:
            state = _read(path)
            _check_version(state, path)
            checkpoint_schema.check(state)
        except InputError:
            raise
        except Exception as error:  # PyTorch raises many kinds for broken files of old
            if memory_ran_out(error):
                raise
            pass_over(path, error)
            continue
        yield path, state


def pass_over(path: Path, error: Exception) -> None:
    """Warn that the checkpoint ``path`` is of no use, and why."""
    reason = str(error).split("\n")[0] or type(error).__name__
    warnings.warn(f"the checkpoint {path} cannot be read ({reason}); trying the one before", stacklevel=3)


def none_left(folder: Path) -> InputError:
    """What to raise when no checkpoint in ``folder`` is of use."""
    return InputError(f"none of the checkpoints in {folder} can be read; start anew in another folder")


def load(folder: Path) -> dict[str, Any] | None:
    """The newest readable checkpoint in ``folder``, None if it has none; warns where it passes over a broken one.

    Raises InputError when there are some and all are broken.
    """
    for _, state in readable(folder):
        return state
    if all_in(folder):
        raise none_left(folder)
    return None


def all_in(folder: Path) -> list[Path]:
    """Checkpoints in ``folder``, oldest first."""
    return sorted(path for path in folder.glob("step_*") if path.suffix in (SUFFIX, OLD_SUFFIX))


def _read(path: Path) -> Any:
    if path.suffix == OLD_SUFFIX:
        return torch.load(path, map_location="cpu", weights_only=True)
    tensors, texts = safetensors.read(path)
    return restored(json.loads(texts[_HEADER]), tensors)


def _check_version(state: Any, path: Path) -> None:
    """Raise InputError for a checkpoint of a version that is not known; ValueError for something else."""
    version = state.get("version") if isinstance(state, dict) else None
    if type(version) is not int:
        raise ValueError("it has no version")
    if version != (OLD_VERSION if path.suffix == OLD_SUFFIX else VERSION):
        raise InputError(
            f"the checkpoint {path} has version {version}, expected {VERSION}; "
            "resume with the splat that wrote it, or start anew in another folder"
        )


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
        "frozen": {} if state.frozen is None else {name: getattr(state.frozen, name) for name in FIELDS},
        "first_count": state.first_count,
    }


def unpack(setup: Setup, packed: dict[str, Any], schedule: Schedule) -> State:
    """The state that `pack` saw, going on in ``schedule``. Raises ValueError where it is none of such a run."""
    population = unpack_population(packed["population"], setup.device)
    check_alike(population.statistics, dict.fromkeys(setup.strategy.statistics), "'statistics'")
    if population.cloud.sh_degree != setup.config.sh_degree:
        raise ValueError(f"its SH degree is {population.cloud.sh_degree}, expected {setup.config.sh_degree}")
    state = State(population, schedule, corrections_of(setup.config, photo_count(setup.views), setup.device))
    if frozen := packed.get("frozen"):  # came later
        state.frozen = GaussianCloud(**{name: tensor.to(setup.device) for name, tensor in frozen.items()})
    state.first_count = packed.get("first_count", setup.first_count)
    state.start_files = tuple(packed.get("start", []))
    check_alike(packed["photo_parameters"], state.per_photo, "'photo_parameters'")
    for name, values in packed["photo_parameters"].items():
        check_alike(values, state.per_photo[name].parameters.state(), f"'{name}'")
        state.per_photo[name].parameters.restore(values)
    for hook in setup.hooks:
        if hook.restore is not None:
            _restore(hook, packed["parts"])
    schedule.resume(packed["step"], packed["fraction"], packed["seconds"])
    state.loss, state.mse, state.history = packed["loss"], packed["mse"], packed["history"]
    state.losses = [tuple(entry) for entry in packed.get("losses", [])]
    return state


def _restore(hook: TrainingHook, parts: dict[str, Any]) -> None:
    """Give ``hook`` its state back. Raises ValueError where it is none of such a hook."""
    name = hook.name if hook.name in parts else _OLD_HOOKS.get(hook.name, "")
    if name not in parts:
        raise ValueError(f"it holds no state of '{hook.name}'")
    if hook.state is not None:
        check_alike(parts[name], hook.state(), f"the state of '{hook.name}'")
    try:
        hook.restore(parts[name])
    except (LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise ValueError(f"the state of '{hook.name}' does not fit ({error!r})") from error


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
    """The inverse of `pack_population`, on ``device``. Raises ValueError for what that did not make."""
    check_population(state)
    names = ("cloud", "extras", "m", "v", "statistics", "mean")
    moved = {each: {name: tensor.to(device) for name, tensor in state.get(each, {}).items()} for each in names}
    cloud = GaussianCloud(**moved["cloud"], extras=moved["extras"])
    adam = AdamState(moved["m"], moved["v"])
    return Population(cloud, adam, moved["statistics"], moved["mean"], state.get("averaged", 0))
