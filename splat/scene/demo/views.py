"""Cameras around the table, and their pictures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splat.scene.demo.bake import (
    HORIZON_COLOUR,
    LAMP,
    LAMP_COLOUR,
    Mesh,
    Texture,
    dot,
    frame,
    unit,
)
from splat.scene.demo.shapes import Patch
from splat.triangle_raster import NOTHING, Visibility, rasterize

SUPERSAMPLING = 3  # samples a side of a pixel
BAND = 24  # pixel rows drawn at once
NEAR = 0.05  # metres
EXPOSURE = 0.92
TARGET = np.array([0.0, 0.0, 0.62])
# Rings of cameras: fraction of the views, distance from the axis, height, height looked at; metres.
RINGS = ((0.38, 3.05, 0.82, 0.50), (0.34, 2.65, 1.40, 0.48), (0.28, 2.20, 1.95, 0.45))


@dataclass(frozen=True)
class Pose:
    """Where a picture is taken: world to camera ``rotation`` (3, 3), ``centre`` (3,), and ``focal`` in pixels."""

    rotation: NDArray[np.float64]
    centre: NDArray[np.float64]
    focal: float
    width: int
    height: int

    def project(self, points: NDArray) -> tuple[NDArray, NDArray]:
        """Pixels (M, 2) and depths (M,) of world points (M, 3)."""
        local = (points - self.centre) @ self.rotation.T
        with np.errstate(divide="ignore", invalid="ignore"):
            xy = local[:, :2] * (self.focal / local[:, 2:]) + np.array([self.width / 2, self.height / 2])
        return xy, local[:, 2]


def poses(count: int, width: int, seed: int) -> list[Pose]:
    """``count`` cameras in rings, hand-held: slightly off in position, aim and roll. Pictures are 4:3."""
    rng = np.random.default_rng(seed + 1)
    shares = np.cumsum([0.0] + [ring[0] for ring in RINGS])
    bounds = np.round(shares / shares[-1] * count).astype(int)
    height = max(1, round(width * 3 / 4))
    out = []
    for k, (_, distance, level, aim) in enumerate(RINGS):
        size = bounds[k + 1] - bounds[k]
        for i in range(size):
            angle = 2 * np.pi * (i + 0.37 * k + 0.2 * rng.uniform(-1, 1)) / size
            radius = distance * (1 + 0.05 * rng.uniform(-1, 1))
            centre = np.array([radius * np.cos(angle), radius * np.sin(angle), level + 0.08 * rng.uniform(-1, 1)])
            axes = frame(np.array([0, 0, aim]) + 0.08 * rng.uniform(-1, 1, 3) - centre)
            roll = np.radians(1.5) * rng.uniform(-1, 1)
            turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
            out.append(Pose(turn @ axes, centre, 0.98 * width, width, height))
    return out


def see(mesh: Mesh, pose: Pose) -> tuple[Visibility, NDArray]:
    """Which face every sample shows (3×3 a pixel), and the projected vertices (V, 3): x, y in samples, 1/depth."""
    xy, depth = pose.project(mesh.vertices)
    with np.errstate(divide="ignore"):
        nearness = np.where(depth > NEAR, 1 / depth, np.nan)
    points = np.concatenate([xy * SUPERSAMPLING, nearness[:, None]], 1)
    width, height = pose.width * SUPERSAMPLING, pose.height * SUPERSAMPLING
    return rasterize(points, mesh.faces, mesh.one_sided, width, height), points


def picture(
    patches: list[Patch], mesh: Mesh, texture: Texture, pose: Pose, seen: Visibility, points: NDArray
) -> NDArray[np.uint8]:
    """The photo (H, W, 3), sRGB: light is averaged over a pixel's samples, then tone-mapped.

    Drawn in bands of rows: arrays that fit the cache are faster, and little memory is used.
    """
    bands = range(0, pose.height, BAND)
    light = [
        band_light(patches, mesh, texture, pose, seen, points, first, min(first + BAND, pose.height)) for first in bands
    ]
    return to_srgb(np.concatenate(light))


def band_light(
    patches: list[Patch],
    mesh: Mesh,
    texture: Texture,
    pose: Pose,
    seen: Visibility,
    points: NDArray,
    first: int,
    last: int,
) -> NDArray[np.float32]:
    """Linear RGB (last − first, W, 3) of the pixel rows from ``first`` to before ``last``."""
    rows = slice(first * SUPERSAMPLING, last * SUPERSAMPLING)
    shape = seen.face[rows].shape
    face = seen.face[rows].reshape(-1)
    hit = np.flatnonzero(face != NOTHING)
    x, y = np.meshgrid(*(np.arange(n, dtype=np.int32) for n in shape[::-1]))
    x, y, patch, face = x.reshape(-1)[hit], y.reshape(-1)[hit] + rows.start, mesh.patch[face[hit]], face[hit]
    nearness = seen.nearness[rows].reshape(-1)[hit]
    column, row = place_on_texture(mesh, points, face, x, y, nearness)
    texel, weight = bilinear(mesh, patch, column, row)
    diffuse = gather(texture.light, texel, weight)
    glossy = np.flatnonzero(np.array([max(p.gloss.f0) > 0 for p in patches])[patch])
    rays = sample_rays(pose, x[glossy], y[glossy])
    normal = gather(texture.normal, texel[glossy], weight[glossy])
    diffuse[glossy, :3] += reflections(
        patches, patch[glossy], normal, diffuse[glossy, 3], rays, pose.centre, nearness[glossy]
    )
    light = np.empty((shape[0] * shape[1], 3), np.float32)
    light[:] = HORIZON_COLOUR
    light[hit] = diffuse[:, :3]
    return box_mean(light.reshape(*shape, 3))


def place_on_texture(
    mesh: Mesh, points: NDArray, face: NDArray, x: NDArray, y: NDArray, nearness: NDArray
) -> tuple[NDArray, NDArray]:
    """Texel column and row of samples (M,): texel coordinates over depth are linear on the screen."""
    used = np.flatnonzero(np.bincount(face, minlength=len(mesh.faces)))
    corner = mesh.faces[used]
    px, py, n = (points[:, k][corner] for k in range(3))
    x1, y1, x2, y2 = px[:, 1] - px[:, 0], py[:, 1] - py[:, 0], px[:, 2] - px[:, 0], py[:, 2] - py[:, 0]
    area = x1 * y2 - x2 * y1
    planes = [px[:, 0] - 0.5, py[:, 0] - 0.5]
    for k in range(2):
        value = mesh.texel_xy[:, k][corner] * n
        a, b = value[:, 1] - value[:, 0], value[:, 2] - value[:, 0]
        planes += [value[:, 0], (a * y2 - b * y1) / area, (b * x1 - a * x2) / area]
    where = np.zeros(len(mesh.faces), np.int32)
    where[used] = np.arange(len(used))
    plane = np.stack(planes, 1).astype(np.float32)[where[face]].T
    dx, dy = x.astype(np.float32) - plane[0], y.astype(np.float32) - plane[1]
    column, row = (plane[k] + plane[k + 1] * dx + plane[k + 2] * dy for k in (2, 5))
    return column / nearness, row / nearness


def bilinear(
    mesh: Mesh, patch: NDArray, column: NDArray, row: NDArray
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The four texels (M, 4) around places (M,) of patches (M,), and their weights (M, 4)."""
    columns = mesh.columns[patch]
    # float32 throughout: textures have few enough columns and rows to be exact.
    column = np.clip(column, 0, (mesh.columns - 1).astype(np.float32)[patch])
    row = np.clip(row, 0, (mesh.rows - 1).astype(np.float32)[patch])
    left = np.minimum(column.astype(np.int32), columns - 2)
    top = np.minimum(row.astype(np.int32), (mesh.rows - 2)[patch])
    first = mesh.offset[patch] + top * columns + left
    across, down = column - left.astype(np.float32), row - top.astype(np.float32)
    texel, weight = np.empty((len(first), 4), np.int32), np.empty((len(first), 4), np.float32)
    texel[:, 0], texel[:, 1], texel[:, 2], texel[:, 3] = first, first + 1, first + columns, first + columns + 1
    weight[:, 3] = across * down
    weight[:, 1], weight[:, 2] = across - weight[:, 3], down - weight[:, 3]
    weight[:, 0] = 1 - across - weight[:, 2]
    return texel, weight


