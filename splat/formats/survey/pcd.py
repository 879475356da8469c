"""Point Cloud Data of the Point Cloud Library: ASCII, binary, and binary compressed by LZF.

Format: pointclouds.org, "The PCD (Point Cloud Data) file format", version 0.7; LZF: Lehmann's liblzf.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splat.errors import InputError
from splat.formats.survey.sampling import CHUNK, Collector
from splat.reading import guarded, require_file

MAX_HEADER = 1 << 16
MOST_EXPANSION = 100  # of LZF, whose longest copy writes 264 bytes for three
_LINE = 1 << 14  # bytes of a line of text
_KINDS = {("F", size): f"<f{size}" for size in "48"} | {
    (kind, size): f"<{kind.lower()}{size}" for kind in "IU" for size in "1248"
}


@dataclass(frozen=True)
class _Header:
    dtype: np.dtype
    count: int
    kind: str
    size: int


def read(path: Path, most: int, seed: int) -> dict[str, np.ndarray]:
    """The points of ``path``, see `splat.formats.survey.sampling.Collector.arrays`. Raises InputError."""
    with guarded(path, "the PCD file"):
        header = _header(path)
        kept = Collector(header.count, most, seed)
        {"ascii": _ascii, "binary": _binary, "binary_compressed": _compressed}[header.kind](path, header, kept)
        return kept.arrays()


def _header(path: Path) -> _Header:
    with open(require_file(path), "rb") as file:
        start = file.read(MAX_HEADER)
    values: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in values:
        end = start.find(b"\n", at)
        if end < 0:
            raise ValueError("it has no header that ends with DATA")
        words = start[at:end].decode("utf-8", "replace").split()
        at = end + 1
        if words and not words[0].startswith("#"):
            values[words[0].upper()] = words[1:]
    names, sizes, kinds = (values[key] for key in ("FIELDS", "SIZE", "TYPE"))
    counts = values.get("COUNT", ["1"] * len(names))
    if not len(names) == len(sizes) == len(kinds) == len(counts) or len(set(names) - {"_"}) + names.count("_") != len(
        names
    ):
        raise ValueError("FIELDS, SIZE, TYPE and COUNT do not fit each other")
    fields = []
    for number, (name, size, kind, count) in enumerate(zip(names, sizes, kinds, counts, strict=True)):
        if (kind, size) not in _KINDS:
            raise ValueError(f"a field is of the type {kind[:20]} with {size[:20]} bytes")
        code = np.dtype(_KINDS[kind, size])
        shape = () if int(count) == 1 else (int(count),)
        fields.append((f"_{number}" if name == "_" else name, code, shape))
    dtype = np.dtype(fields)
    points = int(values["POINTS"][0] if "POINTS" in values else int(values["WIDTH"][0]) * int(values["HEIGHT"][0]))
    kind = values["DATA"][0].lower()
    if kind not in ("ascii", "binary", "binary_compressed"):
        raise ValueError(f"DATA is {kind[:40]}")
    have = path.stat().st_size - at
    need = points * (2 * len(names) if kind == "ascii" else dtype.itemsize)
    if points < 0 or dtype.itemsize > 4096 or need > have * (MOST_EXPANSION if kind == "binary_compressed" else 1) + 1:
        raise ValueError(f"{points:,} points do not fit {have:,} bytes")
    if not {"x", "y", "z"} <= set(names):
        raise ValueError("its FIELDS have no x, y and z")
    return _Header(dtype, points, kind, at)


def _binary(path: Path, header: _Header, kept: Collector) -> None:
    for first in range(0, header.count, CHUNK):
        offset = header.size + first * header.dtype.itemsize
        block = np.fromfile(path, header.dtype, min(CHUNK, header.count - first), offset=offset)
        _add(kept, {name: block[name] for name in header.dtype.names})


def _ascii(path: Path, header: _Header, kept: Collector) -> None:
    scalars = [(name, header.dtype[name].shape) for name in header.dtype.names]
    width = sum(int(np.prod(shape)) if shape else 1 for _, shape in scalars)
    with open(path, "rb") as file:
        file.seek(header.size)
        for first in range(0, header.count, CHUNK):
            rows = min(CHUNK, header.count - first)
            words = b"".join(file.readline(_LINE) for _ in range(rows)).split()
            if len(words) != rows * width:
                raise InputError(
                    f"{path}: {rows:,} points hold {len(words):,} numbers, expected {rows * width:,}; copy it again"
                )
            values, column, block = np.array(words, dtype="S32").reshape(rows, width), 0, {}
            for name, shape in scalars:
                if not shape and name in _WANTED:
                    block[name] = _numbers(values[:, column], header.dtype[name])
                column += int(np.prod(shape)) if shape else 1
            _add(kept, block)


def _numbers(words: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Text as numbers of the stored type; packed colours are written as either."""
    values = words.astype(np.float64)
    if kind.kind == "f":
        return values.astype(kind) if kind.itemsize == 4 else values
    return np.clip(np.nan_to_num(values), np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)


_WANTED = ("x", "y", "z", "rgb", "rgba", "r", "g", "b", "red", "green", "blue", "intensity")


def _compressed(path: Path, header: _Header, kept: Collector) -> None:
    """All of one field after all of the other, packed together."""
    with open(path, "rb") as file:
        file.seek(header.size)
        packed, size = (int(each) for each in np.frombuffer(file.read(8), "<u4"))
        data = file.read(packed)
    if len(data) != packed or size != header.count * header.dtype.itemsize:
        raise ValueError("its sizes do not fit the number of points")
    data, block, at = unpack_lzf(data, size), {}, 0
    for name in header.dtype.names:
        kind = header.dtype[name]
        if not kind.shape and name in _WANTED:
            block[name] = np.frombuffer(data, kind, header.count, at)
        at += header.count * kind.itemsize
    for first in range(0, header.count, CHUNK):
        _add(kept, {name: values[first : first + CHUNK] for name, values in block.items()})


def unpack_lzf(data: bytes, size: int) -> bytes:
    """What LZF packed, of exactly ``size`` bytes. Raises ValueError."""
    out, at = bytearray(), 0
    while at < len(data) and len(out) <= size:
        control = data[at]
        at += 1
        if control < 32:  # so many bytes as they are, and one
            out += data[at : at + control + 1]
            at += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += data[at]
            at += 1
        back = ((control & 31) << 8 | data[at]) + 1
        at += 1
        length += 2
        start = len(out) - back
        if start < 0:
            raise ValueError("its packed data points before its beginning")
        while length > 0:  # a copy may run into what it writes
            piece = out[start : start + length]
            out += piece
            start, length = start + len(piece), length - len(piece)
    if len(out) != size:
        raise ValueError(f"its packed data holds {len(out):,} bytes, expected {size:,}")
    return bytes(out)


def _add(kept: Collector, block: dict[str, np.ndarray]) -> None:
    with np.errstate(invalid="ignore"):
        xyz = np.stack([block[axis].astype(np.float64) for axis in "xyz"], 1)
    packed = block.get("rgb", block.get("rgba"))
    channels = next((names for names in (("red", "green", "blue"), ("r", "g", "b")) if set(names) <= set(block)), None)
    if packed is not None and packed.dtype.itemsize == 4:
        whole = np.ascontiguousarray(packed).view("<u4")
        kept.add(xyz, np.stack([whole >> shift & 255 for shift in (16, 8, 0)], 1))
    elif channels is not None:
        kept.add(xyz, np.stack([block[name] for name in channels], 1))
    else:
        kept.add(xyz, grey=block.get("intensity"))
