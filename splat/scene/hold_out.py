"""Which photos are kept from training, to measure the result on."""

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from splat.errors import InputError
from splat.reading import guarded, read_bytes

AUTO = "auto"
NONE = "none"
_MOST_BYTES = 1 << 26  # of a list of names
EVERY = 8  # as in the evaluations of 3DGS and its successors


def check(wanted: str) -> str:
    """``wanted`` if `choose` can follow it. Raises InputError."""
    number = _number(wanted)
    if wanted in (AUTO, NONE):
        return wanted
    if number is None:
        _names(Path(wanted))
    elif not (number == 0 or 0 < number < 1 or (number >= 2 and number == int(number))):
        raise InputError(
            f"hold out {wanted}: expected {AUTO}, {NONE}, a whole number from 2 on (8 is every 8th photo), a fraction "
            "between 0 and 1, or a file with a name on each line"
        )
    return wanted


def choose(names: Sequence[str], given: Sequence[bool | None], wanted: str = AUTO) -> list[bool]:
    """For each of ``names`` (sorted) whether it is held out.

    Args:
        given: what the input itself says; None where it says nothing.
        wanted: ``auto`` follows the input and else takes every 8th; ``none``; a number n for every n-th; a fraction
            for as many, evenly spread; or a text file with a name on each line.

    Raises InputError for names that the scene does not have, and where no photo remains to train on.
    """
    count, number = len(names), _number(wanted)
    if wanted == NONE or number == 0:
        return [False] * count
    if wanted == AUTO:
        return [count > 1 and index % EVERY == 0 if said is None else said for index, said in enumerate(given)]
    if number is None:
        held_out = _listed(names, Path(wanted))
    elif number >= 1:
        held_out = [index % int(number) == 0 for index in range(count)]
    else:
        held_out = [math.ceil((index + 1) * number - 1e-9) > math.ceil(index * number - 1e-9) for index in range(count)]
    if all(held_out):
        raise InputError(f"hold out {wanted}: no photo remains to train on; hold out fewer of the {count}")
    return held_out


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else -1.0


def _names(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(
            f"hold out {path}: no such file; expected {AUTO}, {NONE}, a number such as 8, a fraction such as 0.1, or a "
            "file with the name of a photo on each line"
        )
    with guarded(path, "the list of photos"):
        text = read_bytes(path, _MOST_BYTES).decode("utf-8-sig")
    lines = (line.strip().replace("\\", "/").removeprefix("./") for line in text.splitlines())
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise InputError(f"{path} names no photo to hold out; write one name on each line, or give {NONE}")
    return names


def _listed(names: Sequence[str], path: Path) -> list[bool]:
    """Whether the file ``path`` lists each name: in full, without its folders, or without its suffix."""
    listed = _names(path)
    keys = [_keys(name) for name in names]
    known = set().union(*keys) if keys else set()
    unknown = [name for name in listed if name not in known]
    if unknown:
        raise InputError(
            f"{path} lists {len(unknown)} names that are no photos of the scene (the first: {unknown[0][:80]}); "
            "correct them"
        )
    wanted = set(listed)
    return [bool(each & wanted) for each in keys]


def _keys(name: str) -> set[str]:
    path = PurePosixPath(name)
    return {name, path.name, (path.parent / path.stem).as_posix(), path.stem}
