"""Random points to start from when a scene has poses but no sparse points."""

from collections.abc import Sequence

import torch
from torch import Tensor

from splat.scene.camera_layout import camera_centres, meeting_point, world_to_camera_matrices
from splat.scene.scene import Points, View

COUNT = 50_000
_CANDIDATES = 5  # per point wanted
_VIEWS_AT_ONCE = 64


def random_points(views: Sequence[View], count: int = COUNT, seed: int = 0) -> tuple[Points, str]:
    """``count`` grey points in the volume that the views share, and the sentence that says so.

    Candidates lie on rays through random pixels of random views, at depths around the distance of the point the cameras
    look at (of the cameras' spread where there is none). Kept are those in sight of at least half as many views as the
    best-seen tenth.
    """
    generator = torch.Generator().manual_seed(seed)
    poses = world_to_camera_matrices([view.camera for view in views])
    centres, focus = camera_centres(poses), meeting_point(poses)
    spread = float((centres - centres.mean(0)).norm(dim=1).max())
    if focus is None:
        near, far = torch.full((len(views),), 0.2 * spread), torch.full((len(views),), 6.0 * spread)
    else:
        distance = (focus - centres).norm(dim=1)
        near, far = 0.3 * distance, 1.7 * distance
    candidates = _on_rays(views, near, far, -(-count * _CANDIDATES // len(views)), generator)
    seen = _times_seen(views, candidates)
    best = seen.sort(descending=True).values[len(seen) // 10]
    enough = max(2, int(best) // 2)
    chosen = candidates[seen >= enough]
    if len(chosen) < count // 10:  # hardly any overlap: everything a camera sees is as good as anything else
        chosen = candidates
    chosen = chosen[torch.randperm(len(chosen), generator=generator)[:count]]
    made = len(chosen)
    points = Points(
        chosen,
        torch.full((made, 3), 128, dtype=torch.uint8),
        torch.full((made,), float("nan"), dtype=torch.float64),
        torch.zeros(made + 1, dtype=torch.int64),
        torch.zeros(0, dtype=torch.int64),
        measured=False,
    )
    return (
        points,
        f"the input has no sparse points, so training starts from {made} random ones in the cameras' common view",
    )


def _on_rays(views, near, far, per_view: int, generator: torch.Generator) -> Tensor:
    """(V·per_view, 3) points behind random pixels of each view, at depths uniform between its ``near`` and ``far``."""
    points = []
    for view, low, high in zip(views, near.tolist(), far.tolist(), strict=True):
        u, v, w = torch.rand(3, per_view, generator=generator, dtype=torch.float64)
        pixels = torch.stack([u * view.camera.width, v * view.camera.height], 1)
        points.append(view.camera.unproject(low + w * (high - low), pixels))
    return torch.cat(points)


def _times_seen(views: Sequence[View], points: Tensor) -> Tensor:
    """(M,) number of views whose picture contains each point; many views are sampled evenly."""
    step = max(1, len(views) // _VIEWS_AT_ONCE)
    seen = torch.zeros(len(points), dtype=torch.int32)
    for view in views[::step]:
        camera = view.camera
        xy, depth = camera.project(points)
        seen += (depth > 0) & (xy[:, 0] > 0) & (xy[:, 1] > 0) & (xy[:, 0] < camera.width) & (xy[:, 1] < camera.height)
    return seen
