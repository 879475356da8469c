"""Reading the tables of a PLY file: header, then any element's rows in chunks, for all three PLY encodings."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splat.coding.parallel import CHUNK, each, pieces
from splat.coordinates import AT_ZERO, Georeference
from splat.errors import InputError
from splat.reading import guarded, require_file

TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
NAMES = {
    "i1": "char", "u1": "uchar", "i2": "short", "u2": "ushort",
    "i4": "int", "u4": "uint", "f4": "float", "f8": "double",
}  # fmt: skip

_GEOREFERENCE = "splat georeference "  # how such a comment begins
# A real header has some dozens of lines; more than this is not a header.
MAX_HEADER = 1 << 20
TEXT_WORDS = 1 << 19  # of an ASCII table that are held at once; each is an object


@dataclass(frozen=True)
class Element:
    """One table of the file: ``properties`` are (name, numpy type); ``has_lists`` marks rows of varying length."""

    name: str
    count: int
    properties: tuple[tuple[str, str], ...]
    has_lists: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.properties)

    def dtype(self, order: str = "<") -> np.dtype:
        """The packed row type in byte order ``order``."""
        return np.dtype([(name, order + kind) for name, kind in self.properties])


@dataclass(frozen=True)
class Header:
    """``encoding`` is '<', '>' or 'ascii'; ``size`` is the header's length in bytes."""

    encoding: str
    comments: tuple[str, ...]
    elements: tuple[Element, ...]
    size: int

    def element(self, name: str) -> Element | None:
        return next((element for element in self.elements if element.name == name), None)


def read_header(path: Path) -> Header:
    """Parse the header of ``path``. Raises InputError when it is no PLY file or claims more than it holds."""
    with open(require_file(path), "rb") as file:
        start = file.read(MAX_HEADER)
    if not start.startswith(b"ply"):
        raise InputError(f"{path}: it does not start with 'ply', so it is no PLY file; check the file or its suffix")
    end = start.find(b"end_header")
    newline = start.find(b"\n", end)
    if end < 0 or newline < 0:
        raise InputError(
            f"{path}: the PLY header has no 'end_header' line; the file is truncated, make or copy it again"
        )
    with guarded(path, "the PLY header"):
        header = _parse(start[:end].decode("utf-8", "replace").splitlines()[1:], newline + 1)
    _check_claim(path, header)
    return header


def _parse(lines: list[str], size: int) -> Header:
    encodings = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "ascii"}
    encoding, comments = "", []
    heads: list[tuple[str, int]] = []
    properties: list[dict[str, str]] = []  # of each element, name → type
    with_lists: set[int] = set()
    for line in lines:
        words = line.split()
        match words:
            case ["format", name, _]:
                if name not in encodings:
                    raise ValueError(f"the encoding '{name[:60]}'")
                encoding = encodings[name]
            case ["comment" | "obj_info", *_]:
                comments.append(line.split(None, 1)[1].strip() if len(words) > 1 else "")
            case ["element", name, count]:
                if not count.isascii() or not count.isdigit() or len(count) > 18:
                    raise ValueError(f"element {name[:60]} has the count {count[:60]}")
                heads.append((name, int(count)))
                properties.append({})
            case ["property", "list", _, _, _] if heads:
                with_lists.add(len(heads) - 1)
            case ["property", kind, name] if heads:
                if name in properties[-1]:
                    raise ValueError(f"property {name[:60]} appears twice")
                if kind not in TYPES:
                    raise ValueError(f"property {name[:60]} of the type '{kind[:60]}'")
                properties[-1][name] = TYPES[kind]
            case []:
                pass
            case _:
                raise ValueError(f"line '{line[:60]}'")
    if not encoding:
        raise ValueError("no 'format' line")
    elements = tuple(
        Element(*head, tuple(properties[i].items()), has_lists=i in with_lists) for i, head in enumerate(heads)
    )
    return Header(encoding, tuple(comments), elements, size)


