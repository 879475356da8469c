"""Points as text: XYZ, PTS, CSV and their like, one point a line, with or without a line of names."""

import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from splat.errors import InputError
from splat.formats.ply.names import COLOURS, known_names
from splat.formats.survey.sampling import CHUNK, Collector
from splat.reading import guarded, require_file

_LINE = 1 << 12  # bytes of a line, at most
_LOOKED_AT = 1000  # lines by which columns without names are told
_TRIPLES = ((3, 4, 5), (4, 5, 6), (6, 7, 8))  # where colours stand: x y z r g b, x y z i r g b, x y z nx ny nz r g b


def read(path: Path, most: int, seed: int) -> dict[str, np.ndarray]:
    """The points of ``path``, see `splat.formats.survey.sampling.Collector.arrays`. Raises InputError."""
    with guarded(path, "the points"), open(require_file(path), "rb") as file:
        total = _count_lines(file)
        file.seek(0)
        lines = _lines(file, path)
        head = list(islice(lines, _LOOKED_AT))
        delimiter = _delimiter(head)
        names, skipped = _names(head, delimiter)
        columns = _columns(names, head[skipped:], delimiter, path)
        kept = Collector(max(total - skipped, 0), most, seed)
        used = [*columns["xyz"], *columns.get("colours", ()), *columns.get("grey", ())]
        rest = chain(head[skipped:], lines)
        while block := list(islice(rest, CHUNK)):
            values = np.loadtxt(block, np.float64, comments=None, delimiter=delimiter, usecols=used, ndmin=2)
            colours = values[:, 3:6] if "colours" in columns else None
            kept.add(values[:, :3], colours, values[:, 3] if "grey" in columns else None)
        return kept.arrays()


def _count_lines(file: BinaryIO) -> int:
    count = 0
    while block := file.read(1 << 20):
        count += block.count(b"\n")
    return count + 1


def _lines(file: BinaryIO, path: Path) -> Iterator[str]:
    """The lines that say something, of a bounded length."""
    while line := file.readline(_LINE):
        if len(line) == _LINE:
            raise InputError(
                f"{path}: a line is longer than {_LINE} bytes, so these are no points as text; check the file"
            )
        text = line.decode("utf-8-sig", "replace").strip()
        if text and not text.startswith("#"):
            yield text


def _delimiter(head: list[str]) -> str | None:
    line = head[-1] if head else ""
    return next((sign for sign in (";", ",") if sign in line), None)


def _names(head: list[str], delimiter: str | None) -> tuple[list[str], int]:
    """Names of the columns, if a line says them, and how many lines of ``head`` are no points."""
    names: list[str] = []
    for number, line in enumerate(head[:20]):
        words = _words(line.removeprefix("//"), delimiter)
        if len(words) == 1 and words[0].isdigit():  # a .pts file says how many follow
            continue
        if all(_is_number(word) for word in words):
            return names, number
        names = [re.sub(r"[\s\"']|\(.*?\)|\[.*?\]", "", word) for word in words]
    return names, min(len(head), 20)


def _words(line: str, delimiter: str | None) -> list[str]:
    return [word.strip() for word in line.split(delimiter)]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _columns(names: list[str], head: list[str], delimiter: str | None, path: Path) -> dict[str, tuple[int, ...]]:
    """Which columns hold "xyz", "colours" and "grey"."""
    spelt = known_names(names)
    if {"x", "y", "z"} <= set(spelt):
        at = {name: names.index(spelt[name]) for name in spelt}
        columns = {"xyz": tuple(at[axis] for axis in "xyz")}
        if set(COLOURS) <= set(at):
            columns["colours"] = tuple(at[name] for name in COLOURS)
        elif "intensity" in at:
            columns["grey"] = (at["intensity"],)
        return columns
    if not head:
        raise InputError(f"{path}: it holds no lines of numbers, so no points; check the file")
    values = np.loadtxt(head, np.float64, comments=None, delimiter=delimiter, ndmin=2)
    width = values.shape[1]
    if width < 3:
        raise InputError(f"{path}: its lines have {width} numbers, expected x, y and z at least; check the file")
    columns = {"xyz": (0, 1, 2)}
    for triple in _TRIPLES:
        if triple[-1] < width and _are_colours(values[:, triple]):
            return columns | {"colours": triple}
    return columns | ({"grey": (3,)} if width in (4, 5) else {})


def _are_colours(values: np.ndarray) -> bool:
    whole = bool((values == np.floor(values)).all())
    return bool((values >= 0).all()) and (bool((values <= 1).all()) or (whole and bool((values <= 65535).all())))
