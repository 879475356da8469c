"""From a cloud and a camera to the picture that the page shows."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.rendering import Rendering, RenderOptions
from splat.rendering.backends import choose_backend
from splat.rendering.types import NEAR
from splat.sh import C0

MODES = ("colour", "depth", "normal", "alpha", "count", "ellipsoids", "significance")
_THIN = 0.02  # opacity of every Gaussian while they are counted
# Mean of α over the part of such a Gaussian that is drawn (α ≥ 1/255): (o − 1/255) / ln(255 o).
_THIN_MEAN = (_THIN - 1 / 255) / float(np.log(255 * _THIN))
_MOST_COUNTED = 256  # Gaussians behind a pixel that are drawn in the last colour
_FAINT = 0.1  # Gaussians below this opacity are no ellipsoids: haze would hide the others
_ELLIPSOID = 0.5  # size of the ellipsoids; an opaque Gaussian looks solid to about two standard deviations


@dataclass(frozen=True)
class Look:
    """How the server draws.

    Attributes:
        mode: one of `MODES`. "count": how many Gaussians lie behind a pixel, on a logarithmic scale (about: each as its
            1.8 σ ellipse). "ellipsoids": those that are not faint, solid and at half size. "significance": how much
            each Gaussian adds to this picture, Σ of its blending weights, from the least (blue) to the most (red).
        sh_degree: highest SH band used.
        background: RGB from 0 to 1.
        antialiased: as the cloud was trained.
        near: distance of the near plane, world units.
    """

    mode: str = "colour"
    sh_degree: int = 3
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    antialiased: bool = False
    near: float = NEAR


def picture(cloud: GaussianCloud, camera: Camera, look: Look) -> np.ndarray:
    """What ``camera`` sees of ``cloud``, (H, W, 3) uint8."""
    if look.mode == "depth":
        return _depth(_draw(cloud, camera, look, depth=True), look)
    if look.mode == "normal":
        rendering = _draw(cloud, camera, look, normal=True)
        # x right, y up, z towards the viewer, as normal maps are usually coloured.
        direction = _directions(rendering) * rendering.normal.new_tensor([1.0, -1.0, -1.0])
        return _bytes((0.5 + 0.5 * direction) * (rendering.alpha[..., None] > 0))
    if look.mode == "alpha":
        return _bytes(_draw(cloud, camera, look).alpha[..., None].expand(-1, -1, 3))
    if look.mode == "count":
        thin = cloud.replace(logit_opacities=torch.full_like(cloud.logit_opacities, float(np.log(_THIN / (1 - _THIN)))))
        layers = -torch.log1p(-_draw(thin, camera, look).alpha.clamp_max(0.9999)) / _THIN_MEAN
        levels = torch.log2(1 + layers) / float(np.log2(1 + _MOST_COUNTED))
        return _turbo(levels.cpu().numpy())
    if look.mode == "ellipsoids":
        solid = cloud.select(cloud.opacities >= _FAINT)
        solid = solid.replace(
            logit_opacities=torch.full_like(solid.logit_opacities, 10.0),
            log_scales=solid.log_scales + float(np.log(_ELLIPSOID)),
        )
        rendering = _draw(solid, camera, look, normal=True)
        return _bytes(rendering.rgb * (0.3 + 0.7 * _directions(rendering)[..., 2:].abs()))
    if look.mode == "significance":
        weights = _draw(cloud, camera, look, weights=True).weights
        return _bytes(_draw(painted(cloud, _ranks(weights)), camera, look).rgb)
    return _bytes(_draw(cloud, camera, look).rgb)


def _draw(cloud: GaussianCloud, camera: Camera, look: Look, **pictures: bool) -> Rendering:
    options = RenderOptions(
        background=look.background,
        sh_degree=min(look.sh_degree, cloud.sh_degree),
        antialiased=look.antialiased,
        near=look.near,
        **pictures,
    )
    with torch.no_grad():
        return choose_backend(cloud).forward(cloud.detach(), camera, options)[0]


def painted(cloud: GaussianCloud, levels: Tensor) -> GaussianCloud:
    """``cloud`` with each Gaussian in the colour (turbo) of its level (N,) from 0 to 1, the same from every side."""
    colours = torch.from_numpy(_turbo(levels.cpu().numpy()[:, None])[:, 0].astype(np.float32) / 255)
    return cloud.replace(sh=((colours - 0.5) / C0)[:, None].to(cloud.means))


def _ranks(values: Tensor) -> Tensor:
    """(N,) logarithms of ``values`` from 0 to 1, between the 5 % and 99 % quantiles of those above 0."""
    logs = values.clamp_min(1e-9).log()
    seen = logs[values > 0]
    if len(seen) == 0:
        return torch.zeros_like(values)
    ordered = seen.sort().values
    low, high = (ordered[int(fraction * (len(ordered) - 1))] for fraction in (0.05, 0.99))
    return ((logs - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)


def _directions(rendering: Rendering) -> Tensor:
    return rendering.normal / rendering.normal.norm(dim=-1, keepdim=True).clamp_min(1e-9)


def _depth(rendering: Rendering, look: Look) -> np.ndarray:
    """Near to far as red to blue (turbo), evenly in 1/z between its 1st and 99th percentile."""
    depth = rendering.depth.cpu().numpy()
    alpha = rendering.alpha.cpu().numpy()[..., None]
    seen = depth > 0
    nearness = np.divide(1.0, depth, out=np.zeros_like(depth), where=seen)
    low, high = np.quantile(nearness[seen], [0.01, 0.99]) if seen.any() else (0.0, 1.0)
    colours = _turbo((nearness - low) / max(high - low, 1e-12))
    return (colours * alpha + 255 * np.array(look.background) * (1 - alpha) + 0.5).clip(0, 255).astype(np.uint8)


def _turbo(levels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 colours from blue to red of (H, W) levels from 0 to 1."""
    grey = (255 * np.clip(levels, 0, 1)).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)


