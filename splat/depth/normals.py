"""Surface normals from depth maps."""

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from splat.camera import Camera

STEEP = 0.05  # change of depth over two pixels, as a fraction of it, that counts as the edge of an object


def normals_from_depth(depth: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Unit normals of the surface that a depth map shows, by central differences of its points.

    Args:
        depth: (H, W) z-depth, world units, 0 where nothing is seen.

    Returns:
        (H, W, 3) normals in camera axes, facing the camera, and (H, W) bool where they are known: not at the border of
        the picture, beside pixels without depth, or at edges of objects. Differentiable in ``depth`` there.
    """
    x, y, _ = camera.directions(camera.pixel_centres(depth.dtype, depth.device)).unbind(-1)
    points = torch.stack([x * depth, y * depth, depth], -1)
    across = points[1:-1, 2:] - points[1:-1, :-2]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    known = torch.zeros_like(depth, dtype=torch.bool)
    with torch.no_grad():
        middle = depth[1:-1, 1:-1]
        seen = (middle > 0) & (depth[1:-1, 2:] > 0) & (depth[1:-1, :-2] > 0)
        seen &= (depth[2:, 1:-1] > 0) & (depth[:-2, 1:-1] > 0)
        known[1:-1, 1:-1] = seen & (torch.maximum(across[..., 2].abs(), down[..., 2].abs()) < STEEP * middle)
    inner = normalize(torch.linalg.cross(down, across), dim=-1, eps=1e-20)
    return pad(inner, (0, 0, 1, 1, 1, 1)), known
