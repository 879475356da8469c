"""The fitter alone: its step is Adam along the gradient of the loss, whatever takes part, and it says what it does."""

import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from support.scenes import ring, truth

import splat
from splat.cloud import FIELDS, GaussianCloud
from splat.errors import NonFiniteError
from splat.ops.adam import AdamHyper
from splat.rendering import RenderOptions, cpu, reference, render
from splat.rendering.types import ImageGradients
from splat.scene import Photo
from splat.training import fitter as module
from splat.training.fitter import Fitter
from splat.training.hooks.hook import TrainingHook
from splat.training.losses.image import PictureLoss
from splat.training.per_photo.corrections import POSES
from splat.training.per_photo.parameters import PerPhoto, PhotoParameters
from splat.training.population import populate
from splat.training.step_context import StepContext
from splat.training.training_view import TrainingView

RATES = {"means": 1e-3, "log_scales": 2e-3, "quats": 3e-3, "logit_opacities": 4e-3, "sh_dc": 5e-3, "sh_rest": 6e-4}
HYPER = AdamHyper(1, **RATES)


class Scores:
    loss = mse = 0.0


def against(targets: dict[int, torch.Tensor], weight: float = 1.0):
    """The loss ``weight`` · Σ (picture · target of the view)."""
    return lambda rendering, view, context: PictureLoss(
        Scores(), 0.0, ImageGradients(rgb=weight * targets[view.photo.rgb.shape[1]].to(rendering.rgb))
    )


def views_and_targets() -> tuple[list[TrainingView], dict[int, torch.Tensor]]:
    """Two views, told apart by their width, and a random gradient for each."""
    views, targets = [], {}
    for number, camera in enumerate(ring(2, 20)):
        camera = camera.resized(20 + number, 20)
        photo = Photo(torch.zeros(20, 20 + number, 3, dtype=torch.uint8))
        views.append(TrainingView(None, photo, camera, (0.1, 0.2, 0.3)))
        g = torch.Generator().manual_seed(number)
        targets[20 + number] = torch.randn(20, 20 + number, 3, generator=g) / 100
    return views, targets


def gradients_by_autograd(cloud: GaussianCloud, views, targets, deform=lambda cloud: cloud) -> dict[str, torch.Tensor]:
    """Of the mean over views of Σ (picture · target), in float64."""
    leaves = {name: getattr(cloud, name).double().requires_grad_() for name in FIELDS}
    total = 0.0
    for view in views:
        shown = deform(GaussianCloud(**leaves))
        rgb = render(shown, view.camera, "reference", RenderOptions(background=view.background)).rgb
        total = total + (rgb * targets[view.photo.rgb.shape[1]]).sum() / len(views)
    return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))


def double_size(cloud: GaussianCloud, view: TrainingView | None = None) -> GaussianCloud:
    return cloud.replace(log_scales=cloud.log_scales + 0.7)


@pytest.mark.parametrize("backend", [cpu.BACKEND, reference.BACKEND], ids=lambda backend: backend.name)
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("deforms", [False, True])
def test_a_step_is_adam_along_the_mean_gradient(backend, count, deforms):
    views, targets = views_and_targets()
    population = populate(truth(12))
    exact = gradients_by_autograd(
        population.cloud, views[:count], targets, double_size if deforms else lambda cloud: cloud
    )
    hooks = (TrainingHook("double", deform=double_size),) if deforms else ()
    Fitter(population, backend, against(targets), hooks).step(views[:count], HYPER)
    for name in FIELDS:
        scale = exact[name].abs().max()
        assert scale > 0
        torch.testing.assert_close(population.adam.m[name].double(), 0.1 * exact[name], rtol=1e-3, atol=1e-4 * scale)
    moved = (population.cloud.means - truth(12).means).abs()
    assert float(moved.max()) == pytest.approx(RATES["means"], rel=1e-3)  # Adam's first step


