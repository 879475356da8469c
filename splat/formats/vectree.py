"""VecTree quantization of LightGaussian (Fan et al. 2024, §3.4): octree positions, codebook colours for the less
significant Gaussians, half floats for the rest. `splat compress --method vectree` and `lightgaussian` write it."""

import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.coding import rans as entropy
from splat.coding import vector_kmeans
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
from splat.coding.rans_tables import inflate
from splat.reading import guarded, read_bytes

MAGIC = b"VECTREE\x01"
CODES = 8192
FRACTION = 0.6  # of the Gaussians, the least significant, whose colours come from the codebook
HEAD = struct.Struct("<IBBxx4dI")


def read(path: Path) -> GaussianArrays:
    """The cloud in a file, along the Morton curve. Raises InputError."""
    return GaussianArrays.of(unpack(read_bytes(path), Path(path)))


def antialiased(path: Path) -> bool:
    """The format has no mark for the antialiased (mip) blur."""
    return False


def pack(cloud: GaussianCloud, weights: Tensor, fraction: float = FRACTION, codes: int = CODES, seed: int = 0) -> bytes:
    """The bytes of ``cloud``; the ``fraction`` of least ``weights`` (N,) gets its SH from ``codes`` entries."""
    if len(cloud) == 0:
        return checked(MAGIC, HEAD.pack(0, cloud.sh_degree, 0, 0, 0, 0, 1, 0))
    grid = quantize_positions(cloud.means.double().numpy())
    order = torch.from_numpy(grid.order)
    rows, weights = cloud.select(order), weights[order]
    poor = torch.zeros(len(rows), dtype=torch.bool)
    poor[weights.argsort(stable=True)[: int(fraction * len(rows))]] = True
    colours = rows.sh.reshape(len(rows), -1).float()
    entries, index = np.zeros((0, colours.shape[1]), np.float32), np.zeros(0, np.int64)
    if bool(poor.any()):
        heavy = weights[poor].float().clamp_min(1e-8).numpy()
        entries, index = vector_kmeans.fit(
            colours[poor].contiguous().numpy(), heavy, min(codes, int(poor.sum())), seed=seed
        )
    shape = torch.cat([rows.log_scales, rows.quats, rows.logit_opacities[:, None].clamp(-30, 30)], 1)
    streams = [
        *grid.streams, np.packbits(poor.numpy()).tobytes(), entropy.encode(index), _half(entries),
        _half(shape.numpy()), _half(colours[~poor].numpy()),
    ]  # fmt: skip
    head = HEAD.pack(len(rows), cloud.sh_degree, grid.depth, *grid.low, grid.side, len(entries))
    return checked(MAGIC, with_filler(head + join(streams), len(rows), cloud.sh_degree))


def unpack(data: bytes, path: Path = Path("a.vectree")) -> GaussianCloud:
    """The cloud that `pack` was given, along the Morton curve. Raises InputError for damaged bytes."""
    data = body_of(MAGIC, data, path)
    with guarded(path, "the VecTree data"):
        return _unpack(data, path)


def _unpack(data: bytes, path: Path) -> GaussianCloud:
    count, degree, depth, *low, side, size = HEAD.unpack_from(data)
    check_claim(path, count, degree, LEAST_BYTES_PER_ROW, len(data))
    if count == 0:
        return GaussianCloud.empty(degree)
    given = each_of(split(data, HEAD.size))
    check_place(low, side)
    grid = PositionGrid(np.zeros(0, np.int64), read_positions(given, count, depth), np.array(low), side, depth, [])
    means = cell_centers(grid) * grid.side + grid.low
    poor = np.unpackbits(np.frombuffer(next(given), np.uint8), count=count).astype(bool)
    index = entropy.decode(next(given), int(poor.sum()))
    width = 3 * (degree + 1) ** 2
    entries, shape = _full(next(given), width, size), _full(next(given), 8, count)
    colours = np.zeros((count, width), np.float32)
    colours[poor], colours[~poor] = entries[index], _full(next(given), width, count - len(index))
    tensors = (means.astype(np.float32), shape[:, :3], shape[:, 3:7], shape[:, 7], colours.reshape(count, -1, 3))
    return GaussianCloud(*(torch.from_numpy(np.ascontiguousarray(values)) for values in tensors))


def _half(values: np.ndarray) -> bytes:
    """Half floats, low bytes before high bytes, deflated."""
    planes = values.astype("<f2").T.reshape(-1).view(np.uint8).reshape(-1, 2).T
    return zlib.compress(planes.tobytes(), 9)


def _full(data: bytes, columns: int, rows: int) -> np.ndarray:
    planes = np.frombuffer(inflate(data, 2 * columns * rows), np.uint8).reshape(2, -1)
    return np.ascontiguousarray(planes.T).view("<f2").reshape(columns, -1).T.astype(np.float32)
