"""Plain data (numbers, texts, tensors, and lists, tuples and dicts of them) as JSON and named tensors, and back."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

# A JSON object of one of these keys stands for what JSON has no word for.
_TENSOR, _TUPLE, _FLOAT, _ITEMS = "$tensor", "$tuple", "$float", "$items"


def flattened(value: Any, tensors: dict[str, Tensor], name: str = "") -> Any:
    """``value`` as JSON; its tensors go into ``tensors``, named by their place. Raises TypeError for other kinds."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {_TENSOR: name}
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: repr(float(value))}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        items = [flattened(item, tensors, f"{name}/{index}") for index, item in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a {type(value).__name__}, which a checkpoint does not hold")
    items = [(key, flattened(item, tensors, f"{name}/{key}".lstrip("/"))) for key, item in value.items()]
    if all(isinstance(key, str) and not key.startswith("$") for key in value):
        return dict(items)
    return {_ITEMS: [[flattened(key, tensors), item] for key, item in items]}


def restored(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `flattened`. Raises ValueError, KeyError or TypeError for what it did not make."""
    if isinstance(value, list):
        return [restored(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_TENSOR}:
        return tensors[value[_TENSOR]]
    if value.keys() == {_TUPLE}:
        return tuple(restored(value[_TUPLE], tensors))
    if value.keys() == {_FLOAT}:
        return float(value[_FLOAT])
    if value.keys() == {_ITEMS}:
        return {restored(key, tensors): restored(item, tensors) for key, item in value[_ITEMS]}
    return {key: restored(item, tensors) for key, item in value.items()}