def gather(values: NDArray, texel: NDArray, weight: NDArray) -> NDArray[np.float32]:
    """Weighted sums (M, 4) of texels (T, 4)."""
    return np.einsum("mk,mkc->mc", weight, values[texel])


def box_mean(samples: NDArray) -> NDArray[np.float32]:
    """Mean over each pixel's samples: (H s, W s, 3) → (H, W, 3)."""
    s = SUPERSAMPLING
    rows = sum(samples[k::s] for k in range(s))
    return sum(rows[:, k::s] for k in range(s)) * np.float32(1 / (s * s))


def sample_rays(pose: Pose, x: NDArray, y: NDArray) -> NDArray:
    """World directions (M, 3) of unit depth through samples, float32."""
    scale = 1 / (pose.focal * SUPERSAMPLING)
    columns = (np.arange(pose.width * SUPERSAMPLING) + 0.5 - pose.width * SUPERSAMPLING / 2) * scale
    rows = (np.arange(pose.height * SUPERSAMPLING) + 0.5 - pose.height * SUPERSAMPLING / 2) * scale
    right, down, forward = pose.rotation
    return np.outer(columns, right).astype(np.float32)[x] + (np.outer(rows, down) + forward).astype(np.float32)[y]


def reflections(
    patches: list[Patch],
    patch: NDArray,
    normal: NDArray,
    lamp_seen: NDArray,
    rays: NDArray,
    centre: NDArray,
    nearness: NDArray,
) -> NDArray[np.float32]:
    """Mirrored lamp and room (M, 3): a lobe around the mirrored direction, Schlick's Fresnel factor.

    ``normal`` (M, 4) has the fraction of the sky that is seen as its fourth column.
    """
    f0 = np.array([p.gloss.f0 for p in patches], np.float32)[patch]
    sharpness = np.array([p.gloss.sharpness for p in patches], np.float32)[patch]
    towards = -unit(rays)
    sky_seen, normal = normal[:, 3], unit(normal[:, :3])
    cosine = dot(normal, towards)
    # Twice the cosine times the normal is the same whichever side a thin surface shows.
    mirrored = (2 * cosine)[:, None] * normal - towards
    lamp = unit(LAMP.astype(np.float32) - centre.astype(np.float32) - rays / nearness[:, None])
    # Blunt lobes are dimmer in proportion to the solid angle they fill.
    lobe = 0.028 * sharpness * np.exp(sharpness * (dot(mirrored, lamp) - 1)) * lamp_seen
    light = surroundings(mirrored, sharpness) * (0.25 + 0.75 * sky_seen)[:, None] + lobe[:, None] * LAMP_COLOUR
    grazing = (1 - np.minimum(np.abs(cosine), 1)) ** 5 * np.minimum(1, sharpness / 100)
    return (f0 + (1 - f0) * grazing[:, None]) * light


