"""The metrics.json of a run, as a file that anybody may have written: what it must look like before it is used."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from splat.errors import InputError
from splat.reading import member, parse_json, read_bytes, typed
from splat.training.checkpoint_schema import MOST_COUNT, MOST_SECONDS

MOST_BYTES = 256 << 20  # 100 points of history and one entry a held-out view are a few hundred kB
LARGEST_SCORE = 1e39  # beyond what single precision holds
SCORES = ("psnr", "ssim", "lpips", "corrected_psnr")


def read_metrics(path: Path) -> dict[str, Any]:
    """The metrics in the file ``path``; any of them may be missing. Raises InputError where one cannot be."""
    metrics = parse_json(read_bytes(path, MOST_BYTES), path, "its text")
    try:
        check(metrics)
    except ValueError as error:
        raise InputError(f"{path} holds no metrics of a run ({error}); go on with the run, which makes them") from error
    return metrics


def require_whole(metrics: dict[str, Any]) -> None:
    """Raise ValueError unless all that a finished run says is there."""
    for name in ("steps", "gaussians", "seconds", "psnr", "ssim", "lpips", "peak_memory_bytes", "views", "history"):
        if name not in metrics:
            raise ValueError(f"'{name}' is missing")
    for name in ("steps", "gaussians", "seconds"):
        if metrics[name] is None:
            raise ValueError(f"'{name}' is None, expected a number")


def check(metrics: dict[str, Any]) -> None:
    """Raise ValueError naming the first of ``metrics`` (parsed JSON) that cannot be, and what it is."""
    json.dumps(metrics, ensure_ascii=False).encode()  # a half of a surrogate pair is no text
    _check_members(metrics, {"steps": _count, "gaussians": _count, "peak_memory_bytes": _count, "seconds": _seconds})
    _check_members(metrics, dict.fromkeys(SCORES, _score))
    for entry in _objects(metrics, "history"):
        _check_members(
            entry, {"step": _count, "seconds": _seconds, "gaussians": _count, "loss": _score, "psnr": _score}
        )
    for view in _objects(metrics, "views"):
        if not member(view, "name", str):
            raise ValueError("a view has no name")
        _check_members(view, dict.fromkeys(SCORES, _score))
    protocol, machine = (metrics.get(name) or {} for name in ("protocol", "machine"))
    for name, value in {**typed(protocol, dict, "'protocol'"), **typed(machine, dict, "'machine'")}.items():
        _plain(value, f"'{name}'")
    photos = protocol.get("photos") or {}
    _check_members(typed(photos, dict, "'photos'"), {"training": _count, "held_out": _count})


def _check_members(holder: dict[str, Any], kinds: dict[str, Callable[[Any, str], None]]) -> None:
    """Check what of ``kinds`` is there; None stands for what was not measured."""
    for name, checked in kinds.items():
        if holder.get(name) is not None:
            checked(holder[name], f"'{name}'")


def _objects(metrics: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [typed(each, dict, f"an entry of '{name}'") for each in typed(metrics.get(name) or [], list, f"'{name}'")]


def _count(value: Any, what: str) -> None:
    if not 0 <= typed(value, int, what) < MOST_COUNT:
        raise ValueError(f"{what} is out of range")


def _seconds(value: Any, what: str) -> None:
    if not 0 <= typed(value, float, what) <= MOST_SECONDS:
        raise ValueError(f"{what} is out of range")


def _score(value: Any, what: str) -> None:
    typed(value, float, what)
    if isinstance(value, float) and not math.isfinite(value):
        return
    if not -LARGEST_SCORE <= value <= LARGEST_SCORE:
        raise ValueError(f"{what} is out of range")


def _plain(value: Any, what: str) -> None:
    """A number, a text, or a list or an object of them."""
    items = value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value]
    for item in items:
        if isinstance(item, (list, dict)):
            raise ValueError(f"{what} is nested")
        if isinstance(item, int) and abs(item) >= MOST_COUNT:
            raise ValueError(f"{what} is out of range")
