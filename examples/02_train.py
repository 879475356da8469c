"""2. Train: make the demo scene, train a preset on it, and measure the result on photos that training never saw.

    .venv/bin/python examples/02_train.py [FOLDER]

Most of the time goes into making the scene; a scene of your own needs the line `splat.load_scene(path)` only.
"""

from dataclasses import replace

from course import output_folder, save_row

import splat
from splat.runs.evaluation import evaluate, options_of
from splat.scene import demo
from splat.training.config.config import preset
from splat.training.progress import Progress

out = output_folder()
if not (out / "scene").exists():
    demo.make(out / "scene", views=32, width=144)
scene = splat.load_scene(out / "scene")
print(f"{len(scene.train_views)} photos to train on, {len(scene.test_views)} held out, {len(scene.points)} points")

# A preset is a frozen dataclass; `replace` changes settings. Folders hold one run each, so an old one gets a number.
config = replace(preset("fast"), steps=800, gaussians=15_000)
run, number = out / "run", 1
while run.exists():
    number += 1
    run = out / f"run{number}"


def tell(progress: Progress) -> None:
    """Called after every step."""
    if progress.step % 250 == 0:
        print(f"step {progress.step}: {progress.gaussians} Gaussians, {progress.psnr:.1f} dB on training photos")


result = splat.train(scene, config, out=run, progress=tell)
scores = result.metrics  # what metrics.json holds
print(f"{run}: {scores['psnr']:.2f} dB, SSIM {scores['ssim']:.3f} in {scores['seconds']:.1f} s; report.html shows it")

# The same scores, view by view. A run's cloud is rendered as it was trained: background, anti-aliasing.
options = options_of(config)
evaluation = evaluate(result.cloud, scene, options=options)
worst = min(evaluation.views, key=lambda view: view.psnr)
print(f"from {worst.psnr:.2f} dB ({worst.name}) to {max(view.psnr for view in evaluation.views):.2f} dB")
view = scene.test_views[0]
photo = view.load().rgb / 255
rendered = splat.render(result.cloud, view.camera, options=options).rgb
save_row(out / "02_photo_and_render.png", photo, rendered, (photo - rendered).abs() * 4)
