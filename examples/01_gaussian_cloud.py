"""1. A `GaussianCloud` is plain tensors: make one by hand, edit its rows, move it, render it, write and read files.

.venv/bin/python examples/01_gaussian_cloud.py [FOLDER]
"""

import math

import torch
from course import output_folder, save_row

import splat
from splat.sh import rgb_to_dc

out = output_folder()

# A ring of twelve twisted strands: N Gaussians, long along the ring (own x axis, turned about the world's z axis).
N = 6000
u = torch.linspace(0, 2 * math.pi * 12, N)  # angle along the ring, in twelve rounds
v = u / 12 + 3 * u  # angle around its cross-section
radius = 1 + 0.3 * v.cos()
half = (u + math.pi / 2) / 2
zero = torch.zeros(N)
rgb = 0.5 + 0.45 * torch.stack([v.cos(), (v + 2.1).cos(), (v + 4.2).cos()], 1)
ring = splat.GaussianCloud(
    means=torch.stack([radius * u.cos(), radius * u.sin(), 0.3 * v.sin()], 1),
    log_scales=torch.tensor([0.05, 0.015, 0.015]).log().repeat(N, 1),  # standard deviations, world units
    quats=torch.stack([half.cos(), zero, zero, half.sin()], 1),  # w x y z
    logit_opacities=torch.full((N,), 0.9).logit(),
    sh=rgb_to_dc(rgb)[:, None, :],  # degree 0: the same colour from every side
)
low, high = ring.bounds()
print(f"{len(ring)} Gaussians of SH degree {ring.sh_degree}, {ring.nbytes} bytes, x from {low[0]:.2f} to {high[0]:.2f}")

# Edits return new clouds: a second ring, turned by 90° about x and linked with the first, without its last quarter.
turn = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
linked = ring.transform(turn, torch.tensor([1.0, 0, 0]))
linked = linked.select((linked.means[:, 0] < 1.0) | (linked.means[:, 2] < 0.0))
cloud = splat.GaussianCloud.concat([ring, linked])
print(f"both rings: {len(cloud)} Gaussians")

# A camera has OpenCV axes; here it is placed by what it looks at. Every picture comes from one call.
eye, middle, up = torch.tensor([2.2, -3.2, 1.8]), torch.tensor([0.5, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
camera = splat.Camera.look_at(eye, middle, up, width=320, height=240, fov_degrees=45)
picture = splat.render(cloud, camera, depth=True, weights=True)
print(f"{int(picture.visible.sum())} of them visible; the most important row is {int(picture.weights.argmax())}")
seen = picture.depth > 0
nearness = torch.where(seen, picture.depth[seen].min() / picture.depth.clamp_min(1e-6), 0)
save_row(out / "01_rings.png", picture.rgb, picture.alpha, nearness)

# The ending names the format; a .ply holds everything, an .spz rounds.
for name in ("01_rings.ply", "01_rings.spz"):
    splat.write(cloud, out / name)
    again = splat.render(splat.read(out / name), camera)
    print(f"{name}: {(out / name).stat().st_size} bytes, {again.psnr(picture.rgb.clamp(0, 1)):.1f} dB to the original")
