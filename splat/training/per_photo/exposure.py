"""Per-photo colour correction: what differs between photos of one scene but is not in the scene.

Both corrections act on the rendered picture, in training only, are the identity at first, and keep a mean of zero over
all photos, so that no colour cast can move from the cloud into them.
"""

from torch import Tensor


def expose(rgb: Tensor, exposure: Tensor) -> Tensor:
    """``rgb`` (H, W, 3) after the affine transform whose difference from the identity is ``exposure`` (3, 4)."""
    return rgb + rgb @ exposure[:, :3].T + exposure[:, 3]
