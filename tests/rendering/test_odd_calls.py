"""Wrong arguments of public functions: one sentence in a ValueError, never a crash of the process."""

import ctypes
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import splat
from splat.camera import Camera
from splat.cloud import FIELDS, GaussianCloud
from splat.compression.methods.self_organizing_grid import grid_order
from splat.native import cpu_library
from splat.ops.adam import AdamHyper, AdamState, adam_step, parameters
from splat.ops.mcmc_noise import add_noise
from splat.ops.mcmc_relocation import relocate
from splat.ops.photometric_loss import image_loss
from splat.rendering import ImageGradients, RenderOptions, cpu, cpu_structs
from splat.rendering.fused_step import Statistics
from splat.training.config.config import TrainConfig
from splat.training.population import keep, permute, populate
from splat.training.population import replace as replace_rows
from splat.training.schedules import Schedule, sh_degree
from tests.support.clouds import cloud_of

pytestmark = pytest.mark.skipif(not cpu_library.variants(), reason="the CPU core is not built")

N = 9
EYE = torch.eye(4, dtype=torch.float64)
CAMERA = Camera(20.0, 20.0, 8.0, 8.0, 16, 16, EYE)
HYPER = AdamHyper(1, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3)


def cloud(**changes) -> GaussianCloud:
    return cloud_of(N, 1, 3).replace(**changes)


def freed(*shape: int) -> torch.Tensor:
    """A tensor that says it has numbers, but whose memory is gone."""
    tensor = torch.zeros(shape)
    tensor.untyped_storage().resize_(0)
    return tensor


def short(*shape: int) -> torch.Tensor:
    """A tensor whose memory ends before its numbers do."""
    tensor = torch.zeros(shape)
    tensor.untyped_storage().resize_(4)
    return tensor


def resized(name: str) -> GaussianCloud:
    """A cloud of which one tensor was resized after it was made."""
    made = cloud()
    getattr(made, name).resize_(2, *getattr(made, name).shape[1:])
    return made


CAMERAS = {
    "no matrix": {"world_to_camera": None},
    "a list": {"world_to_camera": EYE.tolist()},
    "an array": {"world_to_camera": np.eye(4)},
    "3 by 4": {"world_to_camera": EYE[:3]},
    "whole numbers": {"world_to_camera": EYE.long()},
    "meta": {"world_to_camera": EYE.to("meta")},
    "width 0": {"width": 0},
    "width negative": {"width": -16},
    "width a fraction": {"width": 16.5},
    "width text": {"width": "16"},
    "width NaN": {"width": math.nan},
    "height huge": {"height": 2**40},
    "focal NaN": {"fx": math.nan},
    "focal 0": {"fy": 0.0},
    "focal infinite": {"fx": math.inf},
    "centre NaN": {"cx": math.nan},
    "centre text": {"cy": "8"},
    "centre None": {"cy": None},
}


@pytest.mark.parametrize("changes", CAMERAS.values(), ids=CAMERAS)
def test_cameras_that_cannot_be(changes):
    _one_sentence(lambda: CAMERA.replace(**changes))


CLOUDS = {
    "means None": {"means": None},
    "means a list": {"means": [[0.0, 0.0, 0.0]] * N},
    "means whole numbers": {"means": torch.zeros(N, 3, dtype=torch.int64)},
    "means a number": {"means": torch.tensor(1.0)},
    "means flat": {"means": torch.zeros(3 * N)},
    "means two": {"means": torch.zeros(N, 2)},
    "means another number of rows": {"means": torch.zeros(N + 1, 3)},
    "quats three": {"quats": torch.zeros(N, 3)},
    "scales double": {"log_scales": torch.zeros(N, 3, dtype=torch.float64)},
    "opacities a column": {"logit_opacities": torch.zeros(N, 1)},
    "opacities bool": {"logit_opacities": torch.zeros(N, dtype=torch.bool)},
    "opacities meta": {"logit_opacities": torch.zeros(N, device="meta")},
    "sh flat": {"sh": torch.zeros(N, 12)},
    "sh of two bands and a half": {"sh": torch.zeros(N, 7, 3)},
    "sh none": {"sh": torch.zeros(N, 0, 3)},
    "sh degree 5": {"sh": torch.zeros(N, 36, 3)},
    "extras of another length": {"extras": {"score": torch.zeros(N + 1)}},
    "extras a number": {"extras": {"score": torch.tensor(1.0)}},
}


