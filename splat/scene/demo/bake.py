"""The whole scene as one mesh with one texture, into which the light is baked.

The light is a warm disc lamp and a soft sky, both with shadows; what reaches a surface does not depend on where one
looks from, so it is computed once per texel instead of once per pixel of every view.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splat.scene.demo.shapes import Patch, grid_faces, resample
from splat.triangle_raster import rasterize

LAMP = np.array([2.5, -1.9, 4.3])  # metres
LAMP_RADIUS = 0.42
LAMP_COLOUR = np.array([1.0, 0.86, 0.70], np.float32) * 2.9
LAMP_SAMPLES = 32
SKY_COLOUR = np.array([0.66, 0.80, 1.0], np.float32) * 0.62
HORIZON_COLOUR = np.array([1.0, 0.90, 0.80], np.float32) * 0.50
BOUNCE_COLOUR = np.array([0.62, 0.52, 0.42], np.float32) * 0.55
SKY_SAMPLES = 96
SHADOW_CENTRE = np.array([0.0, 0.0, 0.65])  # a ball around everything that casts shadows
SHADOW_RADIUS = 1.75
SHADOW_SIZE = 576  # samples a side of a shadow map
BIAS = 0.009  # metres by which a point is lifted off its surface before it is compared


@dataclass(frozen=True)
class Mesh:
    """Triangles of all patches and where their texels lie.

    Attributes:
        vertices: (V, 3) metres. texel_xy: (V, 2) texel column and row of each, within its patch.
        faces: (F, 3) corner indices. patch: (F,) which patch. one_sided: (F,). caster: (F,) hides light.
        offset, columns, rows: (P,) first texel and texture size of each patch.
    """

    vertices: NDArray[np.float64]
    texel_xy: NDArray[np.float32]
    faces: NDArray[np.int32]
    patch: NDArray[np.int32]
    one_sided: NDArray[np.bool_]
    caster: NDArray[np.bool_]
    offset: NDArray[np.int32]
    columns: NDArray[np.int32]
    rows: NDArray[np.int32]


@dataclass(frozen=True)
class Texture:
    """Baked texels, T in all.

    Attributes:
        light: (T, 4) diffuse light leaving the surface, linear RGB; fraction of the lamp that is seen.
        normal: (T, 4) unit, outwards; fraction of the sky that is seen.
    """

    light: NDArray[np.float32]
    normal: NDArray[np.float32]


def assemble(patches: list[Patch]) -> Mesh:
    """Join the grids of all patches; triangles without area (at poles) are dropped."""
    vertices, texel_xy, faces, patch, texels = [], [], [], [], []
    first = 0
    for index, p in enumerate(patches):
        rows, columns = p.grid.shape[:2]
        v, u = np.meshgrid(
            np.linspace(0, p.texels[0] - 1, rows), np.linspace(0, p.texels[1] - 1, columns), indexing="ij"
        )
        corner = p.grid.reshape(-1, 3)
        triangle = grid_faces(rows, columns)
        a, b, c = (corner[triangle[:, k]] for k in range(3))
        triangle = triangle[np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-12]
        vertices.append(corner)
        texel_xy.append(np.stack([u, v], -1).reshape(-1, 2))
        faces.append(triangle + first)
        patch.append(np.full(len(triangle), index))
        texels.append(p.texels)
        first += len(corner)
    rows, columns = np.array(texels, np.int32).T
    patch_of = np.concatenate(patch).astype(np.int32)
    size = rows.astype(np.int64) * columns
    return Mesh(
        np.concatenate(vertices), np.concatenate(texel_xy).astype(np.float32), np.concatenate(faces).astype(np.int32),
        patch_of,
        np.array([not p.two_sided for p in patches])[patch_of], np.array([p.casts_shadow for p in patches])[patch_of],
        (np.cumsum(size) - size).astype(np.int32), columns, rows,
    )  # fmt: skip


def grid_normals(grid: NDArray) -> NDArray:
    """Unit normals (V, U, 3) of a grid; points that coincide (seams, poles) share theirs."""
    points = grid.reshape(-1, 3)
    faces = grid_faces(*grid.shape[:2])
    a, b, c = (points[faces[:, k]] for k in range(3))
    area = np.cross(b - a, c - a)
    _, same = np.unique(np.round(points, 7), axis=0, return_inverse=True)
    same = same.reshape(-1)
    total = np.zeros((same.max() + 1, 3))
    for k in range(3):
        np.add.at(total, same[faces[:, k]], area)
    normal = total[same]
    return (normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)).reshape(grid.shape)


def bake(patches: list[Patch], mesh: Mesh, workers: int) -> Texture:
    """Colours and light of every texel. Deterministic whatever the number of ``workers`` (threads)."""
    coarse = [tuple(max(2, -(-n // p.light_step)) for n in p.texels) for p in patches]
    normals = [grid_normals(p.grid) for p in patches]
    points = np.concatenate([resample(p.grid, *size).reshape(-1, 3) for p, size in zip(patches, coarse, strict=True)])
    normal = np.concatenate([unit(resample(n, *size)).reshape(-1, 3) for n, size in zip(normals, coarse, strict=True)])
    thin = np.concatenate([np.full(h * w, p.two_sided) for p, (h, w) in zip(patches, coarse, strict=True)])
    light = gather_light(mesh, points.astype(np.float32), normal.astype(np.float32), thin, workers)

    def finish(index: int) -> NDArray:
        p, (h, w) = patches[index], coarse[index]
        grid = resample(p.grid, *p.texels)
        v, u = np.meshgrid(*(np.linspace(0, 1, n, dtype=np.float32) for n in p.texels), indexing="ij")
        albedo = p.paint(grid.astype(np.float32), u, v)
        lit = resample(light[starts[index] : starts[index] + h * w].reshape(h, w, 5), *p.texels)
        radiance = albedo * lit[..., :3] * np.float32(1 - p.gloss.metal)
        texels = [radiance, lit[..., 3:4], unit(resample(normals[index], *p.texels)), lit[..., 4:]]
        return np.concatenate(texels, -1).astype(np.float32).reshape(-1, 8)

    sizes = np.array([h * w for h, w in coarse])
    starts = np.cumsum(sizes) - sizes
    texels = np.concatenate(list(in_order(finish, range(len(patches)), workers)))
    return Texture(texels[:, :4].copy(), texels[:, 4:].copy())


def unit(vectors: NDArray) -> NDArray:
    """Vectors (..., 3) at length one."""
    return vectors / np.sqrt(np.maximum(dot(vectors, vectors), 1e-30))[..., None]


def dot(a: NDArray, b: NDArray) -> NDArray:
    """Scalar products (...) of (..., 3); faster than a sum over so short an axis."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def in_order(function: Callable[[Any], Any], items: Iterable[Any], workers: int) -> Iterator[Any]:
    """``map`` over threads; results come in order (numpy lets go of the interpreter while it computes)."""
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(function, items)


