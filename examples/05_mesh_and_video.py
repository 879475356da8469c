"""5. Surfaces and camera paths: a triangle mesh of a trained cloud, judged by the truth, and a video around the scene.

.venv/bin/python -m pip install '.[mesh]'    # once; `bash tools/setup.sh dev` has brought it too
.venv/bin/python examples/05_mesh_and_video.py [FOLDER]
"""

import torch
from course import made_by, output_folder, save_row

import splat
from splat.surface.evaluation import metrics
from splat.surface.mesh import mesh_io
from splat.surface.mesh.draw import shaded
from splat.surface.options import MeshOptions
from splat.surface.pipeline import mesh_cloud
from splat.video import write_video
from splat.viewpoints import paths

mesh_io.require_library()  # says what to install, before anything slow
out = output_folder()
cloud = splat.read(made_by("02_train.py", out / "run" / "cloud.ply"))
scene = splat.load_scene(out / "scene")

# Once around what the photos look at, as a video. A path is a list of cameras; `paths.write` keeps it for later,
# and for `splat render RUN OUT.mp4 --along FILE`.
cameras = paths.orbit(scene, frames=48)
paths.write(out / "05_orbit.json", cameras, fps=24)
frames = (splat.render(cloud, camera).rgb.clamp(0, 1) for camera in cameras)
count = write_video(out / "05_orbit.mp4", ((frame * 255 + 0.5).byte().numpy() for frame in frames), fps=24)
print(f"wrote {out / '05_orbit.mp4'}: {count} frames")

# Depth maps rendered from the photos' cameras are fused into a signed distance field, and its zero is the mesh. The box
# (x y z of its lower and upper corner, metres) holds the table and what stands on it.
box = (-1.3, -1.3, 0.05, 1.3, 1.3, 1.6)
mesh = mesh_cloud(cloud, [view.camera for view in scene.train_views], MeshOptions(resolution=160, box=box)).mesh
mesh_io.write(out / "05_mesh.ply", mesh)
print(f"wrote {out / '05_mesh.ply'}: {len(mesh.vertices)} vertices, {len(mesh.faces)} faces")

# The demo scene comes with its true surface: points on both are compared, within 5 cm.
truth = mesh_io.read(out / "scene" / "mesh_gt.ply")
scores = metrics.compare(metrics.sample(mesh, 0.01, box), metrics.sample(truth, 0.01, box), [0.05])
f_score = scores.f_scores[0]
print(f"precision {f_score.precision:.3f}, recall {f_score.recall:.3f}, F1 {f_score.f1:.3f} within 5 cm")
camera = scene.test_views[0].camera
drawn = [torch.from_numpy(shaded(each, camera)) / 255 for each in (mesh, truth)]
save_row(out / "05_mesh.png", splat.render(cloud, camera).rgb, *drawn)
