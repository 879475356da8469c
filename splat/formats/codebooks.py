"""Codebook files: attributes as indices into shared codebooks (Compact3D, Navaneet et al. 2024; OMG, Lee et al. 2025).

A file holds positions (octree), opacities in a byte, and for each group of columns entropy coded indices with
half-float entries. `splat compress --method compact3d` and `omg` write it.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.coding import rans as entropy
from splat.coding.attributes import byte_logits
from splat.coding.checked import body_of, checked
from splat.coding.limits import LEAST_BYTES_PER_ROW, check_claim
from splat.coding.octree import (
    PositionGrid,
    cell_centers,
    check_place,
    each_of,
    join,
    quantize_positions,
    read_positions,
    split,
    with_filler,
)
from splat.reading import guarded, read_bytes

MAGIC = b"CODEBOOK\x01"
HEAD = struct.Struct("<IBBH4d")  # Gaussians, SH degree, octree depth, groups, corner and side of the grid
GROUP = struct.Struct("<BHHI")  # tensor, first and last column, most entries
TENSORS = ("log_scales", "quats", "sh")


@dataclass(frozen=True)
class Group:
    """Columns of one attribute that share a codebook.

    Attributes:
        tensor: field of the cloud. first, last: columns of its flattened rows. size: most entries.
    """

    tensor: str
    first: int
    last: int
    size: int


@dataclass
class Codebook:
    """Entries (K, D) and the entry of each Gaussian (N,) int64 for a `Group`."""

    group: Group
    entries: Tensor
    index: Tensor


def read(path: Path) -> GaussianArrays:
    """The cloud in a file, along the Morton curve. Raises InputError."""
    return GaussianArrays.of(unpack(read_bytes(path), Path(path)))


def antialiased(path: Path) -> bool:
    """The format has no mark for the antialiased (mip) blur."""
    return False


def pack(cloud: GaussianCloud, books: list[Codebook]) -> bytes:
    """The bytes of ``cloud`` (N ≥ 1) with sizes, rotations and colours from ``books``."""
    grid = quantize_positions(cloud.means.double().numpy())
    order = torch.from_numpy(grid.order)
    opacities = (255 * cloud.logit_opacities.sigmoid()).round().long()[order]
    books = [Codebook(book.group, book.entries, book.index[order]) for book in books]
    head = HEAD.pack(len(cloud), cloud.sh_degree, grid.depth, len(books), *grid.low, grid.side)
    for group in (book.group for book in books):
        head += GROUP.pack(TENSORS.index(group.tensor), group.first, group.last, group.size)
    body = head + join([*grid.streams, entropy.encode(opacities.numpy()), *pack_books(books)])
    return checked(MAGIC, with_filler(body, len(cloud), cloud.sh_degree))


def unpack(data: bytes, path: Path = Path("a.codebooks")) -> GaussianCloud:
    """The cloud that `pack` was given, along the Morton curve. Raises InputError for damaged bytes."""
    data = body_of(MAGIC, data, path)
    with guarded(path, "the codebooks"):
        return _unpack(data, path)


def _unpack(data: bytes, path: Path) -> GaussianCloud:
    count, degree, depth, groups, *low, side = HEAD.unpack_from(data)
    check_claim(path, count, degree, LEAST_BYTES_PER_ROW, len(data))
    check_place(low, side)
    widths, chosen = {"log_scales": 3, "quats": 4, "sh": 3 * (degree + 1) ** 2}, []
    for number in range(groups):
        tensor, *columns = GROUP.unpack_from(data, HEAD.size + number * GROUP.size)
        group = Group(TENSORS[tensor], *columns)
        if not 0 <= group.first < group.last <= widths[group.tensor]:
            raise ValueError(f"columns {group.first} to {group.last} of {group.tensor}")
        chosen.append(group)
    if sum(group.last - group.first for group in chosen) > sum(widths.values()):
        raise ValueError("the groups have more columns than the cloud")
    streams = split(data, HEAD.size + groups * GROUP.size)
    given = each_of(streams)
    grid = PositionGrid(np.zeros(0, np.int64), read_positions(given, count, depth), np.array(low), side, depth, [])
    means = torch.from_numpy((cell_centers(grid) * grid.side + grid.low).astype(np.float32))
    opacities = torch.from_numpy(byte_logits(entropy.decode(next(given), count)))
    shapes = (count, 3), (count, 4), (count, (degree + 1) ** 2, 3)
    log_scales, quats, sh = (torch.zeros(shape) for shape in shapes)
    cloud = GaussianCloud(means, log_scales, quats, opacities, sh)
    return quantized(cloud, unpack_books(list(streams)[: 2 * groups], chosen, count))


def quantized(cloud: GaussianCloud, books: list[Codebook]) -> GaussianCloud:
    """``cloud`` with what the codebooks say in place of its attributes."""
    cloud = with_unit_quats(cloud)
    tensors = {name: getattr(cloud, name).clone() for name in ("log_scales", "quats", "sh")}
    for book in books:
        flat = tensors[book.group.tensor].reshape(len(cloud), -1)
        flat[:, book.group.first : book.group.last] = book.entries.to(flat)[book.index]
        tensors[book.group.tensor] = flat.reshape(tensors[book.group.tensor].shape)
    return cloud.replace(**tensors)


def pack_books(books: list[Codebook]) -> list[bytes]:
    """Two streams for each codebook: entropy coded indices, most used entries first, and the entries as float16."""
    streams = []
    for book in books:
        order = torch.bincount(book.index, minlength=len(book.entries)).argsort(descending=True, stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order))
        used = int(rank[book.index].max()) + 1 if len(book.index) else 0
        streams.append(entropy.encode(rank[book.index].numpy()))
        streams.append(book.entries[order[:used]].numpy().astype("<f2").tobytes())
    return streams


def unpack_books(streams: list[bytes], groups: list[Group], count: int) -> list[Codebook]:
    """The inverse of `pack_books` for ``count`` Gaussians."""
    books = []
    for group, index, entries in zip(groups, streams[::2], streams[1::2], strict=True):
        values = np.frombuffer(entries, "<f2").reshape(-1, group.last - group.first).astype(np.float32)
        chosen = entropy.decode(index, count)
        if chosen.max(initial=0) >= max(len(values), 1) or (count and not len(values)):
            raise ValueError(f"entry {chosen.max(initial=0):,} of {len(values):,} of a codebook")
        books.append(Codebook(group, torch.from_numpy(values), torch.from_numpy(chosen)))
    return books


def with_unit_quats(cloud: GaussianCloud) -> GaussianCloud:
    """``cloud`` with unit quaternions, w ≥ 0."""
    quats = torch.nn.functional.normalize(cloud.quats, dim=1)
    return cloud.replace(quats=quats * torch.where(quats[:, :1] < 0, -1.0, 1.0))