@pytest.mark.parametrize("changes", CLOUDS.values(), ids=CLOUDS)
def test_clouds_that_cannot_be(changes):
    _one_sentence(lambda: cloud(**changes))


CALLS = {
    "select mask of another length": lambda: cloud().select(torch.ones(N + 1, dtype=torch.bool)),
    "select beyond the end": lambda: cloud().select(torch.tensor([N])),
    "select far before the start": lambda: cloud().select(torch.tensor([-N - 1])),
    "select fractions": lambda: cloud().select(torch.tensor([0.5])),
    "select table": lambda: cloud().select(torch.zeros(2, 2, dtype=torch.int64)),
    "permute too few": lambda: cloud().permute(torch.arange(N - 1)),
    "permute mask": lambda: cloud().permute(torch.ones(N, dtype=torch.bool)),
    "permute beyond the end": lambda: cloud().permute(torch.arange(N) + 1),
    "concat nothing": lambda: GaussianCloud.concat([]),
    "degree −1": lambda: cloud().with_sh_degree(-1),
    "degree −2": lambda: cloud().with_sh_degree(-2),
    "degree 5": lambda: cloud().with_sh_degree(5),
    "degree text": lambda: cloud().with_sh_degree("1"),
    "empty degree −2": lambda: GaussianCloud.empty(-2),
    "to whole numbers": lambda: cloud().to(dtype=torch.int32),
    "scale 0": lambda: cloud().transform(torch.eye(3), scale=0.0),
    "scale NaN": lambda: cloud().transform(torch.eye(3), scale=math.nan),
    "scale infinite": lambda: cloud().transform(torch.eye(3), scale=math.inf),
    "rotation NaN": lambda: cloud().transform(torch.full((3, 3), math.nan)),
    "rotation 4 by 4": lambda: cloud().transform(torch.eye(4)),
    "reflection": lambda: cloud().transform(-torch.eye(3)),
    "translation of two": lambda: cloud().transform(torch.eye(3), torch.zeros(2)),
    "bounds of nothing": lambda: GaussianCloud.empty().bounds(),
    "resize to 0": lambda: CAMERA.resized(0, 16),
    "stride 0": lambda: CAMERA.strided(0),
    "stride negative": lambda: CAMERA.strided(-2),
    "stride from beyond": lambda: CAMERA.strided(2, 2, 0),
    "project two numbers": lambda: CAMERA.project(torch.zeros(5, 2)),
    "rays of three numbers": lambda: CAMERA.rays(torch.zeros(5, 3)),
    "unproject another size": lambda: CAMERA.unproject(torch.zeros(4, 4)),
    "look with no direction": lambda: Camera.look_at(torch.zeros(2), torch.ones(3), torch.ones(3), 8, 8),
    "look with 180°": lambda: Camera.look_at(torch.zeros(3), torch.ones(3), EYE[0, :3], 8, 8, 180.0),
    "render text": lambda: splat.render("cloud.ply", CAMERA),
    "render without a camera": lambda: splat.render(cloud(), None),
    "render meta": lambda: splat.render(cloud().to("meta"), CAMERA),
    "render pose 3 by 4": lambda: splat.render(cloud(), CAMERA, world_to_camera=EYE[:3]),
    "render pose meta": lambda: splat.render(cloud(), CAMERA, world_to_camera=EYE.to("meta")),
    "render pose a list": lambda: splat.render(cloud(), CAMERA, world_to_camera=EYE.tolist()),
    "render degree −1": lambda: splat.render(cloud(), CAMERA, sh_degree=-1),
    "render degree a fraction": lambda: splat.render(cloud(), CAMERA, sh_degree=0.5),
    "render background of two": lambda: splat.render(cloud(), CAMERA, background=(0.0, 0.0)),
    "render background NaN": lambda: splat.render(cloud(), CAMERA, background=(math.nan, 0.0, 0.0)),
    "render near NaN": lambda: splat.render(cloud(), CAMERA, near=math.nan),
    "render blur negative": lambda: splat.render(cloud(), CAMERA, blur=-1.0),
    "render focal beyond float32": lambda: splat.render(cloud(), CAMERA.replace(fx=1e300), "cpu"),
    "render too wide": lambda: splat.render(cloud(), CAMERA.replace(width=2 * 10**6), "cpu"),
    "render features of other rows": lambda: splat.render(cloud(), CAMERA, features=torch.zeros(N + 1, 3)),
    "render freed": lambda: splat.render(cloud(means=freed(N, 3)), CAMERA, "cpu"),
    "render short": lambda: splat.render(cloud(sh=short(N, 4, 3)), CAMERA, "cpu"),
    "noise on views": lambda: add_noise(cloud(means=torch.zeros(3, N).T), 1.0, 0, 1),
    "noise freed": lambda: add_noise(cloud(quats=freed(N, 4)), 1.0, 0, 1),
    "relocate other ratios": lambda: relocate(torch.zeros(4), torch.zeros(4, 3), torch.arange(3)),
    "relocate other scales": lambda: relocate(torch.zeros(4), torch.zeros(3, 3), torch.arange(4)),
    "relocate fractions": lambda: relocate(torch.zeros(4), torch.zeros(4, 3), torch.ones(4)),
    "relocate table": lambda: relocate(torch.zeros(2, 2), torch.zeros(2, 2, 3), torch.ones(2, 2, dtype=torch.int64)),
    "relocate meta": lambda: relocate(*(torch.zeros(4, 3, device="meta")[:, 0], torch.zeros(4, 3), torch.arange(4))),
    "relocate freed": lambda: relocate(freed(4), torch.zeros(4, 3), torch.arange(4)),
    "relocate floor 1": lambda: relocate(torch.zeros(4), torch.zeros(4, 3), torch.arange(4), 1.0),
    "relocate floor NaN": lambda: relocate(torch.zeros(4), torch.zeros(4, 3), torch.arange(4), math.nan),
    "loss flat": lambda: image_loss(torch.zeros(8, 8), torch.zeros(8, 8, dtype=torch.uint8)),
    "loss of another size": lambda: image_loss(torch.zeros(8, 8, 3), torch.zeros(8, 9, 3, dtype=torch.uint8)),
    "loss of floats": lambda: image_loss(torch.zeros(8, 8, 3), torch.zeros(8, 8, 3)),
    "loss double": lambda: image_loss(torch.zeros(8, 8, 3).double(), torch.zeros(8, 8, 3, dtype=torch.uint8)),
    "loss meta": lambda: image_loss(
        *(torch.zeros(8, 8, 3, dtype=d, device="meta") for d in (torch.float, torch.uint8))
    ),
    "loss mixed": lambda: image_loss(torch.zeros(8, 8, 3), torch.zeros(8, 8, 3, dtype=torch.uint8, device="meta")),
    "loss weight NaN": lambda: image_loss(
        torch.zeros(8, 8, 3), torch.zeros(8, 8, 3, dtype=torch.uint8), None, math.nan
    ),
    "loss mask of numbers": lambda: image_loss(
        torch.zeros(8, 8, 3), torch.zeros(8, 8, 3, dtype=torch.uint8), torch.ones(8, 8)
    ),
    "loss view": lambda: image_loss(torch.zeros(3, 8, 8).permute(1, 2, 0), torch.zeros(8, 8, 3, dtype=torch.uint8)),
    "loss freed": lambda: image_loss(freed(8, 8, 3), torch.zeros(8, 8, 3, dtype=torch.uint8)),
    "adam step 0": lambda: replace(HYPER, step=0),
    "adam beta 1": lambda: replace(HYPER, beta1=1.0),
    "adam beta NaN": lambda: replace(HYPER, beta2=math.nan),
    "adam gradient of other rows": lambda: adam(gradient=torch.zeros(N + 1, 3)),
    "adam gradient double": lambda: adam(gradient=torch.zeros(N, 3, dtype=torch.float64)),
    "adam gradient meta": lambda: adam(gradient=torch.zeros(N, 3, device="meta")),
    "adam gradient freed": lambda: adam(gradient=freed(N, 3)),
    "adam moment of other rows": lambda: adam(moment=torch.zeros(2, 3)),
    "adam moment freed": lambda: adam(moment=freed(N, 3)),
    "adam visible of other rows": lambda: adam(hyper=replace(HYPER, visible_only=True), visible=torch.ones(2) > 0),
    "adam visible missing": lambda: adam(hyper=replace(HYPER, visible_only=True)),
    "adam extra without a rate": lambda: adam_extra(),
    "grid of 17 columns": lambda: grid_order(torch.zeros(9, 17)),
    "grid of no columns": lambda: grid_order(torch.zeros(9, 0)),
    "grid flat": lambda: grid_order(torch.zeros(9)),
    "grid that never ends": lambda: grid_order(torch.zeros(9, 3), decay=1.0),
    "grid NaN": lambda: grid_order(torch.zeros(9, 3), patience=math.nan),
    "threads −1": lambda: cpu_library.set_threads(-1),
    "threads a fraction": lambda: cpu_library.set_threads(1.5),
    "resume before the start": lambda: Schedule(10, None).resume(3, -3.0, 1.0),
    "resume at step −1": lambda: Schedule(10, None).resume(-1, 0.5, 1.0),
    "resume at NaN": lambda: Schedule(10, None).resume(3, math.nan, 1.0),
    "keep numbers": lambda: keep(populate(cloud()), torch.ones(N)),
    "keep other rows": lambda: keep(populate(cloud()), torch.ones(N + 1) > 0),
    "order beyond the end": lambda: permute(populate(cloud()), torch.arange(N) + 1),
    "replace beyond the end": lambda: replace_rows(populate(cloud()), torch.tensor([N]), cloud_of(1, 1)),
    "replace before the start": lambda: replace_rows(populate(cloud()), torch.tensor([-1]), cloud_of(1, 1)),
    "replace by a mask": lambda: replace_rows(populate(cloud()), torch.ones(1) > 0, cloud_of(1, 1)),
}
for _field in FIELDS:
    CALLS[f"render after {_field} was resized"] = lambda name=_field: splat.render(resized(name), CAMERA, "cpu")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_wrong_arguments(call):
    _one_sentence(call)


