"""Depth maps of a cloud from many cameras, by stereo or straight from the rasterizer."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.depth.depth_maps import MapStore
from splat.machine import usable_cores
from splat.rendering import Rendering, RenderOptions, render
from splat.surface.depth.rasterized_depth import rendered_depth
from splat.surface.depth.rendered_stereo import FAR, stereo_depth, with_far
from splat.surface.depth.stereo_rig import SIDES, Partner, picture, working_distance
from splat.surface.options import MeshOptions

OPAQUE = 0.5  # alpha below which a pixel shows no surface
SPAN = (0.002, 0.998)  # quantiles of the rendered depth: strays before and behind do not widen the search
LEAST_WEIGHT = 0.1  # of a match without texture
TEXTURE_FULL = 8.0  # grey levels per pixel: gradients from here on count fully
CONTRADICTION = 0.05  # of the depth: where stereo and rasterizer differ by more, at edges mostly, neither is believed
FAR_CONTRADICTION = 0.3  # the same beyond `FAR`, where bare walls make the rasterizer the worse of the two
GAP_WEIGHT = 0.05  # of a rendered depth that fills a gap of the stereo depth
FAR_SHARE = 0.02  # of a picture: with less of it beyond `FAR`, no wide pair is drawn
WIDER = 4.0  # baselines of a pair, of the wide one


def observe(
    cloud: GaussianCloud,
    cameras: Sequence[Camera],
    options: MeshOptions,
    drawing: RenderOptions,
    masks: Sequence[NDArray[np.bool_] | None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MapStore:
    """A depth map for each of ``cameras``.

    Args:
        drawing: how the cloud wants to be drawn (background, anti-aliasing).
        masks: (H, W) per camera, True where its picture counts; see ``options.masks``.
    """
    store = MapStore(cameras)
    distance = working_distance(list(cameras))
    partners = [Partner(side, options.baseline * distance) for side in SIDES[: options.pairs]]
    stereo = options.method == "stereo"
    workers = usable_cores() if stereo else 1
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
            first = _draw(cloud, camera, options, drawing)
            pictures = []
            if stereo:
                depth = first.median_depth if first.median_depth is not None else first.depth
                far = (depth > FAR * partners[0].baseline) & (first.alpha >= OPAQUE)
                wide = [Partner(SIDES[0], WIDER * partners[0].baseline)] if far.float().mean() > FAR_SHARE else []
                plain = RenderOptions(drawing.background, antialiased=drawing.antialiased, near=drawing.near)
                pictures = [
                    (partner, picture(render(cloud, partner.camera(camera), options.backend, plain).rgb))
                    for partner in (*partners, *wide)
                ]
            else:
                depth = rendered_depth(cloud, camera, first, options.method, drawing, options.backend)
            mask = None if masks is None else masks[index]
            job = _Job(store, index, first, depth, pictures, options, mask, distance)
            waiting.append(pool.submit(job.run))
            while len(waiting) > workers + 1:
                finish()
        while waiting:
            finish()
    return store


def _draw(cloud: GaussianCloud, camera: Camera, options: MeshOptions, drawing: RenderOptions) -> Rendering:
    with_depth = RenderOptions(
        drawing.background,
        antialiased=drawing.antialiased,
        near=drawing.near,
        depth=True,
        normal=options.method == "plane",
    )
    return render(cloud, camera, options.backend, with_depth)


class _Job:
    """From the pictures of one view to its depth map; runs beside the next rendering."""

    def __init__(self, store, index, first, depth, pictures, options, mask, distance) -> None:
        self.store, self.index, self.pictures, self.options = store, index, pictures, options
        self.rgb, self.alpha = picture(first.rgb), first.alpha.detach().cpu().numpy()
        self.depth = depth.detach().cpu().numpy().astype(np.float32)
        self.mask, self.distance = mask, distance

    def run(self) -> None:
        rendered = np.where((self.alpha >= OPAQUE) & np.isfinite(self.depth), self.depth, 0)
        depth, weight = rendered, np.ones_like(rendered)
        if self.pictures:
            depth, weight = self._stereo(rendered)
        # The error of depth grows with its square, by stereo as by rendering.
        weight = weight * (self.distance / np.maximum(depth, 0.1 * self.distance)) ** 2
        if self.mask is not None:
            depth = np.where(self.mask, depth, np.inf if self.options.masks == "object" else 0)
            weight = np.where(self.mask, weight, 1.0)
        self.store.put(self.index, depth, weight, self.rgb)

    def _stereo(self, rendered: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
        known = rendered[rendered > 0]
        if known.size < 100:
            return np.zeros_like(rendered), np.zeros_like(rendered)
        near, far = np.quantile(known, SPAN)
        camera, matcher = self.store.cameras[self.index], self.options.matcher
        pairs, wide = self.pictures[: self.options.pairs], self.pictures[self.options.pairs :]
        limit = FAR * pairs[0][0].baseline
        depth, weight = stereo_depth(camera, self.rgb, pairs, (near, far), matcher)
        sure = np.clip(weight / (TEXTURE_FULL * pairs[0][0].baseline), LEAST_WEIGHT, 1)
        beyond = rendered > limit
        if wide:
            found, weight = stereo_depth(camera, self.rgb, wide, (max(near, limit), far), matcher)
            weight = np.clip(weight / (TEXTURE_FULL * wide[0][0].baseline), LEAST_WEIGHT, 1)
            depth, sure = with_far((depth, sure), (found, weight), beyond, limit)
        depth = np.where(self.alpha >= OPAQUE, depth, 0)
        gap = (depth == 0) & (rendered > 0) & ~beyond
        tolerance = np.where(beyond, FAR_CONTRADICTION, CONTRADICTION) * rendered
        wrong = (depth > 0) & (np.abs(depth - rendered) > tolerance)
        depth, sure = np.where(wrong, 0, depth), np.where(wrong, 0, sure)
        if self.options.fill:
            depth, sure = np.where(gap, rendered, depth), np.where(gap, GAP_WEIGHT, sure)
        return depth, sure