# What the room looks like to a mirror: floor, panelling, plaster, open sky; and the heights (z of a direction) between.
MIRRORED = np.array([[0.34, 0.30, 0.26], [0.03, 0.09, 0.10], [0.52, 0.42, 0.33], [0.95, 1.05, 1.2]], np.float32)
MIRRORED_EDGES = (-0.10, 0.10, 0.62)
# Tall soft windows: direction, sharpness, strength.
WINDOWS = (((-0.75, 0.45, 0.48), 14.0, 1.3), ((0.2, 0.9, 0.4), 22.0, 0.8))


def surroundings(direction: NDArray, sharpness: NDArray) -> NDArray[np.float32]:
    """Light (M, 3) that a glossy surface mirrors: bands of the room, blurred by the lobe, and two windows."""
    width = 0.06 + 1.6 / np.sqrt(sharpness)
    out = np.broadcast_to(MIRRORED[0], direction.shape)
    for edge, colour in zip(MIRRORED_EDGES, MIRRORED[1:], strict=True):
        blend = np.clip((direction[:, 2] - edge) / width + 0.5, 0, 1)
        out = out + (blend * blend * (3 - 2 * blend))[:, None] * (colour - out)
    for window, tightness, strength in WINDOWS:
        towards = np.asarray(window, np.float32) / np.float32(np.linalg.norm(window))
        blur = 1 / (1 / tightness + 1 / sharpness)
        lobe = strength * blur / tightness * np.exp(blur * (dot(direction, towards) - 1))
        out = out + lobe[:, None] * np.array([0.9, 0.97, 1.0], np.float32)
    return out


def to_srgb(light: NDArray) -> NDArray[np.uint8]:
    """Filmic curve (Narkowicz's fit of ACES, 2015), then the sRGB transfer function, 8 bits."""
    x = light * np.float32(EXPOSURE * 0.6)
    x = np.clip(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14), 0, 1)
    x = np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055)
    return np.round(x * 255).astype(np.uint8)
