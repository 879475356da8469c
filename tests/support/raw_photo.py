"""A raw photo as small as LibRaw takes one: uncompressed DNG with a Bayer pattern."""

import struct
from pathlib import Path

import numpy as np

_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _SRATIONAL = 1, 2, 3, 4, 5, 10
_FORMATS = {_BYTE: "B", _ASCII: "B", _SHORT: "H", _LONG: "I", _RATIONAL: "II", _SRATIONAL: "ii"}


def write_dng(path: Path, light: np.ndarray, orientation: int = 1) -> None:
    """Write (H, W, 3) linear light in [0, 1], of a camera whose primaries are those of sRGB."""
    height, width = light.shape[:2]
    mosaic = np.empty((height, width), np.float64)
    for row, column, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        mosaic[row::2, column::2] = light[row::2, column::2, channel]
    data = (mosaic * 65535 + 0.5).astype("<u2").tobytes()
    from_xyz = [3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570]
    tags = [
        (254, _LONG, [0]), (256, _LONG, [width]), (257, _LONG, [height]), (258, _SHORT, [16]), (259, _SHORT, [1]),
        (262, _SHORT, [32803]), (271, _ASCII, b"Test\0"), (272, _ASCII, b"Camera\0"), (273, _LONG, [0]),
        (274, _SHORT, [orientation]), (277, _SHORT, [1]), (278, _LONG, [height]), (279, _LONG, [len(data)]),
        (284, _SHORT, [1]), (33421, _SHORT, [2, 2]), (33422, _BYTE, [0, 1, 1, 2]), (50706, _BYTE, [1, 4, 0, 0]),
        (50708, _ASCII, b"Test Camera\0"), (50714, _SHORT, [0]), (50717, _LONG, [65535]),
        (50721, _SRATIONAL, [word for value in from_xyz for word in (round(value * 10000), 10000)]),
        (50728, _RATIONAL, [1, 1, 1, 1, 1, 1]), (50778, _SHORT, [21]),
    ]  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    entries, extra = b"", b""
    packed = [(tag, kind, struct.pack("<" + str(len(v)) + _FORMATS[kind][0], *v)) for tag, kind, v in tags]
    for tag, kind, value in packed:
        count = len(value) // struct.calcsize("<" + _FORMATS[kind])
        if len(value) > 4:
            entries += struct.pack("<HHII", tag, kind, count, start + len(extra))
            extra += value + b"\0" * (len(value) % 2)
        else:
            entries += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
    strip = struct.pack("<HHI", 273, _LONG, 1)
    entries = entries.replace(strip + bytes(4), strip + struct.pack("<I", start + len(extra)))
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + extra + data)