def gather_light(mesh: Mesh, points: NDArray, normal: NDArray, thin: NDArray, workers: int) -> NDArray[np.float32]:
    """What falls on points: (L, 5) irradiance RGB over π, fraction of the lamp seen, fraction of the sky seen.

    Thin surfaces are lit from both sides (a little of it passes through).
    """
    casters = mesh.faces[mesh.caster]
    total = np.zeros((len(points), 5), np.float32)

    def facing(direction: NDArray) -> NDArray:
        cosine = dot(normal, direction)
        return np.maximum(np.where(thin, np.maximum(cosine, -0.6 * cosine), cosine), 0)

    def from_lamp(position: NDArray) -> NDArray:
        ray = (position - points).astype(np.float32)
        distance = np.sqrt(dot(ray, ray))
        seen = lamp_shadow(mesh.vertices, casters, points, normal, position)
        fall = (np.linalg.norm(LAMP - SHADOW_CENTRE) / distance) ** 2
        return np.stack([facing(ray / distance[:, None]) * seen * fall, seen], 1)

    def from_sky(direction: NDArray) -> NDArray:
        seen = sky_shadow(mesh.vertices, casters, points, normal, direction)
        return np.stack([facing(direction.astype(np.float32)) * seen, seen], 1)

    for part in in_order(from_lamp, lamp_positions(), workers):
        total[:, :3] += part[:, :1] * (LAMP_COLOUR / LAMP_SAMPLES)
        total[:, 3] += part[:, 1] / LAMP_SAMPLES
    directions = sky_directions()
    upwards = int((directions[:, 2] > 0).sum())
    for direction, part in zip(directions, in_order(from_sky, directions, workers), strict=True):
        total[:, :3] += part[:, :1] * (sky_radiance(direction) * (4 / SKY_SAMPLES))
        if direction[2] > 0:
            total[:, 4] += part[:, 1] / upwards
    return total


