"""Straight-through rounding: pictures show what a `.splatz` file will hold, gradients move what is behind it.

The estimator of Bengio et al. 2013, with the rate in the loss: the entropy coder's price of view-dependent
colour is modelled by a geometric distribution for each component, fitted to the codes as they are.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import logits
from splat.formats.splatz.quantizer import QuantizationGrid, QuantizationSteps
from splat.formats.splatz.rows import Rows

DETAIL_EXTRA = "detail"  # name of the extra with the binary digits of single Gaussians


@dataclass(frozen=True)
class Rounding:
    """Rounding to the grid of one file: made once, for a cloud whose rows and axes keep their order.

    Attributes:
        grid: of the file. detail: (N,) digits of single Gaussians beyond the usual, or None.
    """

    grid: QuantizationGrid
    detail: np.ndarray | None = None

    @staticmethod
    def of(cloud: GaussianCloud, quality: float | QuantizationSteps, detail: np.ndarray | None = None) -> "Rounding":
        """For ``cloud`` as `with_ordered_axes` gives it, and a file of ``quality`` or of these steps."""
        rows = Rows.of(GaussianArrays.of(cloud), detail)
        return Rounding(QuantizationGrid.fit(rows, QuantizationSteps.of(quality)), detail)

    def rounded(self, cloud: GaussianCloud) -> GaussianCloud:
        """``cloud`` as the file will have it, row by row."""
        rows = self.grid.rounded(Rows.of(GaussianArrays.of(cloud), self.detail))
        arrays = (rows.means, rows.log_scales, rows.quats, logits(rows.alphas), rows.sh)
        fields = (cloud.means, cloud.log_scales, cloud.quats, cloud.logit_opacities, cloud.sh)
        means, log_scales, quats, opacities, sh = (
            torch.from_numpy(array).to(field) for array, field in zip(arrays, fields, strict=True)
        )
        return GaussianCloud(means, log_scales, quats, opacities.clamp(-16, 16), sh)

    def rate_gradient(self, cloud: GaussianCloud) -> Tensor:
        """(N, K, 3) by how many bits the file grows where a coefficient of SH does; 0 for the base colour.

        See `splat.formats.splatz.quantizer.QuantizationGrid.rate_gradient`.
        """
        gradient = torch.zeros_like(cloud.sh)
        rest = self.grid.rate_gradient(Rows.of(GaussianArrays.of(cloud), self.detail))
        if rest is not None:
            gradient[:, 1:] = torch.from_numpy(rest).to(gradient)
        return gradient


def detail_of(cloud: GaussianCloud) -> np.ndarray | None:
    """(N,) the digits that ``cloud`` carries, or None."""
    return cloud.extras[DETAIL_EXTRA].numpy() if DETAIL_EXTRA in cloud.extras else None


def with_ordered_axes(cloud: GaussianCloud) -> GaussianCloud:
    """The same Gaussians with axes from long to short and unit quaternions whose w is the largest part."""
    rows = Rows.of(GaussianArrays.of(cloud)).ordered()
    return cloud.replace(
        log_scales=torch.from_numpy(rows.log_scales).to(cloud.log_scales),
        quats=torch.from_numpy(rows.quats).to(cloud.quats),
    )


def normalize_in_place(latent: GaussianCloud) -> None:
    """Make quaternions unit with w ≥ 0, and opacities no larger than rounding can tell."""
    with torch.no_grad():
        latent.quats.copy_(torch.nn.functional.normalize(latent.quats, dim=1))
        latent.quats.mul_(torch.where(latent.quats[:, :1] < 0, -1.0, 1.0))
        latent.logit_opacities.clamp_(-16, 16)
