"""Vector quantization: attributes from codebooks, and training on them.

`codebooks` clusters as Compact3D (Navaneet et al. 2024) and sub-vectors as OMG (Lee et al. 2025); `Assigned` makes
`finetune` train the codebooks by straight-through gradients; `coded` packs indices and codebooks.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.coding import rans as entropy
from splat.coding import vector_kmeans


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


def compact3d(cloud: GaussianCloud) -> list[Group]:
    """Base colour, SH, sizes and rotations each from one codebook, of 4096, 512, 4096 and 4096 entries."""
    width = cloud.sh.shape[1] * 3
    rest = [Group("sh", 3, width, 512)] if width > 3 else []
    return [Group("sh", 0, 3, 4096), *rest, Group("log_scales", 0, 3, 4096), Group("quats", 0, 4, 4096)]


def sub_vectors(cloud: GaussianCloud) -> list[Group]:
    """OMG's short sub-vectors: sizes one by one (64), rotations in pairs (512), colours in pairs (1024)."""
    width = cloud.sh.shape[1] * 3
    groups = [Group("log_scales", i, i + 1, 64) for i in range(3)] + [Group("quats", i, i + 2, 512) for i in (0, 2)]
    groups.append(Group("sh", 0, 3, 1024))
    return groups + [Group("sh", i, min(i + 3, width), 1024) for i in range(3, width, 3)]


@dataclass
class Codebook:
    """Entries (K, D) and the entry of each Gaussian (N,) int64 for a `Group`."""

    group: Group
    entries: Tensor
    index: Tensor


def codebooks(
    cloud: GaussianCloud, groups: list[Group], weights: Tensor | None = None, seed: int = 0
) -> list[Codebook]:
    """k-means for every group, each Gaussian counting by ``weights`` (N,) > 0. Rotations are made unit with w ≥ 0."""
    cloud = _upright(cloud)
    weights = torch.ones(len(cloud)) if weights is None else weights.float().clamp_min(1e-8)
    found = []
    for group in groups:
        points = _columns(cloud, group).float().contiguous()
        size = min(group.size, max(len(points), 1))
        entries, index = vector_kmeans.fit(points.numpy(), weights.numpy(), size, seed=seed)
        found.append(Codebook(group, torch.as_tensor(entries), torch.as_tensor(index).long()))
    return found


def quantized(cloud: GaussianCloud, books: list[Codebook]) -> GaussianCloud:
    """``cloud`` with what the codebooks say in place of its attributes."""
    cloud = _upright(cloud)
    tensors = {name: getattr(cloud, name).clone() for name in ("log_scales", "quats", "sh")}
    for book in books:
        flat = tensors[book.group.tensor].reshape(len(cloud), -1)
        flat[:, book.group.first : book.group.last] = book.entries.to(flat)[book.index]
        tensors[book.group.tensor] = flat.reshape(tensors[book.group.tensor].shape)
    return cloud.replace(**tensors)


@dataclass
class Assigned:
    """For `finetune(rounding=…)`: pictures show the codebooks' values, gradients move the attributes behind them.

    Entries are the means of their Gaussians at every refresh; every ``again``-th one also assigns anew.
    """

    books: list[Codebook]
    again: int = 5
    count: int = field(default=0, init=False)

    def rounded(self, cloud: GaussianCloud) -> GaussianCloud:
        """``cloud`` as the codebooks have it."""
        cloud = _upright(cloud)
        for book in self.books:
            points = _columns(cloud, book.group).float()
            if self.count and self.count % self.again == 0:
                book.index = _nearest(points, book.entries)
            total = torch.zeros(len(book.entries)).index_add_(0, book.index, torch.ones(len(points)))
            sums = torch.zeros_like(book.entries).index_add_(0, book.index, points)
            book.entries = torch.where(total[:, None] > 0, sums / total[:, None].clamp_min(1), book.entries)
        self.count += 1
        return quantized(cloud, self.books)

    def shrink(self, cloud: GaussianCloud) -> None:
        """Codebooks have no rate to lower."""


def coded(books: list[Codebook]) -> list[bytes]:
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


def decoded(streams: list[bytes], groups: list[Group], count: int) -> list[Codebook]:
    """The inverse of `coded` for ``count`` Gaussians."""
    books = []
    for group, index, entries in zip(groups, streams[::2], streams[1::2], strict=True):
        values = np.frombuffer(entries, "<f2").reshape(-1, group.last - group.first).astype(np.float32)
        books.append(Codebook(group, torch.from_numpy(values), torch.from_numpy(entropy.decode(index, count))))
    return books


def _columns(cloud: GaussianCloud, group: Group) -> Tensor:
    return getattr(cloud, group.tensor).reshape(len(cloud), -1)[:, group.first : group.last]


def _upright(cloud: GaussianCloud) -> GaussianCloud:
    quats = torch.nn.functional.normalize(cloud.quats, dim=1)
    return cloud.replace(quats=quats * torch.where(quats[:, :1] < 0, -1.0, 1.0))


def _nearest(points: Tensor, entries: Tensor) -> Tensor:
    half = entries.square().sum(1) / 2
    chunks = [torch.addmm(half, rows, entries.T, alpha=-1).argmin(1) for rows in points.split(4096)]
    return torch.cat(chunks) if chunks else torch.zeros(0, dtype=torch.int64)
