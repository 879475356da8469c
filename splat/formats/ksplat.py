"""`.ksplat` v0.1 (mkkellogg's GaussianSplats3D): Gaussians at compression level 0, 1 or 2, SH up to degree 2.

Layout: a 4096-byte header, 1024 bytes per section header, then each section's bucket tables and records. Level 0 holds
floats; levels 1 and 2 hold half floats and centres as 16-bit offsets from bucket centres; level 2 holds SH as bytes.
Same frame as the training cameras.
"""

from pathlib import Path

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import prepare, scales, unit_quats
from splat.coding.limits import check_claim
from splat.coding.morton import morton
from splat.coding.parallel import each, pieces
from splat.errors import InputError
from splat.files import atomic_path
from splat.formats.dotsplat import decode, encode_rgba
from splat.reading import require_file

HEADER = np.dtype(
    {
        "names": [
            "major",
            "minor",
            "max_sections",
            "sections",
            "max_count",
            "count",
            "level",
            "center",
            "min_sh",
            "max_sh",
        ],
        "formats": ["u1", "u1", "<u4", "<u4", "<u4", "<u4", "<u2", ("<f4", 3), "<f4", "<f4"],
        "offsets": [0, 1, 4, 8, 12, 16, 20, 24, 36, 40],
        "itemsize": 4096,
    }
)
SECTION = np.dtype(
    {
        "names": [
            "count", "max_count", "bucket_size", "buckets", "block",
            "bucket_bytes", "range", "bytes", "full", "partial", "degree",
        ],
        "formats": ["<u4", "<u4", "<u4", "<u4", "<f4", "<u2", "<u4", "<u4", "<u4", "<u4", "<u2"],
        "offsets": [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40],
        "itemsize": 1024,
    }
)  # fmt: skip
BUCKET = 256  # Gaussians per bucket
BLOCK = 5.0  # edge of the largest cube that a bucket's Gaussians may lie in, world units
RANGE = 32767  # 16-bit offsets run from -RANGE to RANGE over a block
DEFAULT_SH = 1.5  # range of 8-bit SH when the header gives none
_TYPES = (("<f4", "<f4", "<f4"), ("<u2", "<f2", "<f2"), ("<u2", "<f2", "u1"))  # centre, other values, SH; by level


def _record(level: int, degree: int) -> np.dtype:
    center, value, sh = _TYPES[level]
    fields = [("center", center, 3), ("scale", value, 3), ("quat", value, 4), ("rgba", "u1", 4)]
    rest = 3 * ((degree + 1) ** 2 - 1)
    return np.dtype(fields + ([("sh", sh, rest)] if rest else []))


def _sh_columns(degree: int) -> np.ndarray:
    """(K-1, 3) place in a record of coefficient k, channel c: band by band, channel by channel."""
    places, start = [], 0
    for band in range(1, degree + 1):
        width = 2 * band + 1
        places += [[start + channel * width + i for channel in range(3)] for i in range(width)]
        start += 3 * width
    return np.array(places, np.intp).reshape(-1, 3)


