"""Depth maps of a cloud from many cameras, by stereo between renderings or straight from the rasterizer."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.depth.depth_maps import DepthMapStore
from splat.machine import usable_cores
from splat.rendering import Rendering, RenderOptions, render
from splat.surface.depth.rasterized_depth import rendered_depth
from splat.surface.depth.rendered_stereo import FAR, stereo_depth, with_far
from splat.surface.depth.stereo_rig import SIDES, StereoCamera, picture, working_distance
from splat.surface.options import MeshOptions

OPAQUE = 0.5  # alpha below which a pixel shows no surface
SPAN = (0.002, 0.998)  # quantiles of the rendered depth: strays before and behind do not widen the search
LEAST_WEIGHT = 0.1  # of a match without texture
TEXTURE_FULL = 8.0  # grey levels per pixel: gradients from here on count fully
CONTRADICTION = 0.05  # of the depth: where stereo and rasterizer differ by more, at edges mostly, neither is used
FAR_CONTRADICTION = 0.3  # the same beyond `FAR`, where bare walls make the rasterizer the worse of the two
GAP_WEIGHT = 0.05  # of a rendered depth that fills a gap of the stereo depth
FAR_FRACTION = 0.02  # of a picture: with less of it beyond `FAR`, no wide pair is drawn
WIDER = 4.0  # baselines of a pair, of the wide one
Pairs = list[tuple[StereoCamera, NDArray[np.uint8]]]


def render_depth_maps(
    cloud: GaussianCloud,
    cameras: Sequence[Camera],
    options: MeshOptions,
    drawing: RenderOptions,
    masks: Sequence[NDArray[np.bool_] | None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DepthMapStore:
    """A depth map of ``cloud`` for each of ``cameras``; matching runs in threads beside the next rendering.

    Args:
        drawing: background, anti-aliasing and near plane of the renderings.
        masks: (H, W) per camera, True where its picture counts; see ``options.masks``.
        progress: called with (done, total).
    """
    store = DepthMapStore(cameras)
    distance = working_distance(list(cameras))
    workers = usable_cores() if options.method == "stereo" else 1
    waiting: deque[Future] = deque()
    done = 0

    def finish() -> None:
        nonlocal done
        waiting.popleft().result()
        done += 1
        if progress is not None:
            progress(done, len(cameras))

    with ThreadPoolExecutor(workers) as pool:
        for index, camera in enumerate(cameras):
            mask = None if masks is None else masks[index]
            view = _render_view(cloud, camera, mask, options, drawing, distance)
            waiting.append(pool.submit(_store_depth, store, index, view, options))
            while len(waiting) > workers + 1:
                finish()
        while waiting:
            finish()
    return store


@dataclass(frozen=True)
class _RenderedView:
    """What was drawn for one camera: colours, alpha and depth (H, W); pictures beside it; its mask."""

    camera: Camera
    rgb: NDArray[np.uint8]
    alpha: NDArray[np.float32]
    depth: NDArray[np.float32]
    pairs: Pairs
    wide: Pairs
    mask: NDArray[np.bool_] | None
    distance: float


def _render_view(
    cloud: GaussianCloud,
    camera: Camera,
    mask: NDArray[np.bool_] | None,
    options: MeshOptions,
    drawing: RenderOptions,
    distance: float,
) -> _RenderedView:
    with_depth = RenderOptions(
        drawing.background,
        antialiased=drawing.antialiased,
        near=drawing.near,
        depth=True,
        normal=options.method == "plane",
    )
    first = render(cloud, camera, options.backend, with_depth)
    pairs: Pairs = []
    wide: Pairs = []
    if options.method == "stereo":
        depth = first.median_depth if first.median_depth is not None else first.depth
        pairs, wide = _stereo_pairs(cloud, camera, first, options, drawing, distance)
    else:
        depth = rendered_depth(cloud, camera, first, options.method, drawing, options.backend)
    alpha, depth = first.alpha.detach().cpu().numpy(), depth.detach().cpu().numpy().astype(np.float32)
    return _RenderedView(camera, picture(first.rgb), alpha, depth, pairs, wide, mask, distance)


def _stereo_pairs(
    cloud: GaussianCloud,
    camera: Camera,
    first: Rendering,
    options: MeshOptions,
    drawing: RenderOptions,
    distance: float,
) -> tuple[Pairs, Pairs]:
    """Second cameras and their pictures; and those of a wide pair where enough of the picture is far away."""
    plain = RenderOptions(drawing.background, antialiased=drawing.antialiased, near=drawing.near)

    def drawn(sides: Sequence[str], baseline: float) -> Pairs:
        seconds = [StereoCamera(side, baseline) for side in sides]
        return [(each, picture(render(cloud, each.camera(camera), options.backend, plain).rgb)) for each in seconds]

    baseline = options.baseline * distance
    depth = first.median_depth if first.median_depth is not None else first.depth
    far = (depth > FAR * baseline) & (first.alpha >= OPAQUE)
    pairs = drawn(SIDES[: options.pairs], baseline)
    return pairs, drawn(SIDES[:1], WIDER * baseline) if far.float().mean() > FAR_FRACTION else []


def _store_depth(store: DepthMapStore, index: int, view: _RenderedView, options: MeshOptions) -> None:
    """Put the depth map of ``view`` into ``store``."""
    rendered = np.where((view.alpha >= OPAQUE) & np.isfinite(view.depth), view.depth, 0)
    depth, weight = rendered, np.ones_like(rendered)
    if view.pairs:
        depth, weight = _matched(view, rendered, options)
    # The error of depth grows with its square, by stereo as by rendering.
    weight = weight * (view.distance / np.maximum(depth, 0.1 * view.distance)) ** 2
    if view.mask is not None:
        depth = np.where(view.mask, depth, np.inf if options.masks == "object" else 0)
        weight = np.where(view.mask, weight, 1.0)
    store.put(index, depth, weight, view.rgb)


def _matched(view: _RenderedView, rendered: NDArray[np.float32], options: MeshOptions) -> tuple[NDArray, NDArray]:
    """Depth (H, W) by stereo, checked against the ``rendered`` depth, and its weight."""
    known = rendered[rendered > 0]
    if known.size < 100:
        return np.zeros_like(rendered), np.zeros_like(rendered)
    near, far = np.quantile(known, SPAN)
    limit = FAR * view.pairs[0][0].baseline
    depth, weight = _by_stereo(view, view.pairs, (near, far), options)
    beyond = rendered > limit
    if view.wide:
        depth, weight = with_far(
            (depth, weight), _by_stereo(view, view.wide, (max(near, limit), far), options), beyond, limit
        )
    depth = np.where(view.alpha >= OPAQUE, depth, 0)
    gap = (depth == 0) & (rendered > 0) & ~beyond
    tolerance = np.where(beyond, FAR_CONTRADICTION, CONTRADICTION) * rendered
    wrong = (depth > 0) & (np.abs(depth - rendered) > tolerance)
    depth, weight = np.where(wrong, 0, depth), np.where(wrong, 0, weight)
    if options.fill:
        depth, weight = np.where(gap, rendered, depth), np.where(gap, GAP_WEIGHT, weight)
    return depth, weight


def _by_stereo(
    view: _RenderedView, pairs: Pairs, span: tuple[float, float], options: MeshOptions
) -> tuple[NDArray, NDArray]:
    """Depth of ``pairs`` together, and weights from `LEAST_WEIGHT` (no texture) to 1."""
    depth, weight = stereo_depth(view.camera, view.rgb, pairs, span, options.matcher)
    return depth, np.clip(weight / (TEXTURE_FULL * pairs[0][0].baseline), LEAST_WEIGHT, 1)