def _check_claim(path: Path, header: Header) -> None:
    """Refuse counts that the file's size contradicts, before anything is allocated."""
    have = path.stat().st_size - header.size
    need = 0
    for element in header.elements:
        if header.encoding == "ascii":  # each value takes a digit and a separator
            need += element.count * 2 * max(len(element.properties), 1)
        else:  # a list takes at least its count's byte
            need += element.count * (element.dtype().itemsize + element.has_lists)
        # The last newline of an ASCII file may be absent.
        if have + 1 < need or (header.encoding != "ascii" and have < need):
            raise InputError(
                f"{path}: the header claims {element.count:,} rows of '{element.name}' ({need:,} bytes) but only "
                f"{have:,} bytes follow; the file is truncated or damaged, make or copy it again"
            )


def georeference_of(header: Header) -> Georeference:
    """Where the header's comments say that the vertices lie; at zero where they say nothing."""
    for comment in header.comments:
        if comment.startswith(_GEOREFERENCE):
            return Georeference.of_json(json.loads(comment.removeprefix(_GEOREFERENCE)))
    return AT_ZERO


def georeference_comments(place: Georeference) -> list[str]:
    """Header comments from which `georeference_of` reads ``place``."""
    return [_GEOREFERENCE + json.dumps(place.as_json())] if place != AT_ZERO else []


def read_rows(path: Path, header: Header, name: str, work: Callable[[slice, np.ndarray], None]) -> None:
    """Call ``work(rows, block)`` with all rows of element ``name``, as structured arrays in the file's byte order.

    The calls may come from several threads at once, in any order.
    """
    before, element = [], None
    for candidate in header.elements:
        if candidate.name == name:
            element = candidate
            break
        before.append(candidate)
    if element is None:
        raise InputError(f"{path}: the PLY file has no element '{name}'; it is not a Gaussian cloud")
    if element.has_lists or any(other.has_lists for other in before):
        raise InputError(
            f"{path}: element '{name}' has or follows list properties, which no Gaussian file has; export it again"
        )
    if header.encoding == "ascii":
        for rows, block in _ascii_rows(path, header, before, element):
            work(rows, block)
        return
    dtype = element.dtype(header.encoding)
    start = header.size + sum(other.count * other.dtype().itemsize for other in before)

    def load(rows: slice) -> None:
        block = np.fromfile(path, dtype, rows.stop - rows.start, offset=start + rows.start * dtype.itemsize)
        if len(block) != rows.stop - rows.start:
            raise InputError(f"{path}: rows after {rows.start + len(block):,} are missing; copy the file again")
        work(rows, block)

    each(load, pieces(element.count))


def _ascii_rows(path: Path, header: Header, before: list[Element], element: Element):
    dtype, width = element.dtype(), len(element.properties)
    with open(path, "rb") as file:
        file.seek(header.size)
        for _ in range(sum(other.count for other in before)):
            file.readline()
        for piece in pieces(element.count, min(CHUNK, max(1, TEXT_WORDS // max(width, 1)))):
            rows = piece.stop - piece.start
            words = b"".join(file.readline(width * 64 + 64) for _ in range(rows)).split()
            if len(words) != rows * width:
                raise InputError(
                    f"{path}: rows {piece.start:,} to {piece.stop:,} of '{element.name}' hold {len(words):,} values, "
                    f"expected {rows * width:,}; the file is truncated or damaged, make or copy it again"
                )
            with guarded(path, f"a value of '{element.name}'"):
                values = np.array([float(word) for word in words]).reshape(rows, width)
            block = np.empty(rows, dtype)
            for column, field in enumerate(element.names):
                # Values outside an integer type's range are as wrong as words; wrapping them would hide that.
                kind = dtype[field]
                if kind.kind in "iu" and not np.all(
                    (values[:, column] >= np.iinfo(kind).min) & (values[:, column] <= np.iinfo(kind).max)
                ):
                    raise InputError(
                        f"{path}: property {field} leaves the range of {NAMES[kind.str[1:]]}; make or copy it again"
                    )
                with np.errstate(over="ignore"):
                    block[field] = values[:, column]
            yield piece, block
