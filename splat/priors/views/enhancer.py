"""`ViewEnhancer`: whatever repairs a picture or invents a part of it; and the pictures' way through one.

Diffusion models (`splat.priors.views.diffusion`) are the strong ones; `classical` needs no weights and fills small gaps
only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor


class ViewEnhancer(Protocol):
    """Repairs ``image`` (H, W, 3) float in [0, 1].

    ``reference`` (H', W', 3): a photo of the same scene, for style. ``mask`` (H, W) bool: only there it may change
    (inpainting); None allows all of it. ``seed``: same seed, same result. Returns (H, W, 3) float in [0, 1].
    """

    def __call__(self, image: Tensor, reference: Tensor | None, mask: Tensor | None, seed: int) -> Tensor: ...


def classical(image: Tensor, reference: Tensor | None, mask: Tensor | None, seed: int) -> Tensor:
    """Inpainting from the border inwards (Telea 2004); without a mask, edge-preserving smoothing."""
    pixels = (image.clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()
    if mask is None:
        repaired = cv2.bilateralFilter(pixels, 5, 20, 2)
    else:
        repaired = cv2.inpaint(pixels, mask.numpy().astype(np.uint8), 3, cv2.INPAINT_TELEA)
    return torch.from_numpy(repaired).float() / 255


@dataclass(frozen=True)
class Repaired:
    """A repaired view: picture (H, W, 3) float in [0, 1], and per pixel (H, W) in [0, 1] how far it can be trusted."""

    picture: Tensor
    trust: Tensor


_DISAGREEMENT = 0.25  # mean colour difference at which trust in a changed pixel falls to 1/e


def repair(
    enhance: ViewEnhancer, rendered: Tensor, known: Tensor | None, truth: Tensor | None, reference: Tensor, seed: int
) -> Repaired:
    """Constrained novel-view enhancement: what the photos show stays, the rest is the enhancer's.

    Args:
        rendered: (H, W, 3) the view as it is drawn now.
        known: (H, W) bool, where ``truth`` (H, W, 3), photos warped into this view, says what is there; None nowhere.
        reference: the nearest photo.

    Where the enhancer contradicts what the photos show, the photos win, and trust falls in its neighbourhood.
    """
    picture = enhance(rendered, reference, None, seed).clamp(0, 1)
    trust = torch.ones(rendered.shape[:2])
    if known is not None and truth is not None and bool(known.any()):
        error = torch.where(known, (picture - truth).abs().mean(-1), torch.zeros_like(trust))
        weight = _blur(known.float())
        local = _blur(error) / weight.clamp_min(1e-3)
        trust = torch.where(weight > 0.02, torch.exp(-local / _DISAGREEMENT), trust)
        picture = torch.where(known[..., None], truth, picture)
        trust = torch.where(known, torch.ones_like(trust), trust)
    return Repaired(picture, trust)


def _blur(values: Tensor) -> Tensor:
    side = max(3, min(values.shape) // 8) | 1
    return torch.from_numpy(cv2.blur(values.numpy(), (side, side)))


def inpainted(enhance: ViewEnhancer, image: Tensor, hidden: Tensor, seed: int) -> Tensor:
    """``image`` (H, W, 3) with the pixels ``hidden`` (H, W) invented; all others as they were."""
    painted = enhance(image, None, hidden, seed).clamp(0, 1)
    return torch.where(hidden[..., None], painted, image)


def enhance_video(
    enhance: ViewEnhancer, frames: Sequence[Tensor], reference: Tensor, seed: int = 0, carry: float = 0.5
) -> list[Tensor]:
    """Rendered frames of a camera path, repaired one after another without flicker.

    Every frame uses the same noise (``seed``), and ``carry`` of the change made to the frame before is made beforehand
    to this one, moved along by the optical flow between the two renderings.
    """
    repaired: list[Tensor] = []
    change = before = None
    for frame in frames:
        start = frame
        if change is not None:
            start = (frame + carry * _follow(change, before, frame)).clamp(0, 1)
        done = enhance(start, reference, None, seed).clamp(0, 1)
        repaired.append(done)
        change, before = done - frame, frame
    return repaired


def _follow(change: Tensor, before: Tensor, now: Tensor) -> Tensor:
    """``change`` (H, W, 3), made to the frame ``before``, at its position in the frame ``now``."""
    grey = [cv2.cvtColor((f.clamp(0, 1).numpy() * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY) for f in (now, before)]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(grey[0], grey[1], None)
    height, width = grey[0].shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    source = (x + flow[..., 0], y + flow[..., 1])
    moved = cv2.remap(change.numpy().astype(np.float32), *source, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return torch.from_numpy(moved)
