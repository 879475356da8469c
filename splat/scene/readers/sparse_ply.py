"""Point clouds in ply files, as the field's programs write them: positions, and colours of any type and name."""

import io
import re
from pathlib import Path

import numpy as np

from splat.reading import guarded, read_bytes

_LONGEST_HEADER = 1 << 16  # bytes
_FARTHEST = 1e15  # world units, as for poses
_GREY = 128
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_CHANNELS = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
    ("scalar_red", "scalar_green", "scalar_blue"),
    ("scalar_r", "scalar_g", "scalar_b"),
    ("scalar_diffuse_red", "scalar_diffuse_green", "scalar_diffuse_blue"),
    ("ambient_red", "ambient_green", "ambient_blue"),
    ("color_r", "color_g", "color_b"),
    ("colour_r", "colour_g", "colour_b"),
    ("col_r", "col_g", "col_b"),
)
_HARMONICS = ("f_dc_0", "f_dc_1", "f_dc_2")  # of a cloud of Gaussians
_BASE = 0.28209479177387814  # of the first spherical harmonic


def read_ply_points(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Vertex positions (M, 3) float64 and colours (M, 3) uint8 (grey where absent) of a ply file, and notes.

    Rows whose position is not finite are left out, and counted in a note. Raises InputError.
    """
    data = read_bytes(path)
    with guarded(path, "the ply point cloud"):
        vertices = _vertices(data)
        by_name = {name.lower(): name for name in reversed(vertices.dtype.names)}
        with np.errstate(invalid="ignore"):  # float32 has NaNs that warn
            xyz = np.stack([vertices[by_name[axis]].astype(np.float64) for axis in "xyz"], axis=1)
    rgb = _colours(vertices, by_name)
    with np.errstate(invalid="ignore"):
        good = (np.abs(xyz) <= _FARTHEST).all(1)
    if good.all():
        return xyz, rgb, []
    left_out = f"{int((~good).sum()):,} of {len(good):,} points of {path.name} have no finite position and are left out"
    return xyz[good], rgb[good], [left_out]


def _colours(vertices: np.ndarray, by_name: dict[str, str]) -> np.ndarray:
    """(M, 3) uint8 of whichever properties hold colours."""
    for channels in _CHANNELS:
        if by_name.keys() >= set(channels):
            return colours_of(np.stack([vertices[by_name[channel]] for channel in channels], axis=1))
    if by_name.keys() >= set(_HARMONICS):
        harmonics = np.stack([vertices[by_name[name]] for name in _HARMONICS], axis=1).astype(np.float64)
        return _bytes(255 * (0.5 + _BASE * harmonics))
    return np.full((len(vertices), 3), _GREY, np.uint8)


def colours_of(values: np.ndarray) -> np.ndarray:
    """(M, 3) uint8 of colours of any type: what is 255 or less is 8 bit, above 16 bit, and fractions end at 1.

    A file says only the type, not the scale: the largest value tells it.
    """
    if values.dtype == np.uint8 or values.size == 0:
        return values.astype(np.uint8)
    wide = values.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    largest = float(finite.max()) if len(finite) else 0.0
    if np.issubdtype(values.dtype, np.floating) and largest <= 2 and (finite != np.floor(finite)).any():
        scale = 255.0
    elif np.issubdtype(values.dtype, np.floating) and largest <= 1:
        scale = 255.0
    else:
        scale = 1.0 if largest <= 255 else 255 / 65535 if largest <= 65535 else 255 / largest
    return _bytes(wide * scale)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.nan_to_num(values, nan=_GREY, posinf=255, neginf=0) + 0.5, 0, 255).astype(np.uint8)


def _vertices(data: bytes) -> np.ndarray:
    """The vertex element, which must come first and have no list properties, as a structured array."""
    ends = re.compile(rb"[\r\n]end_header[ \t]*(\r\n|\n|\r)").search(data, 0, _LONGEST_HEADER)
    if ends is None:
        raise ValueError("it has no header that ends")
    start, head = ends.end(), data[: ends.start()].decode("latin-1")  # comments may be in any encoding
    lines = [line.split() for line in re.split(r"[\r\n]", head)]
    lines = [line for line in lines if line and line[0] in ("format", "element", "property")]
    if any(len(line) < 3 for line in lines):
        raise ValueError("its header has lines that are too short")
    kind = next((line[1] for line in lines if line[0] == "format"), "not said")
    order = {"binary_big_endian": ">", "binary_little_endian": "<", "ascii": "="}.get(kind)
    if order is None:
        raise ValueError(f"its format is {kind[:40]}")
    elements = [index for index, line in enumerate(lines) if line[0] == "element"]
    if not elements or lines[elements[0]][1] != "vertex":
        raise ValueError("its first element is not 'vertex'")
    count, fields = int(lines[elements[0]][2]), []
    for line in lines[elements[0] + 1 : elements[1] if len(elements) > 1 else None]:
        if line[0] != "property" or line[1] not in _TYPES:
            raise ValueError(f"it has a '{' '.join(line)[:40]}', expected properties that are numbers")
        fields.append((line[2], order + _TYPES[line[1]]))
    if not {"x", "y", "z"} <= {name.lower() for name, _ in fields}:
        raise ValueError("its vertices have no x, y and z")
    dtype = np.dtype(fields)
    if not 0 <= count <= len(data) - start:
        raise ValueError(f"{count} points do not fit its {len(data):,} bytes")
    if kind != "ascii":
        return np.frombuffer(data, dtype, count, start)
    return _ascii_vertices(data, start, dtype, count)


def _ascii_vertices(data: bytes, start: int, dtype: np.dtype, count: int) -> np.ndarray:
    """``count`` lines of text as rows; colours of whole numbers stay such."""
    wide = np.dtype([(name, "u1" if dtype[name] == np.uint8 else _wide(dtype[name])) for name in dtype.names])
    rows, width = np.empty(count, wide), len(wide.names)
    lines = iter(io.BytesIO(data[start:]))
    for number in range(count):
        words = next(lines, b"").split(None, width)
        if len(words) < width:
            raise ValueError(f"point {number} of {count} has {len(words)} of {width} numbers")
        rows[number] = tuple(float(word) for word in words[:width])
    return rows


def _wide(kind: np.dtype) -> str:
    return "f8" if np.issubdtype(kind, np.floating) else "i8"
