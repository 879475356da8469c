"""The CUDA kernels, run on the CPU by the emulation, against the float64 reference on the cases of every backend.

Everything but the GPU is real: the kernels' source, the Python driver, the sort. Racy or out-of-bounds use of shared
memory, reads before writes and diverging barriers fail here.
"""

import pytest
import torch
from support.cases import (
    GRADIENTS,
    PICTURES,
    assert_gradients_match,
    assert_rendering_matches,
    camera,
    case,
    case_names,
    expected,
    random_cloud,
)
from support.emulator import Emulator

from splat.native import cuda_launcher
from splat.rendering import cuda
from splat.rendering.types import ImageGradients, RenderOptions


@pytest.fixture(autouse=True)
def emulated():
    emulator = Emulator()
    with cuda_launcher.use(emulator):
        yield emulator


def single(upstream: ImageGradients) -> ImageGradients:
    """``upstream`` in single precision."""
    found = {name: getattr(upstream, name) for name in PICTURES}
    return ImageGradients(**{name: None if tensor is None else tensor.float() for name, tensor in found.items()})


@pytest.mark.parametrize("name", case_names)
def test_kernels_agree_with_float64(name: str):
    this = case(name)
    rendering, context = cuda.forward(this.cloud.to(dtype=torch.float32), this.camera, this.options)
    assert_rendering_matches(rendering, name)
    assert_gradients_match(cuda.backward(context, single(expected(name).upstream)), name)


@pytest.mark.parametrize("picture", PICTURES)
def test_each_picture_alone_has_the_right_gradient(picture: str):
    from splat.rendering import reference

    this = case("plain")
    upstream = ImageGradients(**{picture: getattr(expected("plain").upstream, picture)})
    truth = reference.backward(reference.forward(this.cloud, this.camera, this.options)[1], upstream)
    _, context = cuda.forward(this.cloud.to(dtype=torch.float32), this.camera, this.options)
    found = cuda.backward(context, single(upstream))
    for field in GRADIENTS:
        value, wanted = getattr(found, field).double(), getattr(truth, field)
        assert float((value - wanted).norm()) <= 1e-4 * float(wanted.norm()) + 1e-12, field


def test_lists_longer_than_a_chunk_are_cut_and_continued(emulated):
    # 600 faint Gaussians on one tile: three chunks, with the pixels' states kept between them.
    cloud, view = random_cloud(600, 0, 31, scale=0.5, spread=0.3), camera(16, 16, seed=8)
    cloud = cloud.replace(logit_opacities=cloud.logit_opacities * 0.05 - 4.2)
    from splat.rendering import reference

    options = RenderOptions(depth=True)
    truth, true_context = reference.forward(cloud, view, options)
    found, context = cuda.forward(cloud.to(dtype=torch.float32), view, options)
    assert int(context.chunk_ends[-1]) == 3 and int(context.last.max()) > 512
    # Where a Gaussian lies on the threshold of 1/255 either side is right; with 600, that is in every pixel.
    assert float((found.rgb - truth.rgb).abs().max()) < 1e-3
    upstream = ImageGradients(rgb=torch.ones_like(truth.rgb), depth=torch.ones_like(truth.alpha))
    wanted = reference.backward(true_context, upstream)
    got = cuda.backward(context, single(upstream))
    for field in GRADIENTS:
        value, right = getattr(got, field).double(), getattr(wanted, field)
        assert float((value - right).norm()) <= 3e-3 * float(right.norm()), field


def test_pose_may_lie_beside_the_cloud():
    # A pose in device memory goes by address: in the emulation, by the same code as a pose on the CPU goes by value.
    this = case("plain")
    cloud = this.cloud.to(dtype=torch.float32)
    frame = cuda._frame(this.camera, this.options, this.camera.world_to_camera.float())
    assert frame.device_pose is None
    by_value = cuda.forward(cloud, this.camera, this.options)[0]
    original = cuda._frame

    def by_address(view, options, pose):
        made = original(view, options, pose)
        made.pose = (cuda.FLOAT * 12)()
        made.device_pose = pose.data_ptr()
        return made

    cuda._frame = by_address
    try:
        found = cuda.forward(cloud, this.camera, this.options)[0]
    finally:
        cuda._frame = original
    assert torch.equal(by_value.rgb, found.rgb)


def test_gaussians_over_many_tiles_are_written_by_a_whole_warp():
    # 34 × 3 tiles of 16 pixels: huge Gaussians reach more than 32 of them, some more than 32 rows.
    cloud, view = random_cloud(20, 0, 5, scale=1.0), camera(40, 16 * 34, seed=1, fov=100)
    from splat.rendering import reference

    truth = reference.forward(cloud, view, RenderOptions())[0]
    found, context = cuda.forward(cloud.to(dtype=torch.float32), view, RenderOptions())
    counts = torch.bincount(context.ids[: int(context.ranges.max())].long(), minlength=20)
    assert int(counts.max()) > 32
    assert float((found.rgb - truth.rgb).abs().max()) < 5e-3 and float((found.rgb - truth.rgb).abs().mean()) < 1e-6


