"""VecTree quantization of LightGaussian (Fan et al. 2024, §3.4): octree positions, codebook colours for the less
significant Gaussians, half floats for the rest. Bytes and back."""

import struct
import zlib

import numpy as np
import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.formats import palette
from splat.formats import splatz_entropy as entropy
from splat.formats.order import spread_bits
from splat.formats.splatz_codec import read_tree, write_tree

CODES = 8192
SHARE = 0.6  # of the Gaussians, the least significant, whose colours come from the codebook
LEVELS = 16  # bits of a coordinate: the octree, and plain bits below it
HEAD = struct.Struct("<IBBxx4dI")


def pack(cloud: GaussianCloud, weights: Tensor, share: float = SHARE, codes: int = CODES, seed: int = 0) -> bytes:
    """The bytes of ``cloud``; the ``share`` of least ``weights`` (N,) gets its SH from ``codes`` entries."""
    if len(cloud) == 0:
        return HEAD.pack(0, cloud.sh_degree, 0, 0, 0, 0, 1, 0)
    means = cloud.means.double().numpy()
    low = means.min(0)
    side = max(float((means.max(0) - low).max()) * (1 + 1e-9), 1e-12)
    cells = np.clip((means - low) * (2**LEVELS / side), 0, 2**LEVELS - 1).astype(np.uint64)
    x, y, z = (spread_bits(column << np.uint64(21 - LEVELS)) for column in cells.T)
    curve = x | y << np.uint64(1) | z << np.uint64(2)
    order = np.argsort(curve, kind="stable")
    depth, tree = write_tree(curve[order], LEVELS)
    rows, weights, cells = cloud.select(torch.from_numpy(order)), weights[torch.from_numpy(order)], cells[order]
    below = cells & np.uint64((1 << (LEVELS - depth)) - 1)
    plain = entropy.pack_bits(below.reshape(-1).astype(np.int64), np.full(3 * len(rows), LEVELS - depth, np.int64))
    poor = torch.zeros(len(rows), dtype=torch.bool)
    poor[weights.argsort(stable=True)[: int(share * len(rows))]] = True
    colours = rows.sh.reshape(len(rows), -1).float()
    entries, index = np.zeros((0, colours.shape[1]), np.float32), np.zeros(0, np.int64)
    if bool(poor.any()):
        heavy = weights[poor].float().clamp_min(1e-8).numpy()
        entries, index = palette.fit(colours[poor].contiguous().numpy(), heavy, min(codes, int(poor.sum())), seed=seed)
    shape = torch.cat([rows.log_scales, rows.quats, rows.logit_opacities[:, None].clamp(-30, 30)], 1)
    streams = [
        *tree, plain, np.packbits(poor.numpy()).tobytes(), entropy.encode(index), _half(entries),
        _half(shape.numpy()), _half(colours[~poor].numpy()),
    ]  # fmt: skip
    head = HEAD.pack(len(rows), cloud.sh_degree, depth, *low, side, len(entries))
    return head + b"".join(len(stream).to_bytes(4, "little") + stream for stream in streams)


def unpack(data: bytes) -> GaussianCloud:
    """The cloud that `pack` was given, along the Morton curve."""
    count, degree, depth, *low, side, size = HEAD.unpack_from(data)
    if count == 0:
        return GaussianCloud.empty(degree)
    streams, at = [], HEAD.size
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        streams.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    given = iter(streams)
    cells, _ = read_tree(given, count)
    below = entropy.unpack_bits(next(given), np.full(3 * count, LEVELS - depth, np.int64)).reshape(-1, 3)
    means = (((cells << (LEVELS - depth)) | below) + 0.5) * (side / 2**LEVELS) + np.array(low)
    poor = np.unpackbits(np.frombuffer(next(given), np.uint8), count=count).astype(bool)
    index = entropy.decode(next(given), int(poor.sum()))
    width = 3 * (degree + 1) ** 2
    entries, shape = _full(next(given), width), _full(next(given), 8)
    colours = np.zeros((count, width), np.float32)
    colours[poor], colours[~poor] = entries[index], _full(next(given), width)
    tensors = (means.astype(np.float32), shape[:, :3], shape[:, 3:7], shape[:, 7], colours.reshape(count, -1, 3))
    return GaussianCloud(*(torch.from_numpy(np.ascontiguousarray(values)) for values in tensors))


def _half(values: np.ndarray) -> bytes:
    """Half floats, low bytes before high bytes, deflated."""
    planes = values.astype("<f2").T.reshape(-1).view(np.uint8).reshape(-1, 2).T
    return zlib.compress(planes.tobytes(), 9)


def _full(data: bytes, columns: int) -> np.ndarray:
    planes = np.frombuffer(zlib.decompress(data), np.uint8).reshape(2, -1)
    return np.ascontiguousarray(planes.T).view("<f2").reshape(columns, -1).T.astype(np.float32)
