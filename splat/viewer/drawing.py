"""From a cloud and a camera to the picture that the page shows."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.rendering import Rendering, RenderOptions, render

MODES = ("colour", "depth", "normal", "alpha")


@dataclass(frozen=True)
class Look:
    """How the server draws.

    Attributes:
        mode: one of `MODES`.
        sh_degree: highest SH band used.
        background: RGB from 0 to 1.
        antialiased: as the cloud was trained.
    """

    mode: str = "colour"
    sh_degree: int = 3
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    antialiased: bool = False


def picture(cloud: GaussianCloud, camera: Camera, look: Look) -> np.ndarray:
    """What ``camera`` sees of ``cloud``, (H, W, 3) uint8."""
    options = RenderOptions(
        background=look.background,
        sh_degree=min(look.sh_degree, cloud.sh_degree),
        antialiased=look.antialiased,
        depth=look.mode == "depth",
        normal=look.mode == "normal",
    )
    with torch.no_grad():
        rendering = render(cloud, camera, options=options)
    if look.mode == "depth":
        return _depth(rendering, look)
    if look.mode == "alpha":
        return _bytes(rendering.alpha[..., None].expand(-1, -1, 3))
    if look.mode == "normal":
        length = rendering.normal.norm(dim=-1, keepdim=True).clamp_min(1e-9)
        # x right, y up, z towards the viewer, as normal maps are usually coloured.
        direction = rendering.normal / length * rendering.normal.new_tensor([1.0, -1.0, -1.0])
        return _bytes((0.5 + 0.5 * direction) * (rendering.alpha[..., None] > 0))
    return _bytes(rendering.rgb)


def _depth(rendering: Rendering, look: Look) -> np.ndarray:
    """Near to far as red to blue (turbo), evenly in 1/z between its 1st and 99th percentile."""
    depth = rendering.depth.cpu().numpy()
    alpha = rendering.alpha.cpu().numpy()[..., None]
    seen = depth > 0
    nearness = np.divide(1.0, depth, out=np.zeros_like(depth), where=seen)
    low, high = np.quantile(nearness[seen], [0.01, 0.99]) if seen.any() else (0.0, 1.0)
    levels = (255 * np.clip((nearness - low) / max(high - low, 1e-12), 0, 1)).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return (colours * alpha + 255 * np.array(look.background) * (1 - alpha) + 0.5).clip(0, 255).astype(np.uint8)


def _bytes(values: torch.Tensor) -> np.ndarray:
    return (values.clamp(0, 1) * 255 + 0.5).byte().cpu().numpy()


def compare(photo: np.ndarray, drawn: np.ndarray, how: str, share: float) -> np.ndarray:
    """Photo and drawing, both (H, W, 3) uint8, as one picture.

    Args:
        how: "slider" (photo left of ``share`` of the width), "blend" (``share`` of the drawing), "side by side" or
            "difference" (mean absolute difference, turbo, red from a quarter of the range on).
    """
    if how == "slider":
        column = round(share * photo.shape[1])
        return np.concatenate([photo[:, :column], drawn[:, column:]], 1)
    if how == "blend":
        return cv2.addWeighted(photo, 1 - share, drawn, share, 0.0)
    if how == "side by side":
        return np.concatenate([photo, drawn], 1)
    if how == "difference":
        error = np.abs(photo.astype(np.float32) - drawn).mean(2)
        levels = np.clip(4 * error, 0, 255).astype(np.uint8)
        return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    raise ValueError(f"there is no comparison '{how}'")


def letterbox(image: np.ndarray, aspect: float) -> np.ndarray:
    """``image`` (H, W, 3) in the middle of a dark frame whose width / height is ``aspect``."""
    height, width = image.shape[:2]
    full_width, full_height = max(width, round(height * aspect)), max(height, round(width / aspect))
    frame = np.full((full_height, full_width, 3), 24, np.uint8)
    top, left = (full_height - height) // 2, (full_width - width) // 2
    frame[top : top + height, left : left + width] = image
    return frame
