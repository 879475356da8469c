"""Training on the rounded: pictures are drawn from what a `.splatz` file will hold, gradients move what is behind it.

Straight-through rounding (Bengio et al. 2013) with the rate in the loss: the entropy coder's price of view-dependent
colour is modelled by a Laplace density for each component, fitted to the codes as they are, and its slope pulls values
to zero (soft thresholds, the proximal step of that density).
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from splat.cloud import FIELDS, GaussianCloud
from splat.formats.quantize import logits
from splat.formats.splatz import frame_of, rows_of, steps_of, usable
from splat.formats.splatz_rounding import (
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
from splat.formats.splatz_turn import alike
from splat.formats.table import Table


@dataclass(frozen=True)
class Rounding:
    """The grid of codes of one file: made once, for a cloud whose rows and axes keep their order.

    Attributes:
        frame: of the file. price: λ, by how much of a step a bit per component of colour pulls, in one refresh.
    """

    frame: Frame
    price: float = 0.0

    @staticmethod
    def of(cloud: GaussianCloud, quality: float | Steps, price: float = 0.0) -> "Rounding":
        """For ``cloud`` as `with_ordered_axes` gives it, and a file of ``quality`` or of these steps."""
        steps = usable(quality) if isinstance(quality, Steps) else steps_of(quality)
        return Rounding(frame_of(rows_of(Table.of(cloud)), steps)[0], price)

    def rounded(self, cloud: GaussianCloud) -> GaussianCloud:
        """``cloud`` as the file will have it, row by row."""
        rows = rows_of(Table.of(cloud))
        codes = quantize(rows, self.frame)
        found = dequantize(codes, round_means(rows.means, codes.levels, self.frame), self.frame, cloud.sh_degree)
        found = replace(found, quats=alike(found.quats, rows.quats))
        return _cloud(found, cloud)

    def shrink(self, cloud: GaussianCloud) -> None:
        """Pull view-dependent colour to zero in place, each component by its price."""
        if self.price == 0 or not len(self.frame.basis):
            return
        rows = rows_of(Table.of(cloud))
        step = self.frame.steps.sh * np.exp2(quantize(rows, self.frame).levels.colour)[:, None]
        parts = components(rows.sh, self.frame) / step
        width = np.maximum(np.abs(np.rint(parts)).mean(0), 0.02)  # of the Laplace density: d bits / d code = 1.44/width
        pull = np.minimum(self.price * 1.4427 / width, 0.25)
        less = (np.sign(parts) * np.minimum(np.abs(parts), pull) * step) @ self.frame.basis
        change = less.reshape(len(cloud), -1, 3) @ COLOUR
        cloud.sh[:, 1:].sub_(torch.from_numpy(change).to(cloud.sh))


def with_ordered_axes(cloud: GaussianCloud) -> GaussianCloud:
    """The same Gaussians with axes from long to short and unit quaternions whose w is the largest part."""
    rows = rows_of(Table.of(cloud))
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


def offsets(latent: GaussianCloud, rounding: Rounding) -> dict[str, Tensor]:
    """What rounding adds to each tensor of ``latent``."""
    found = rounding.rounded(latent)
    with torch.no_grad():
        latent.quats.copy_(torch.nn.functional.normalize(latent.quats, dim=1))
        latent.quats.mul_(torch.where(latent.quats[:, :1] < 0, -1.0, 1.0))
        latent.logit_opacities.clamp_(-16, 16)
    return {name: getattr(found, name) - getattr(latent, name) for name in FIELDS}
