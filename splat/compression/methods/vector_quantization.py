"""Vector quantization: attributes from codebooks, and training on them.

`fit_codebooks` clusters as Compact3D (Navaneet et al. 2024) and sub-vectors as OMG (Lee et al. 2025);
`CodebookRounding` makes `finetune` train the codebooks by straight-through gradients. `splat.formats.codebooks` has the
file.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.coding import vector_kmeans
from splat.formats.codebooks import Codebook, Group, quantized, with_unit_quats


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


def fit_codebooks(
    cloud: GaussianCloud, groups: list[Group], weights: Tensor | None = None, seed: int = 0
) -> list[Codebook]:
    """k-means for every group, each Gaussian counting by ``weights`` (N,) > 0. Rotations are made unit with w ≥ 0."""
    cloud = with_unit_quats(cloud)
    weights = torch.ones(len(cloud)) if weights is None else weights.float().clamp_min(1e-8)
    books = []
    for group in groups:
        points = _columns(cloud, group).float().contiguous()
        size = min(group.size, max(len(points), 1))
        entries, index = vector_kmeans.fit(points.numpy(), weights.numpy(), size, seed=seed)
        books.append(Codebook(group, torch.as_tensor(entries), torch.as_tensor(index).long()))
    return books


@dataclass
class CodebookRounding:
    """For `finetune(rounding=…)`: pictures show the codebooks' values, gradients move the attributes behind them.

    Entries are the means of their Gaussians at every refresh; every ``again``-th one also assigns anew.
    """

    books: list[Codebook]
    again: int = 5
    count: int = field(default=0, init=False)

    def rounded(self, cloud: GaussianCloud) -> GaussianCloud:
        """``cloud`` as the codebooks have it."""
        cloud = with_unit_quats(cloud)
        for book in self.books:
            points = _columns(cloud, book.group).float()
            if self.count and self.count % self.again == 0:
                book.index = _nearest(points, book.entries)
            total = torch.zeros(len(book.entries)).index_add_(0, book.index, torch.ones(len(points)))
            sums = torch.zeros_like(book.entries).index_add_(0, book.index, points)
            book.entries = torch.where(total[:, None] > 0, sums / total[:, None].clamp_min(1), book.entries)
        self.count += 1
        return quantized(cloud, self.books)


def _columns(cloud: GaussianCloud, group: Group) -> Tensor:
    return getattr(cloud, group.tensor).reshape(len(cloud), -1)[:, group.first : group.last]


def _nearest(points: Tensor, entries: Tensor) -> Tensor:
    half = entries.square().sum(1) / 2
    chunks = [torch.addmm(half, rows, entries.T, alpha=-1).argmin(1) for rows in points.split(4096)]
    return torch.cat(chunks) if chunks else torch.zeros(0, dtype=torch.int64)
