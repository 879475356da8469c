"""Fields of settings that know their range, and the check of them. Needs no PyTorch."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from splat.errors import InputError

RANGE = "range"
"""Key of a field's metadata that holds its `Range`."""


CODE = "code"
"""Key of a field's metadata that marks a text naming code to import or load, which no file may bring into a run."""


@dataclass(frozen=True)
class Range:
    """Which values a setting may have.

    Attributes:
        holds: whether a value is one of them; None, which means "not set", is never asked about.
        expected: the values in words, after "expected".
    """

    holds: Callable[[Any], bool]
    expected: str


def _field(default: Any, holds: Callable[[Any], bool], expected: str) -> Any:
    return dataclasses.field(default=default, metadata={RANGE: Range(holds, expected)})


def positive(default: float | None) -> Any:
    """A field for a number above 0."""
    return _field(default, lambda value: value > 0, "more than 0")


def non_negative(default: float | None) -> Any:
    """A field for a number that is 0 or more."""
    return _field(default, lambda value: value >= 0, "0 or more")


def fraction(default: float | None) -> Any:
    """A field for a fraction of a whole, such as the run; both ends are allowed."""
    return _field(default, lambda value: 0 <= value <= 1, "a fraction of the whole, 0 to 1")


def below_one(default: float) -> Any:
    """A field for a fraction that is not the whole."""
    return _field(default, lambda value: 0 <= value < 1, "0 or more and less than 1")


def opacity(default: float | None) -> Any:
    """A field for an opacity that has a logit."""
    return _field(default, lambda value: 0 < value < 1, "an opacity between 0 and 1")


def whole(default: int, low: int, high: int) -> Any:
    """A field for an integer from ``low`` to ``high``."""
    return _field(default, lambda value: low <= value <= high, f"{low} to {high}")


def choice(default: str, options: Sequence[str]) -> Any:
    """A field for one of ``options``."""
    return _field(default, lambda value: value in options, f"one of {', '.join(options)}")


def code() -> Any:
    """A field for the name of code, empty by default: a function, or a model whose loader imports what it names."""
    return dataclasses.field(default="", metadata={CODE: True})


def colour(default: tuple[float, float, float]) -> Any:
    """A field for red, green and blue."""
    return _field(
        default,
        lambda value: len(value) == 3 and all(0 <= channel <= 1 for channel in value),
        "three numbers from 0 to 1",
    )


def check_ranges(config: Any, prefix: str = "") -> None:
    """Raise InputError naming the first setting of ``config`` that is out of its range, its value and its range."""
    for item in dataclasses.fields(config):
        name, value = f"{prefix}{item.name}", getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            check_ranges(value, f"{name}.")
        elif isinstance(value, float) and value != value:
            raise InputError(f"the setting {name} is not a number; give it a value")
        elif value is not None and RANGE in item.metadata and not item.metadata[RANGE].holds(value):
            raise InputError(f"the setting {name} is {value!r}, expected {item.metadata[RANGE].expected}")
