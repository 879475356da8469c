"""How close a render is to a photo: PSNR, SSIM, LPIPS.

Pictures are (H, W, 3) tensors in [0, 1]; values outside are clamped, as a screen would. A ``mask`` (H, W) is True
where a pixel counts.
"""

import importlib.util
import math
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from splat.errors import InputError

# Wang et al., "Image quality assessment" (2004): an 11-tap window of σ = 1.5 px, K1 = 0.01, K2 = 0.03, range 1.
SSIM_TAPS = 11
SSIM_SIGMA = 1.5
SSIM_C1 = 0.01**2
SSIM_C2 = 0.03**2

# torchvision's file names of LPIPS's ImageNet backbones.
LPIPS_BACKBONES = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}


def psnr(a: Tensor, b: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio, dB, computed in float64; ``inf`` for equal pictures."""
    a, b, mask = _pictures(a, b, mask)
    squared = (a - b).square().mean(-1)
    error = float(squared.mean() if mask is None else squared[mask].mean())
    return -10 * math.log10(error) if error > 0 else math.inf


def ssim(a: Tensor, b: Tensor, mask: Tensor | None = None) -> float:
    """Mean structural similarity in [−1, 1], computed in float64 with zero padding as in the 3DGS evaluations.

    With a mask both pictures are zeroed where it is False, and the mean runs over the pixels where it is True.
    """
    a, b, mask = _pictures(a, b, mask)
    if mask is None:
        return float(_ssim_map(a.cpu().numpy(), b.cpu().numpy()).mean())
    a, b = (np.ascontiguousarray((picture * mask[..., None]).cpu()) for picture in (a, b))
    return float(_ssim_map(a, b)[mask.cpu().numpy()].mean())


def _ssim_map(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """SSIM around every pixel and channel of (H, W, 3) float64 pictures."""
    import cv2

    x = np.arange(SSIM_TAPS) - SSIM_TAPS // 2
    window = np.exp(-(x**2) / (2 * SSIM_SIGMA**2))
    window /= window.sum()

    def blurred(picture: np.ndarray) -> np.ndarray:
        return cv2.sepFilter2D(picture, -1, window, window, borderType=cv2.BORDER_CONSTANT)

    mean_a, mean_b = blurred(a), blurred(b)
    variance_a = blurred(a * a) - mean_a * mean_a
    variance_b = blurred(b * b) - mean_b * mean_b
    covariance = blurred(a * b) - mean_a * mean_b
    similar = (2 * mean_a * mean_b + SSIM_C1) * (2 * covariance + SSIM_C2)
    energy = (mean_a * mean_a + mean_b * mean_b + SSIM_C1) * (variance_a + variance_b + SSIM_C2)
    return similar / energy


def lpips(a: Tensor, b: Tensor, mask: Tensor | None = None, net: str = "vgg") -> float | None:
    """Learned perceptual distance (Zhang et al. 2018, v0.1), or None where its weights are not on this machine.

    Never downloads: it needs the package ``lpips`` and the backbone's file in the cache of torch hub; a warning,
    once, names what is missing. Pictures are scaled to [−1, 1], the range the network was trained on (the number
    published by Inria's code uses [0, 1] and differs). Where ``mask`` is False both pictures are made equal.

    Args:
        net: backbone, "vgg" or "alex".
    """
    model = _lpips_model(net)
    if model is None:
        return None
    a, b, mask = _pictures(a, b, mask)
    if mask is not None:
        a, b = a * mask[..., None], b * mask[..., None]
    with torch.no_grad():
        a, b = (2 * picture.float().permute(2, 0, 1)[None] - 1 for picture in (a, b))
        return float(model(a, b))


@cache
def _lpips_model(net: str) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The network on the CPU; None, and one warning, where something is missing. Cached: it warns once."""
    if net not in LPIPS_BACKBONES:
        raise InputError(f"LPIPS network is '{net}', expected one of: {', '.join(LPIPS_BACKBONES)}")
    missing = lpips_missing(net)
    if missing:
        warnings.warn(f"LPIPS is not computed: {missing}", stacklevel=3)
        return None
    import lpips as package

    return package.LPIPS(net=net, version="0.1", verbose=False).eval()


def lpips_missing(net: str = "vgg") -> str | None:
    """What to install before `lpips` gives a number, in one sentence; None if nothing."""
    if any(importlib.util.find_spec(name) is None for name in ("lpips", "torchvision")):
        return "install its network with: pip install lpips torchvision"
    weights = Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_BACKBONES[net]
    if not weights.is_file():
        source = f"https://download.pytorch.org/models/{weights.name}"
        return f"put torchvision's {source} into {weights.parent}"
    return None


def _pictures(a: Tensor, b: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The inputs checked, in float64 and clamped to [0, 1]; a mask that keeps every pixel becomes None."""
    if a.ndim != 3 or a.shape != b.shape:
        raise InputError(
            f"pictures to compare have shapes {tuple(a.shape)} and {tuple(b.shape)}, expected one (H, W, 3)"
        )
    if mask is not None and mask.shape != a.shape[:2]:
        raise InputError(f"the mask has shape {tuple(mask.shape)}, expected that of the pictures, {tuple(a.shape[:2])}")
    if mask is not None and not mask.any():
        raise InputError("the mask leaves no pixel to compare; give a mask that is True somewhere")
    mask = None if mask is None or bool(mask.all()) else mask.detach().bool()
    a, b = (picture.detach().to(torch.float64).clamp(0, 1) for picture in (a, b))
    return a, b.to(a.device), mask if mask is None else mask.to(a.device)
