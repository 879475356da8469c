"""Training on the rounded: pictures are drawn from what a `.splatz` file will hold, gradients move what is behind it.

Straight-through rounding (Bengio et al. 2013) with the rate in the loss: the entropy coder's price of view-dependent
colour is modelled by a geometric distribution for each component, fitted to the codes as they are.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import logits
from splat.formats.splatz.container import frame_of, rows_of, steps_of, usable
from splat.formats.splatz.quantizer import (
    COLOUR,
    Frame,
    Rows,
    Steps,
    canonical,
    components,
    dequantize,
    quantize,
    round_means,
)
from splat.formats.splatz.rotation import alike

SOFT = 0.3  # of a code: below, the price of view-dependent colour fades


@dataclass(frozen=True)
class Rounding:
    """The grid of codes of one file: made once, for a cloud whose rows and axes keep their order.

    Attributes:
        frame: of the file. detail: (N,) digits of single Gaussians beyond the usual, or None.
    """

    frame: Frame
    detail: np.ndarray | None = None

    @staticmethod
    def of(cloud: GaussianCloud, quality: float | Steps, detail: np.ndarray | None = None) -> "Rounding":
        """For ``cloud`` as `with_ordered_axes` gives it, and a file of ``quality`` or of these steps."""
        steps = usable(quality) if isinstance(quality, Steps) else steps_of(quality)
        return Rounding(frame_of(rows_of(GaussianArrays.of(cloud), detail), steps), detail)

    def rounded(self, cloud: GaussianCloud) -> GaussianCloud:
        """``cloud`` as the file will have it, row by row."""
        rows = rows_of(GaussianArrays.of(cloud), self.detail)
        codes = quantize(rows, self.frame)
        found = dequantize(codes, round_means(rows.means, codes.levels, self.frame), self.frame, cloud.sh_degree)
        found = replace(found, quats=alike(found.quats, rows.quats))
        return _cloud(found, cloud)

    def slope(self, cloud: GaussianCloud) -> Tensor:
        """(N, K, 3) by how many bits the file grows where a coefficient does; 0 for the base colour.

        The codes of each component of view-dependent colour are taken to be geometric, P(n) ∝ θ^|n|: one more costs
        −log₂ θ bits. Below one code the slope falls to 0 at 0, so that values may rest there.
        """
        slope = torch.zeros_like(cloud.sh)
        if not len(self.frame.basis):
            return slope
        rows = rows_of(GaussianArrays.of(cloud), self.detail)
        codes = quantize(rows, self.frame)
        step = self.frame.steps.sh * np.exp2(codes.levels.colour)[:, None]
        mean = np.maximum(np.abs(codes.rest).mean(0), 1e-4)
        cost = -np.log2((np.sqrt(1 + mean * mean) - 1) / mean)
        found = np.clip(components(rows.sh, self.frame) / step / SOFT, -1, 1) * cost / step
        found = (found @ np.linalg.pinv(self.frame.basis.astype(np.float64)).T).reshape(len(slope), -1, 3) @ COLOUR
        slope[:, 1:] = torch.from_numpy(found).to(slope)
        return slope


def with_ordered_axes(cloud: GaussianCloud) -> GaussianCloud:
    """The same Gaussians with axes from long to short and unit quaternions whose w is the largest part."""
    rows = rows_of(GaussianArrays.of(cloud))
    log_scales, quats = canonical(rows.log_scales, rows.quats)
    return cloud.replace(
        log_scales=torch.from_numpy(log_scales).to(cloud.log_scales), quats=torch.from_numpy(quats).to(cloud.quats)
    )


def _cloud(rows: Rows, like: GaussianCloud) -> GaussianCloud:
    opacities = torch.from_numpy(logits(rows.alphas)).to(like.logit_opacities).clamp(-16, 16)

    def tensor(values: np.ndarray, old: Tensor) -> Tensor:
        return torch.from_numpy(values).to(old)

    return GaussianCloud(
        tensor(rows.means, like.means), tensor(rows.log_scales, like.log_scales), tensor(rows.quats, like.quats),
        opacities, tensor(rows.sh, like.sh),
    )  # fmt: skip


def settle(latent: GaussianCloud) -> None:
    """Unit quaternions with w ≥ 0 and opacities that are not beyond rounding, in place."""
    with torch.no_grad():
        latent.quats.copy_(torch.nn.functional.normalize(latent.quats, dim=1))
        latent.quats.mul_(torch.where(latent.quats[:, :1] < 0, -1.0, 1.0))
        latent.logit_opacities.clamp_(-16, 16)