def adam(gradient=None, moment=None, hyper=HYPER, visible=None):
    made = cloud()
    state = AdamState.zeros(made)
    if moment is not None:
        state.v["means"] = moment
    gradient = torch.zeros(N, 3) if gradient is None else gradient
    return adam_step(made, {"means": gradient}, state, hyper, visible)


def adam_extra():
    made = cloud(extras={"score": torch.zeros(N)})
    return adam_step(made, {"score": torch.zeros(N)}, AdamState.zeros(made), HYPER)


# ---- between the forward and the backward pass ----

LATER = {
    "resized": lambda tensor: tensor.resize_(2, *tensor.shape[1:]),
    "grown": lambda tensor: tensor.resize_(100_000, *tensor.shape[1:]),
    "freed": lambda tensor: tensor.untyped_storage().resize_(0),
    "cut short": lambda tensor: tensor.untyped_storage().resize_(4),
    "exchanged": lambda tensor: tensor.set_(torch.zeros_like(tensor)),
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("change", LATER.values(), ids=LATER)
def test_a_cloud_changed_after_it_was_rendered(change, name):
    made = cloud()
    moments = AdamState.zeros(made)
    rendering, context = cpu.forward(made, CAMERA, RenderOptions())
    grads = ImageGradients(rgb=torch.ones_like(rendering.rgb))
    change(getattr(made, name))
    _one_sentence(lambda: cpu.backward(context, grads))
    _one_sentence(lambda: cpu.backward_adam(context, grads, moments, HYPER))


@pytest.mark.parametrize(
    "gradient",
    [torch.ones(16, 16), torch.ones(4, 4, 3), freed(16, 16, 3), torch.ones(0, 0, 3)],
    ids=["flat", "small", "freed", "empty"],
)
def test_picture_gradients_that_do_not_fit(gradient):
    _, context = cpu.forward(cloud(), CAMERA, RenderOptions())
    _one_sentence(lambda: cpu.backward(context, ImageGradients(rgb=gradient)))


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(2), freed(N), torch.zeros(N, dtype=torch.float64), torch.zeros(2 * N)[::2]],
    ids=["short", "freed", "double", "strided"],
)
@pytest.mark.parametrize("name", ["grad2d", "grad2d_abs", "count"])
def test_statistics_that_do_not_fit(name, wrong):
    made = cloud()
    _, context = cpu.forward(made, CAMERA, RenderOptions())
    grads, statistics = ImageGradients(rgb=torch.ones(16, 16, 3)), Statistics(**{name: wrong})
    _one_sentence(lambda: cpu.backward_adam(context, grads, AdamState.zeros(made), HYPER, statistics))


