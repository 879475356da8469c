"""3. Compress and convert: the size and fidelity of one cloud in several formats, and a size that is asked for.

.venv/bin/python examples/03_compress.py [FOLDER]
"""

from course import made_by, output_folder, save_row

import splat
from splat.compression import Callbacks

out = output_folder()
cloud = splat.read(made_by("02_train.py", out / "run" / "cloud.ply"))
scene = splat.load_scene(out / "scene")
camera = scene.test_views[0].camera
original = splat.render(cloud, camera).rgb.clamp(0, 1)
size = (out / "run" / "cloud.ply").stat().st_size
print(f"cloud.ply: {len(cloud)} Gaussians, {size} bytes")

# Converting is reading and writing. How much a format keeps is measured here in one view, against the original.
for ending in (".compressed.ply", ".spz", ".sog", ".splatz"):
    path = out / f"03_converted{ending}"
    splat.write(cloud, path)
    psnr = splat.render(splat.read(path), camera).psnr(original)
    print(f"{ending:16} {path.stat().st_size:8} bytes, {size / path.stat().st_size:5.1f} times smaller, {psnr:.1f} dB")

# `compress` searches: here for the best SPZ of a twentieth of the size, judged from the held-out cameras. It writes
# nothing; its result has the bytes. Other goals are `size`, `fidelity` and, with photos to train on, `max_drop`.
trials = []
small = splat.compress(cloud, "small.spz", scene=scene, ratio=20, callbacks=Callbacks(report=trials.append))
(out / "03_small.spz").write_bytes(small.data)
print(
    f"compress(ratio=20): {small.size} bytes ({size / small.size:.1f} times smaller), {small.psnr:.1f} dB, "
    f"{small.gaussians} Gaussians, after {len(trials)} trials"
)
rendered = splat.render(splat.read(out / "03_small.spz"), camera).rgb
save_row(out / "03_original_and_small.png", original, rendered, (original - rendered).abs() * 4)
