"""4. A method of your own: a `TrainingHook` that adds a loss on the Gaussians, and the training loop it plugs into.

    .venv/bin/python examples/04_training_hook.py [FOLDER]

Hooks are functions, each optional (splat/training/hooks/hook.py lists them all in the order in which a step calls
them). This one has `regularize`: gradients of what it minimises of the cloud itself. It shortens needles, which show as
spikes in new views, as PhysGaussian (Xie et al. 2024, §3.5) does with its anisotropy loss; discs are left alone here.
"""

from dataclasses import replace

import torch
from course import made_by, output_folder, save_row
from torch import Tensor

import splat
from splat.runs.evaluation import evaluate, options_of
from splat.training import trainer
from splat.training.config.config import TrainConfig, preset
from splat.training.hooks.hook import TrainingHook
from splat.training.schedules import Schedule
from splat.training.step_context import StepContext


def needle_hook(weight: float, longest: float = 3.0) -> TrainingHook:
    """A hook that minimises weight · mean(max(log(s₁ / s₂) − log ``longest``, 0)), s₁ ≥ s₂ the two larger axes."""

    def regularize(cloud: splat.GaussianCloud, context: StepContext) -> dict[str, Tensor]:
        log_scales = cloud.log_scales.detach().requires_grad_()
        first, second, _ = log_scales.sort(dim=1, descending=True).values.unbind(1)
        loss = weight * torch.relu(first - second - torch.tensor(longest).log()).mean()
        return dict(zip(["log_scales"], torch.autograd.grad(loss, [log_scales]), strict=True))

    return TrainingHook("needles", regularize=regularize)


def train(scene: splat.Scene, config: TrainConfig, *hooks: TrainingHook) -> splat.GaussianCloud:
    """What `splat.train` does at its core."""
    setup = trainer.set_up(scene, config, hooks)
    state = trainer.begin(setup, Schedule(config.steps, config.minutes))
    while not state.schedule.finished:
        trainer.step(setup, state)
    setup.photos.close()
    return trainer.finished(setup, state)


out = output_folder()
scene = splat.load_scene(made_by("02_train.py", out / "scene"))
config = replace(preset("fast"), steps=600, gaussians=15_000)
view, pictures = scene.test_views[1], []
for name, hooks in (("without", []), ("with", [needle_hook(weight=0.1)])):
    cloud = train(scene, config, *hooks)
    axes = cloud.scales.sort(dim=1, descending=True).values
    needles = float((axes[:, 0] > 3.5 * axes[:, 1]).float().mean())
    psnr = evaluate(cloud, scene, options=options_of(config), full=False).psnr
    print(f"{name} the hook: {needles:.1%} of the Gaussians are needles, {psnr:.2f} dB on held-out photos")
    pictures.append(splat.render(cloud, view.camera, options=options_of(config)).rgb)
save_row(out / "04_without_and_with.png", view.load().rgb / 255, *pictures)