@pytest.mark.parametrize(
    "wrong",
    [None, torch.zeros(2), freed(N), torch.zeros(N, dtype=torch.float64)],
    ids=["missing", "short", "freed", "double"],
)
def test_moments_that_do_not_fit(wrong):
    made = cloud()
    _, context = cpu.forward(made, CAMERA, RenderOptions())
    moments = AdamState.zeros(made)
    if wrong is None:
        del moments.m["logit_opacities"]
    else:
        moments.m["logit_opacities"] = wrong
    grads = ImageGradients(rgb=torch.ones(16, 16, 3))
    _one_sentence(lambda: cpu.backward_adam(context, grads, moments, HYPER))


def test_what_is_odd_but_right_still_works():
    views = cloud(means=torch.zeros(3, N).T, sh=torch.zeros(3, 4, N).permute(2, 1, 0))
    assert splat.render(views, CAMERA, "cpu").rgb.shape == (16, 16, 3)
    assert splat.render(GaussianCloud.empty(), CAMERA, "cpu").alpha.abs().max() == 0
    bad = cloud(means=torch.full((N, 3), math.nan), log_scales=torch.full((N, 3), math.inf))
    assert splat.render(bad, CAMERA, "cpu").alpha.abs().max() == 0
    assert sh_degree(TrainConfig(), -3.0) == 0
    empty = torch.zeros(0, 5, 3)
    assert image_loss(empty, empty.to(torch.uint8)).pixels == 0
    names = list(parameters(cloud()))
    assert adam_step(cloud(), {}, AdamState.zeros(cloud()), HYPER) == () and names == list(FIELDS)