def _bytes(values: Tensor) -> np.ndarray:
    # One pass; torch needs four, which took longer than drawing at full HD. Pictures have no negative values.
    return cv2.convertScaleAbs(values.cpu().numpy(), alpha=255)


def compare(photo: np.ndarray, drawn: np.ndarray, how: str, fraction: float) -> np.ndarray:
    """Photo and drawing, both (H, W, 3) uint8, as one picture.

    Args:
        how: "slider" (photo left of ``fraction`` of the width), "blend" (``fraction`` of the drawing), "side by side"
            or "difference" (mean absolute difference, turbo, red from a quarter of the range on).
    """
    if how == "slider":
        column = round(fraction * photo.shape[1])
        return np.concatenate([photo[:, :column], drawn[:, column:]], 1)
    if how == "blend":
        return cv2.addWeighted(photo, 1 - fraction, drawn, fraction, 0.0)
    if how == "side by side":
        return np.concatenate([photo, drawn], 1)
    if how == "difference":
        error = np.abs(photo.astype(np.float32) - drawn).mean(2)
        return _turbo(4 * error / 255)
    raise ValueError(f"there is no comparison '{how}'")


def letterbox(image: np.ndarray, aspect: float) -> np.ndarray:
    """``image`` (H, W, 3) in the middle of a dark frame whose width / height is ``aspect``."""
    height, width = image.shape[:2]
    full_width, full_height = max(width, round(height * aspect)), max(height, round(width / aspect))
    frame = np.full((full_height, full_width, 3), 24, np.uint8)
    top, left = (full_height - height) // 2, (full_width - width) // 2
    frame[top : top + height, left : left + width] = image
    return frame


def labelled(image: np.ndarray, left: str, right: str) -> np.ndarray:
    """``image`` with words at the foot of its left and of its right half."""
    height, width = image.shape[:2]
    size, foot = max(0.35, height / 1300), height - 12
    image = np.ascontiguousarray(image)
    for words, x in ((left, 10), (right, width // 2 + 10)):
        (across, above), below = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        cv2.rectangle(image, (x - 6, foot - above - 6), (x + across + 6, foot + below + 2), (24, 24, 24), cv2.FILLED)
        cv2.putText(image, words, (x, foot), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA)
    return image