def test_a_regularizer_joins_the_gradient_and_a_weight_scales_it():
    views, targets = views_and_targets()
    plain, more = populate(truth(12)), populate(truth(12))
    Fitter(plain, cpu.BACKEND, against(targets, 2.0)).step(views[:1], HYPER)
    ones = TrainingHook("ones", regularize=lambda cloud, context: {"means": torch.ones_like(cloud.means)})
    view = TrainingView(**{**vars(views[0]), "weight": 2.0})
    Fitter(more, cpu.BACKEND, against(targets), (ones,)).step([view], HYPER)
    torch.testing.assert_close(more.adam.m["means"], plain.adam.m["means"] + 0.1, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(more.adam.m["quats"], plain.adam.m["quats"], rtol=1e-4, atol=1e-7)


def test_poses_and_what_hooks_declare_are_stepped_for_the_photo_that_is_seen():
    views, targets = views_and_targets()
    poses = PerPhoto(PhotoParameters(3, 6), lambda context: 0.01)
    shift = PerPhoto(PhotoParameters(3, 3), lambda context: 0.02 * (1 - context.fraction))

    def deform(cloud: GaussianCloud, view: TrainingView | None) -> GaussianCloud:
        return cloud.replace(means=cloud.means + view.photo_parameters["shift"])

    hook = TrainingHook("shift", deform=deform, per_photo={"shift": shift})
    seen = TrainingView(**{**vars(views[0]), "index": 1})
    fitter = Fitter(populate(truth(12)), cpu.BACKEND, against(targets), (hook,), {POSES: poses})
    fitter.step([seen], HYPER, context=StepContext(fraction=0.5))
    for each, rate in ((poses, 0.01), (shift, 0.01)):
        assert each.parameters.steps.tolist() == [0, 1, 0]
        # Adam's first step has length rate; the mean over the three photos is taken off all of them.
        assert torch.allclose(each.parameters.values[1].abs(), torch.full_like(each.parameters.values[1], rate * 2 / 3))
    # Moving a camera one way is moving the cloud the other way.
    assert torch.equal(poses.parameters.values[1, :3].sign(), -shift.parameters.values[1].sign())


def test_stages_are_timed_and_losses_watched_before_anything_moves():
    views, targets = views_and_targets()
    stages, losses, population = [], [], populate(truth(12))

    @contextmanager
    def timer(stage: str):
        stages.append(stage)
        yield

    def watch(view: TrainingView, loss: PictureLoss) -> None:
        losses.append(loss)
        raise NonFiniteError("no")

    fitter = Fitter(population, cpu.BACKEND, against(targets), timer=timer)
    with pytest.raises(NonFiniteError):
        fitter.step(views[:1], HYPER, watch=watch)
    assert len(losses) == 1 and stages == ["rendering", "loss"]
    assert torch.equal(population.cloud.means, truth(12).means)
    assert len(fitter.step(views, HYPER)) == 2 and stages[2:] == ["rendering", "loss", "update"] * 2 + ["update"]


def test_a_gradient_that_is_not_finite_is_named_and_moves_nothing():
    views, targets = views_and_targets()
    targets[20][3, 4] = float("nan")
    population = populate(truth(12))
    with pytest.raises(NonFiniteError, match="sh.*not finite at step 1"):
        Fitter(population, cpu.BACKEND, against(targets)).step(views[:1], HYPER)
    assert bool(population.cloud.sh.isfinite().all())


def test_the_example_in_the_docstring_learns(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    splat.write(truth(12), "cloud.ply")
    camera = ring(1, 24)[0]
    picture = (render(truth(24), camera, "cpu").rgb.clamp(0, 1) * 255).to(torch.uint8)
    example = re.sub(r"^    ", "", module.__doc__.split("\n\n", 2)[2], flags=re.MULTILINE)
    exec(compile(example, "example", "exec"), {"picture": picture, "camera": camera})
    losses = [float(line) for line in capsys.readouterr().out.split()]
    assert len(losses) == 100 and losses[-1] < 0.5 * losses[0]