# ---- the C functions themselves, without the checks of Python ----


def test_the_library_refuses_frames_that_are_wrong():
    frame = {
        "count": 0, "sh_bands": 1, "sh_degree": 0, "fx": 1.0, "fy": 1.0, "width": 4, "height": 4,
        "near_plane": 0.01, "blur": 0.3, "rgb": cpu_library.pointer(RGB), "alpha": cpu_library.pointer(ALPHA),
    }  # fmt: skip
    workspace = cpu_structs.Workspace()
    workspace.forward(cpu_structs.Frame(**frame))
    wrong = [
        {"count": -1}, {"count": 5}, {"sh_bands": 2}, {"sh_bands": 0}, {"sh_degree": -1}, {"sh_degree": 1},
        {"sh_degree": 2**31 - 1}, {"width": 0}, {"width": -4}, {"height": 0}, {"rgb": None}, {"alpha": None},
        {"fx": math.nan}, {"fx": 0.0}, {"fy": math.inf}, {"cx": math.nan}, {"near_plane": math.nan},
        {"blur": -1.0}, {"with_depth": 1}, {"with_normal": 1}, {"with_square": 1}, {"width": 2**31 - 1},
    ]  # fmt: skip
    for changes in wrong:
        _one_sentence(lambda: workspace.forward(cpu_structs.Frame(**{**frame, **changes})))  # noqa: B023


