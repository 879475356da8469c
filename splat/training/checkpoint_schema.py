"""What a checkpoint must look like before a run goes on from it: keys, types, shapes and ranges."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from splat.cloud import FIELDS, GaussianCloud
from splat.ops.adam import parameters

MOST_COUNT, MOST_SECONDS = 1 << 53, 1e12  # whole numbers that a float holds exactly; 30,000 years


def check(state: Any) -> None:
    """Raise ValueError, saying what was found and what was expected, unless ``state`` can be a run's."""
    _expect(isinstance(state, dict), "it", type(state).__name__, "a dictionary")
    for name, (holds, expected) in _PARTS.items():
        _expect(name in state, "it", f"without '{name}'", f"'{name}': {expected}")
        _expect(holds(state[name]), f"'{name}'", _shown(state[name]), expected)
    losses = state.get("losses", [])  # came later
    _expect(_list_of(losses, _is_pair), "'losses'", _shown(losses), "pairs of step and loss")
    check_population(state["population"])
    start = state.get("start", [])
    _expect(_list_of(start, _is_dict), "'start'", _shown(start), "what is known of the files to begin with")
    _check_frozen(state.get("frozen", {}))
    first = state.get("first_count", 0)
    _expect(_is_count(first), "'first_count'", _shown(first), "a number of Gaussians")


def _check_frozen(packed: Any) -> None:
    """As `check`, of the Gaussians that stay as they are; runs of before had none."""
    _expect(_is_tensors(packed), "'frozen'", _shown(packed), "tensors by name")
    if packed:
        _expect(set(packed) == set(FIELDS), "'frozen'", f"of {sorted(packed)}", f"{sorted(FIELDS)}")
        cloud = GaussianCloud(**packed)
        _expect(cloud.dtype == torch.float32, "'frozen'", str(cloud.dtype), "torch.float32")


def check_population(packed: dict[str, Any]) -> None:
    """As `check`, of what `checkpoint.pack_population` gave."""
    for name in ("cloud", "extras", "m", "v", "statistics"):
        _expect(_is_tensors(packed.get(name)), f"'{name}'", _shown(packed.get(name)), "tensors by name")
    _expect(_is_tensors(packed.get("mean", {})), "'mean'", _shown(packed.get("mean")), "tensors by name")
    averaged = packed.get("averaged", 0)
    _expect(_is_count(averaged), "'averaged'", _shown(averaged), "a number of steps")
    _expect(set(packed["cloud"]) == set(FIELDS), "the cloud", f"of {sorted(packed['cloud'])}", f"{sorted(FIELDS)}")
    cloud = GaussianCloud(**packed["cloud"], extras=packed["extras"])  # checks the shapes among each other
    _expect(cloud.dtype == torch.float32, "the cloud", str(cloud.dtype), "torch.float32")
    shapes = {name: tuple(tensor.shape) for name, tensor in parameters(cloud).items()}
    for part in ("m", "v", "mean"):
        found = {name: tuple(tensor.shape) for name, tensor in packed.get(part, {}).items()}
        empty = part == "mean" and not found
        _expect(empty or found == shapes, f"'{part}'", f"of shapes {found}", f"those of the cloud, {shapes}")
        types = {tensor.dtype for tensor in packed.get(part, {}).values()} - {torch.float32}
        _expect(not types, f"'{part}'", f"of {types}", "torch.float32")
    for name, tensor in packed["statistics"].items():
        _expect(tensor.shape == (len(cloud),), f"'{name}'", f"of shape {tuple(tensor.shape)}", f"({len(cloud)},)")


def check_alike(found: Any, expected: Any, name: str) -> None:
    """Raise ValueError unless both are dictionaries of the same keys."""
    keys = sorted(found) if isinstance(found, dict) else type(found).__name__
    _expect(isinstance(found, dict) and set(found) == set(expected), name, str(keys), str(sorted(expected)))


def _expect(holds: bool, what: str, found: str, expected: str) -> None:
    if not holds:
        raise ValueError(f"{what} is {found}, expected {expected}")


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, (int, float, str)) or value is None else f"a {type(value).__name__}"


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MOST_COUNT


def _is_fraction(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 <= value <= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or type(value) is int and abs(value) < MOST_COUNT


def _is_time(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= MOST_SECONDS


def _is_tensors(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(key, str) and isinstance(item, Tensor) for key, item in value.items()
    )


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and _is_count(value[0]) and _is_number(value[1])


def _is_entry(value: Any) -> bool:
    if not isinstance(value, dict) or not _is_count(value.get("step")) or not _is_time(value.get("seconds")):
        return False
    psnr = value.get("psnr")
    return _is_number(value.get("loss")) and _is_count(value.get("gaussians", 0)) and (psnr is None or _is_number(psnr))


def _list_of(value: Any, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(holds, value))


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_photos(value: Any) -> bool:
    return _list_of(value, lambda each: isinstance(each, (str, dict)))


_PARTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "step": (_is_count, "a number of steps"),
    "fraction": (_is_fraction, "0 to 1"),
    "seconds": (_is_time, "seconds, 0 or more"),
    "population": (_is_dict, "a dictionary"),
    "photo_parameters": (_is_dict, "a dictionary"),
    "parts": (_is_dict, "a dictionary"),
    "loss": (_is_number, "a number"),
    "mse": (_is_number, "a number"),
    "history": (lambda value: _list_of(value, _is_entry), "entries with step, seconds and loss, all of them numbers"),
    "photos": (_is_photos, "names or fingerprints of photos"),
}