def lamp_positions() -> NDArray:
    """(LAMP_SAMPLES, 3) points spread over the lamp's disc (sunflower), which faces the table."""
    i = np.arange(LAMP_SAMPLES)
    radius, angle = LAMP_RADIUS * np.sqrt((i + 0.5) / LAMP_SAMPLES), i * np.pi * (3 - 5**0.5)
    right, up = frame(SHADOW_CENTRE - LAMP)[:2]
    return LAMP + np.outer(radius * np.cos(angle), right) + np.outer(radius * np.sin(angle), up)


def sky_directions() -> NDArray:
    """(SKY_SAMPLES, 3) well-spread unit directions over the whole sphere (Fibonacci)."""
    i = np.arange(SKY_SAMPLES) + 0.5
    z = 1 - 2 * i / SKY_SAMPLES
    angle = np.pi * (1 + 5**0.5) * i
    return np.stack([np.sqrt(1 - z * z) * np.cos(angle), np.sqrt(1 - z * z) * np.sin(angle), z], 1)


def sky_radiance(direction: NDArray) -> NDArray[np.float32]:
    """Linear RGB from far away: sky, brighter walls near the horizon, and light off the floor from below."""
    z = np.asarray(direction, np.float32)[..., 2:3]
    above = HORIZON_COLOUR + (SKY_COLOUR * 1.5 - HORIZON_COLOUR) * np.clip(z, 0, 1) ** 0.7
    return np.where(z > 0, above, BOUNCE_COLOUR + (HORIZON_COLOUR - BOUNCE_COLOUR) * np.clip(1 + 4 * z, 0, 1))


def frame(direction: NDArray) -> NDArray:
    """Rows right, down, forward of a view along ``direction``."""
    forward = direction / np.linalg.norm(direction)
    right = np.cross(forward, [0.0, 0.0, 1.0] if abs(forward[2]) < 0.95 else [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward])


def lamp_shadow(vertices: NDArray, casters: NDArray, points: NDArray, normal: NDArray, position: NDArray) -> NDArray:
    """Share (0 or 1) of a point light that points see, by a perspective shadow map."""
    axes = frame(SHADOW_CENTRE - position)
    focal = 0.5 * SHADOW_SIZE / np.tan(np.arcsin(SHADOW_RADIUS / np.linalg.norm(SHADOW_CENTRE - position)))

    def project(where: NDArray) -> NDArray:
        local = (where - position.astype(where.dtype)) @ axes.T.astype(where.dtype)
        return np.concatenate([local[:, :2] * focal / local[:, 2:] + SHADOW_SIZE / 2, 1 / local[:, 2:]], 1)

    lifted = lift(points, normal, (position - points).astype(np.float32))
    # A bias of BIAS metres, written for 1/depth.
    return unhidden(project(vertices), casters, project(lifted), lambda n: n * n * np.float32(0.6 * BIAS))


def sky_shadow(vertices: NDArray, casters: NDArray, points: NDArray, normal: NDArray, direction: NDArray) -> NDArray:
    """Share (0 or 1) of light from ``direction`` that points see, by a parallel shadow map."""
    axes = frame(-direction)
    scale = 0.5 * SHADOW_SIZE / SHADOW_RADIUS

    def project(where: NDArray) -> NDArray:
        local = (where - SHADOW_CENTRE.astype(where.dtype)) @ axes.T.astype(where.dtype)
        return np.concatenate([local[:, :2] * scale + SHADOW_SIZE / 2, -local[:, 2:]], 1)

    lifted = lift(points, normal, np.broadcast_to(direction.astype(np.float32), points.shape))
    return unhidden(project(vertices), casters, project(lifted), lambda n: np.float32(0.6 * BIAS))


def lift(points: NDArray, normal: NDArray, towards: NDArray) -> NDArray:
    """Points moved off their surface, to the side that the light is on."""
    side = np.sign(dot(normal, towards))[:, None]
    return points + np.float32(BIAS) * side * normal


def unhidden(
    vertices: NDArray, casters: NDArray, points: NDArray, bias: Callable[[NDArray], Any]
) -> NDArray[np.float32]:
    """1 where no caster lies between the light and the point; both in shadow map coordinates."""
    shadow = rasterize(vertices, casters, np.zeros(len(casters), bool), SHADOW_SIZE, SHADOW_SIZE)
    x, y = points[:, 0], points[:, 1]
    inside = (x >= 0) & (x < SHADOW_SIZE) & (y >= 0) & (y < SHADOW_SIZE)
    sample = np.where(inside, y, 0).astype(np.int32) * SHADOW_SIZE + np.where(inside, x, 0).astype(np.int32)
    blocker = shadow.nearness.reshape(-1)[sample]
    hidden = inside & (blocker > points[:, 2] + bias(points[:, 2]))
    return 1 - hidden.astype(np.float32)