def read(path: Path) -> GaussianArrays:
    """Read ``path`` at any compression level."""
    data = np.memmap(require_file(path), np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    if len(data) < HEADER.itemsize:
        raise InputError(f"{path}: {len(data):,} bytes is less than the 4,096-byte .ksplat header; copy the file again")
    header = data[: HEADER.itemsize].view(HEADER)[0]
    if (header["major"], header["minor"]) != (0, 1) or header["level"] > 2:
        raise InputError(
            f"{path}: version {header['major']}.{header['minor']} at level {header['level']} is unknown; "
            "expected .ksplat version 0.1 at level 0 to 2"
        )
    # Writers disagree on the count of sections in use; unused ones are empty.
    sections = int(header["max_sections"])
    start = HEADER.itemsize + SECTION.itemsize * sections
    if start > len(data):
        raise InputError(
            f"{path}: {sections:,} sections do not fit {len(data):,} bytes; the file is damaged, copy it again"
        )
    table = data[HEADER.itemsize : start].view(SECTION)
    result = []
    for section in table[table["max_count"] > 0]:
        part, start = _read_section(path, data, start, header, section)
        if len(part):
            result.append(part)
    return GaussianArrays.concat(result) if result else GaussianArrays.empty()


def _read_section(path: Path, data: np.ndarray, start: int, header, section) -> tuple[GaussianArrays, int]:
    level, degree, count = int(header["level"]), int(section["degree"]), int(section["count"])
    if degree > 2 or count > section["max_count"]:
        raise InputError(f"{path}: a section claims SH degree {degree} for {count:,} Gaussians; the file is damaged")
    record = _record(level, degree)
    partial, buckets = int(section["partial"]), int(section["buckets"])
    stride, full = int(section["bucket_bytes"]), int(section["full"])
    if level and (stride < 12 or full + partial > buckets):
        raise InputError(
            f"{path}: a section claims {full:,} full and {partial:,} other buckets of {buckets:,}, {stride} bytes "
            "each; the file is damaged, copy it again"
        )
    tables = 4 * partial + buckets * stride
    records = start + tables
    end = records + int(section["max_count"]) * record.itemsize
    if end > len(data):
        raise InputError(
            f"{path}: a section needs {end - start:,} bytes but {len(data) - start:,} follow; the file is truncated"
        )
    check_claim(path, count, degree, record.itemsize, len(data))
    rows = np.array(data[records : records + count * record.itemsize]).view(record)
    center = rows["center"].astype(np.float32)
    if level:
        center = _dequantize(path, data[start:records], section, center)
    quats = rows["quat"].astype(np.float32)
    result = decode(center, rows["scale"], rows["rgba"], quats)
    if degree:
        sh = rows["sh"].astype(np.float32)
        if level == 2:
            low, high = float(header["min_sh"]) or -DEFAULT_SH, float(header["max_sh"]) or DEFAULT_SH
            sh = low + sh / 255 * (high - low)
        result = result.replace(sh=np.concatenate([result.sh, sh[:, _sh_columns(degree)].astype(np.float32)], 1))
    return result, end


def _dequantize(path: Path, tables: np.ndarray, section, center: np.ndarray) -> np.ndarray:
    """Bucket centre plus offset. ``tables`` are the partial buckets' lengths and the bucket centres."""
    partial, buckets, size = int(section["partial"]), int(section["buckets"]), int(section["bucket_size"])
    lengths = np.array(tables[: 4 * partial]).view("<u4").astype(np.int64)
    stride = int(section["bucket_bytes"])
    count, full = len(center), int(section["full"])
    spread = np.concatenate([np.full(full, size, np.int64), lengths])
    if spread.sum() < count:
        raise InputError(
            f"{path}: the bucket table does not cover the {count:,} Gaussians; the file is damaged, copy it again"
        )
    bucket = np.searchsorted(np.cumsum(spread), np.arange(count), side="right")
    centers = np.array(tables[4 * partial :]).reshape(buckets, stride)[:, :12].copy().view("<f4")
    reach = int(section["range"]) or RANGE
    return centers[bucket] + (center - reach) * np.float32(float(section["block"]) / 2 / reach)


def write(table: GaussianArrays, path: Path, *, level: int = 0) -> None:
    """Write ``table`` (SH up to degree 2) as one section.

    Args:
        level: 0 keeps floats; 1 halves the size; 2 also stores SH as bytes. The base colour is 8-bit at every level.
    """
    if level not in (0, 1, 2):
        raise InputError(f"{path}: .ksplat has no compression level {level}; choose 0, 1 or 2")
    table = prepare(table, path, max_degree=2)
    n, degree = len(table), table.sh_degree
    order = np.arange(n)
    if level:
        order, bucket, centers, block = _buckets(table.means)
    low, high = (float(table.sh[:, 1:].min()), float(table.sh[:, 1:].max())) if degree and n else (0.0, 0.0)
    low, high = min(low, -1e-6), max(high, 1e-6)  # a header value of 0 means "not given"
    limit, records = np.finfo(np.float16 if level else np.float32).max, np.zeros(n, _record(level, degree))

    def encode(rows: slice) -> None:
        part, record = table.select(order[rows]), records[rows]
        record["quat"], record["rgba"] = unit_quats(part), encode_rgba(part)
        record["scale"] = np.minimum(scales(part), limit)
        if degree:
            rest = part.sh[:, 1:]
            values = np.rint((rest - low) / (high - low) * 255) if level == 2 else np.clip(rest, -limit, limit)
            record["sh"][:, _sh_columns(degree)] = values
        if not level:
            record["center"] = part.means
        else:
            offset = (part.means - centers[bucket[rows]]) * (2 * RANGE / block)
            record["center"] = np.clip(np.rint(offset) + RANGE, 0, 2 * RANGE)

    each(encode, pieces(n))
    header, section = np.zeros(1, HEADER), np.zeros(1, SECTION)
    header["minor"] = header["max_sections"] = header["sections"] = 1
    header["max_count"] = header["count"] = section["max_count"] = section["count"] = n
    header["level"], header["min_sh"], header["max_sh"], section["degree"] = level, low, high, degree
    tables = b""
    if level:
        lengths = np.bincount(bucket, minlength=len(centers)).astype("<u4")
        full = int((lengths == BUCKET).sum())
        tables = lengths[full:].tobytes() + centers.astype("<f4").tobytes()
        section["bucket_size"], section["bucket_bytes"], section["block"], section["range"] = BUCKET, 12, block, RANGE
        section["buckets"], section["full"], section["partial"] = len(centers), full, len(centers) - full
    section["bytes"] = len(tables) + records.nbytes
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        for part in (header.tobytes(), section.tobytes(), tables):
            file.write(part)
        records.tofile(file)


def _buckets(means: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """The order that sorts rows into blocks, their buckets in that order, bucket centres (B, 3), and the block size."""
    cells = np.floor((means.astype(np.float64) - (means.min(0) if len(means) else 0)) / BLOCK)
    order = np.lexsort((np.argsort(morton(means)), cells[:, 2], cells[:, 1], cells[:, 0]))
    cells = cells[order]
    new_cell = np.ones(len(cells), bool)
    new_cell[1:] = (cells[1:] != cells[:-1]).any(1)
    cell = np.cumsum(new_cell) - 1
    first = np.flatnonzero(new_cell)
    rank = np.arange(len(cells)) - first[cell] if len(cells) else np.zeros(0, np.int64)
    bucket = np.cumsum(new_cell | (rank % BUCKET == 0)) - 1
    if not len(bucket):
        return order, bucket, np.zeros((0, 3), np.float32), BLOCK
    # The format wants full buckets first.
    lengths = np.bincount(bucket)
    place = np.argsort(np.argsort(lengths != BUCKET, kind="stable"))
    again = np.argsort(place[bucket], kind="stable")
    order, bucket = order[again], place[bucket][again]
    means, starts = means[order], np.flatnonzero(np.diff(bucket, prepend=-1))
    low, high = np.minimum.reduceat(means, starts), np.maximum.reduceat(means, starts)
    # A tight block makes the 16-bit steps finer than the usual block of 5 units would.
    return order, bucket, (low + high) / 2, max(float((high - low).max()), 1e-6)


def antialiased(path: Path) -> bool:
    """The format has no such mark."""
    return False