def test_lists_hold_exactly_the_tiles_that_the_ellipses_reach():
    cloud, view = random_cloud(60, 0, 17, scale=0.3), camera(100, 80, seed=2)
    _, context = cuda.forward(cloud.to(dtype=torch.float32), view, RenderOptions())
    from splat.rendering import reference

    projection = reference.project(cloud, view, RenderOptions(), view.world_to_camera)
    columns = 7
    for tile in range(columns * 5):
        begin, end = context.ranges[tile].tolist()
        listed = set(context.ids[begin:end].tolist())
        ys, xs = torch.meshgrid(*(torch.arange(16) + 16 * i for i in divmod(tile, columns)), indexing="ij")
        members = torch.arange(len(projection.rows))
        block = reference.Block(ys.flatten(), xs.flatten(), members)
        reach = reference.falloffs(projection, block, projection.means2d.expand(256, -1, -1)) * 255
        needed = set(projection.rows[(reach > 1 + 1e-4).any(0)].tolist())
        assert needed <= listed
        # The continuous ellipse may touch the tile's square between pixel centres, but hardly more than that.
        assert listed - needed <= set(projection.rows[(reach > 0.6).any(0)].tolist())


@pytest.mark.parametrize("name", ["degenerate", "opaque", "off_centre", "one_pixel"])
def test_nothing_is_written_beside_the_buffers(name: str, monkeypatch):
    # Every buffer of the driver lies between two margins, whose content must survive.
    margin, mark, guarded = 64, 77, []

    def guard(shape, dtype):
        size = torch.Size(shape).numel()
        whole = torch.full((size + 2 * margin,), mark, dtype=dtype)
        guarded.append(whole)
        return whole[margin : margin + size].view(shape)

    monkeypatch.setattr(cuda, "_floats", lambda *shape, device: guard(shape, torch.float32))
    monkeypatch.setattr(cuda, "_ints", lambda *shape, device: guard(shape, torch.int32))
    this = case(name)
    _, context = cuda.forward(this.cloud.to(dtype=torch.float32), this.camera, this.options)
    cuda.backward(context, single(expected(name).upstream))
    assert len(guarded) > 10
    for whole in guarded:
        assert bool((whole[:margin] == mark).all()) and bool((whole[-margin:] == mark).all())


def test_float64_clouds_and_clouds_off_the_gpu_are_refused():
    this = case("single")
    with pytest.raises(ValueError, match="float32"):
        cuda.forward(this.cloud, this.camera, this.options)


@pytest.mark.parametrize("field", ["means", "log_scales", "quats", "logit_opacities"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_rows_that_are_not_finite_do_no_harm(field: str, value: float):
    cloud, view = random_cloud(100, 1, 3).to(dtype=torch.float32), camera()
    rows = torch.arange(0, 100, 7)
    keep = torch.ones(100, dtype=torch.bool)
    keep[rows] = False
    bad = cloud.clone()
    getattr(bad, field)[rows] = value
    rendering, context = cuda.forward(bad, view, RenderOptions())
    found = cuda.backward(context, ImageGradients(rgb=torch.ones_like(rendering.rgb)))
    assert bool(rendering.rgb.isfinite().all())
    # An infinite logit or log-scale may stand for a limit; anything else is not drawn at all.
    if value != value or field in ("means", "quats"):
        assert not bool(rendering.visible[rows].any())
        alone = cuda.forward(cloud.select(keep), view, RenderOptions())[0]
        assert torch.equal(rendering.rgb, alone.rgb)
        assert bool(found.means.isfinite().all()) and not found.means[rows].any()


def test_a_larger_picture_equals_the_cpu_backends():
    # 15,000 Gaussians over 260 tiles, lists of up to three chunks: where the reference would take too long.
    cpu = pytest.importorskip("splat.rendering.cpu")
    if cpu.check() is not None:
        pytest.skip(cpu.check())
    cloud, view = random_cloud(15_000, 2, 1, scale=0.05).to(dtype=torch.float32), camera(320, 200)
    options = RenderOptions(background=(0.1, 0.2, 0.3), depth=True, normal=True, square_depth=True)
    generator = torch.Generator().manual_seed(0)
    found, context = cuda.forward(cloud, view, options)
    wanted, cpu_context = cpu.forward(cloud, view, options)
    assert int(context.last.max()) > 512
    upstream = ImageGradients(*(torch.randn(getattr(wanted, name).shape, generator=generator) for name in PICTURES))
    for name in (*PICTURES, "median_depth", "weights", "means2d"):
        # Single pixels may lie on a threshold, where the two round to different sides.
        assert float((getattr(found, name) - getattr(wanted, name)).abs().mean()) < 1e-5, name
    got, right = cuda.backward(context, upstream), cpu.backward(cpu_context, upstream)
    for name in GRADIENTS:
        assert float((getattr(got, name) - getattr(right, name)).norm() / getattr(right, name).norm()) < 1e-3, name