RGB, ALPHA = torch.zeros(4, 4, 3), torch.zeros(4, 4)


def test_the_library_refuses_a_backward_pass_of_another_frame():
    gradients = {"width": 4, "height": 4}
    frame = cpu_structs.Frame(
        count=0, sh_bands=1, sh_degree=0, fx=1.0, fy=1.0, width=4, height=4, near_plane=0.01, blur=0.3,
        rgb=cpu_library.pointer(RGB), alpha=cpu_library.pointer(ALPHA),
    )  # fmt: skip
    workspace = cpu_structs.Workspace()

    def backward(gradients: dict, step: dict) -> None:
        workspace.backward(cpu_structs.PictureGradients(**gradients), cpu_structs.Step(**step))

    _one_sentence(lambda: backward(gradients, {"bands": 1}))  # nothing was rendered yet
    workspace.forward(frame)
    backward(gradients, {"bands": 1})
    for wrong in ({"bands": 4}, {"bands": 1, "rows": 7}, {"bands": 1, "fused": 1, "step": 0}):
        _one_sentence(lambda: backward(gradients, wrong))  # noqa: B023
    _one_sentence(lambda: backward({"width": 8, "height": 4}, {"bands": 1}))


def test_the_library_refuses_null_pointers_and_negative_sizes():
    i64, f, d, p, u64, i32 = (
        ctypes.c_int64, ctypes.c_float, ctypes.c_double, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int32,
    )  # fmt: skip
    noise = cpu_library.function("splat_mcmc_noise", [p, p, p, p, i64, f, f, u64, u64], i32)
    assert [noise(None, None, None, None, n, 0.005, 1.0, 0, 0) for n in (-1, 0, 1, 2**62)] == [3, 0, 3, 3]
    move = cpu_library.function("splat_mcmc_relocate", [p, p, p, i64, d, p, p], i32)
    assert [move(None, None, None, n, 0.005, None, None) for n in (-1, 0, 1)] == [3, 0, 3]
    loss = cpu_library.function("splat_image_loss", [p, p, p, i64, i64, f, p, p], i32)
    sums = (d * 4)()
    sizes = [(-1, 4), (4, -1), (4, 4), (2**40, 2**40), (0, 4)]
    assert [loss(None, None, None, h, w, 0.2, None, sums) for h, w in sizes] == [3, 3, 3, 3, 0]
    find = cpu_library.function("splat_first_nonfinite", [p, i64, i64], i64)
    assert [find(None, *size) for size in ((-1, 1), (1, -1), (1, 1), (2**40, 2**40), (0, 5))] == [-2, -2, -2, -2, -1]
    adam = cpu_library.function("splat_adam", [p] * 4 + [i64] * 3 + [d] * 5 + [i64, p, ctypes.c_int, d], i64)
    rates = (1e-3, 1e-3, 0.9, 0.999, 1e-15)
    for rows, width, step, kind in ((-1, 1, 1, 0), (1, 0, 1, 0), (1, 1, -1, 0), (1, 1, 1, 3), (1, 1, 1, 0)):
        assert adam(None, None, None, None, rows, width, width, *rates, step, None, kind, 0.0) == -2
    sort = cpu_library.function("splat_grid_sort", [p, i64, i64, i64, i32, f, f, f, u64, p], i32)
    values, order = (f * 16)(*range(16)), (i32 * 4)(0, 1, 2, 3)
    right = [values, 4, 2, 2, 4, 1.0, 0.9, 0.1, 0, order]
    assert sort(*right) == 0
    beyond = (i32 * 4)(0, 1, 2, 4)
    for place, value in ((0, None), (1, 3), (2, -1), (4, 17), (4, 0), (6, 1.0), (7, math.nan), (9, None), (9, beyond)):
        assert sort(*[value if i == place else right[i] for i in range(10)]) == 3


def _one_sentence(call) -> None:
    with pytest.raises(ValueError) as caught:
        call()
    text = str(caught.value)
    assert text and "\n" not in text and len(text) < 400
