"""How commands give their results: for people on standard output, and with ``--json`` for programs."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from splat.files import write_json


def to_stdout(target: Path | None) -> bool:
    """Whether ``--json -`` was given: then standard output holds the JSON and nothing else."""
    return target is not None and str(target) == "-"


def present(facts: Mapping[str, Any], target: Path | None, show: Callable[[], None]) -> None:
    """Write ``facts`` as JSON to ``target`` (``-``: standard output; None: nowhere), and let ``show`` print them.

    NaN and infinity, which JSON lacks, are written as null. `show` is not called when JSON went to standard output.
    """
    if to_stdout(target):
        print(json.dumps(_finite(facts), indent=2))
        return
    if target is not None:
        write_json(target, _finite(facts))
    show()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
