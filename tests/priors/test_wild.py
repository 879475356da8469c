"""Photos by strangers: occluders found by residuals, looks fitted to a part of a photo; choosing a few photos."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.scenes import row_scene, short

from splat.camera import Camera
from splat.depth import monocular
from splat.errors import InputError
from splat.priors.build import prepare
from splat.priors.points import feed_forward
from splat.priors.views.enhancer import classical
from splat.priors.wild import transient_masks
from splat.priors.wild.appearance_fitting import fit_exposure, fit_grid, left_half
from splat.priors.wild.transient_masks import occluded
from splat.scene import Photo
from splat.scene.subset import evenly, keep_views
from splat.training.per_photo import bilateral_grid
from splat.training.per_photo import exposure as appearance
from splat.training.step_context import StepContext
from splat.training.training_view import TrainingView


def test_an_occluder_is_found_and_noise_is_none():
    g = torch.Generator().manual_seed(0)
    residual = 0.02 * torch.rand(64, 96, generator=g)
    assert not bool(occluded(residual).any())
    residual[20:40, 30:60] += 0.3
    found = occluded(residual)
    assert bool(found[22:38, 32:58].all())
    assert float(found.float().mean()) < 1.6 * 20 * 30 / (64 * 96)
    mask = torch.ones(64, 96, dtype=torch.bool)
    mask[:, 45:] = False
    assert not bool(occluded(residual, mask)[:, 45:].any())


@pytest.mark.parametrize("paint", [False, True])
def test_what_the_rendering_does_not_know_is_left_out_or_painted_over(paint):
    g = torch.Generator().manual_seed(2)
    truth = torch.linspace(0.2, 0.6, 64)[None, :, None].expand(48, 64, 3).contiguous()
    taken = truth.clone()
    taken[10:30, 20:40] = torch.tensor([1.0, 0.0, 1.0])
    photo = Photo((taken * 255).to(torch.uint8))
    camera = Camera(50.0, 50.0, 32.0, 24.0, 64, 48, torch.eye(4, dtype=torch.float64))
    view = TrainingView(0, photo, camera, (0.0, 0.0, 0.0))
    hook = transient_masks.hook(1, classical if paint else None, 0)
    for step in range(10):
        picture = truth + 0.03 * torch.randn(48, 64, 3, generator=g)
        aimed = hook.refine_target(picture, view, StepContext(step, 0.1 * step))
        if 0.1 * step < transient_masks.START:
            assert aimed is view
    square = torch.zeros(48, 64, dtype=torch.bool)
    square[10:30, 20:40] = True
    if paint:
        assert aimed.photo.mask is None
        assert (aimed.photo.rgb[square].float() / 255 - truth[square]).abs().mean() < 0.08
    else:
        assert float((~aimed.photo.mask)[square].float().mean()) > 0.95
        assert float((~aimed.photo.mask)[~square].float().mean()) < 0.1
    other = transient_masks.hook(1, None, 0)
    other.restore(hook.state())
    assert torch.equal(other.state()["residuals"][0], hook.state()["residuals"][0])


def test_a_look_is_recovered_from_half_a_photo_despite_an_occluder():
    g = torch.Generator().manual_seed(1)
    rendered = torch.rand(40, 60, 3, generator=g)
    exposure = torch.tensor([[0.2, 0.05, 0, 0.03], [0, -0.1, 0.02, 0.01], [0.03, 0, 0.1, -0.05]])
    photo = appearance.expose(rendered, exposure)
    spoilt = photo.clone()
    spoilt[:12, :12] = 0.0  # 6 % of the photo, 12 % of its left half
    left = left_half(40, 60)
    assert int(left.sum()) == 40 * 30
    found = fit_exposure(rendered, photo, left)
    assert (found - exposure).abs().max() < 5e-3
    robust = appearance.expose(rendered, fit_exposure(rendered, spoilt, left))
    plain = (rendered - photo)[~left].square().mean()
    assert (robust - photo)[~left].square().mean() < 0.2 * plain


def test_a_grid_follows_what_differs_from_place_to_place():
    rendered = torch.full((32, 32, 3), 0.5)
    photo = rendered * torch.linspace(0.8, 1.2, 32)[None, :, None]
    done = bilateral_grid.apply_grid(rendered, fit_grid(rendered, photo))
    assert (done - photo).abs().mean() < 0.25 * (rendered - photo).abs().mean()


# ---- choosing photos ----


def test_photos_are_chosen_evenly_and_held_out_ones_stay():
    assert evenly(43, 3) == [0, 21, 42]
    assert evenly(5, 5) == [0, 1, 2, 3, 4]
    scene = row_scene(6)
    few = keep_views(scene, 3)
    assert [view.name for view in few.test_views] == ["000.png"]
    assert [view.name for view in few.train_views] == ["001.png", "003.png", "005.png"]
    with pytest.raises(InputError, match="has 5 that are not held out"):
        keep_views(scene, 6)
    with pytest.raises(InputError, match="one photo fixes no depth"):
        keep_views(scene, 1)


def test_only_points_that_two_chosen_photos_see_are_known():
    scene = row_scene(6)
    xy = torch.ones(30, 2)
    seen = {1: range(0, 30), 2: range(20, 40), 3: range(10, 40), 5: range(10, 12)}
    views = []
    for number, view in enumerate(scene.views):
        ids = torch.tensor(list(seen.get(number, [])), dtype=torch.int64)
        views.append(replace(view, keypoint_ids=ids, keypoint_xy=xy[: len(ids)]))
    few = keep_views(replace(scene, views=tuple(views)), 3)  # 1, 3 and 5
    expected = scene.points.xyz[10:30]
    assert torch.equal(few.points.xyz, expected)
    for view in few.views:
        own = seen.get(int(view.name[:3]), [])
        assert len(view.keypoint_ids) == len([point for point in own if 10 <= point < 30])
    assert few.points.views_of(0).tolist() == [1, 2, 3]  # positions of photos 1, 3 and 5 among the kept views


# ---- reconstruction by a function of the user's ----


def fake(paths):
    """Two cameras and four points, confident in three of them."""
    poses = np.tile(np.eye(4), (len(paths), 1, 1))
    poses[:, 0, 3] = -np.arange(len(paths))
    k = np.tile([[[50.0, 0, 20], [0, 50, 15], [0, 0, 1]]], (len(paths), 1, 1))
    return feed_forward.Reconstruction(
        poses, k, np.tile([[40.0, 30.0]], (len(paths), 1)), np.random.default_rng(0).random((4, 3)) + [0, 0, 3],
        np.full((4, 3), 200, np.uint8), np.array([0.9, 0.5, 0.2, 0.01], np.float32),
    )  # fmt: skip


def photos(folder: Path, count: int) -> Path:
    from PIL import Image

    for number in range(count):
        Image.fromarray(np.full((60, 80, 3), 40 * number, np.uint8)).save(folder / f"{number}.png")
    return folder


def test_a_reconstruction_becomes_a_scene_at_the_photos_size(tmp_path: Path):
    scene = feed_forward.load(photos(tmp_path, 3), fake)
    assert len(scene.views) == 3 and len(scene.points) == 3
    camera = scene.views[1].camera
    assert (camera.width, camera.height, camera.fx, camera.cy) == (80, 60, 100.0, 30.0)
    assert camera.position.tolist() == [1.0, 0.0, 0.0]
    assert scene.points.confidence.tolist() == pytest.approx([0.9, 0.5, 0.2])


def test_wrong_reconstructions_are_named(tmp_path: Path):
    photos(tmp_path, 3)
    wrong = lambda paths: replace(fake(paths), points=np.zeros((4, 2)))  # noqa: E731
    with pytest.raises(InputError, match=r"points has shape \(4, 2\), expected \(4, 3\)"):
        feed_forward.load(tmp_path, wrong)
    for place, said in (("nothing", "no module:function"), ("no_such_module_x:f", "cannot be imported")):
        with pytest.raises(InputError, match=said):
            feed_forward.load_function(place)
    assert feed_forward.load_function("json:loads") is json.loads
    with pytest.raises(InputError, match="has no function"):
        feed_forward.load_function("json:nothing")
    for name in ("1.png", "2.png"):
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match="holds 1 photos"):
        feed_forward.load(tmp_path, fake)


def test_adapters_for_what_the_networks_return():
    eye = np.eye(4)
    eye[0, 3] = 2.0

    class Aligned:
        imgs = [np.full((3, 4, 3), 0.5)] * 2
        im_conf = [torch.full((3, 4), 5.0), torch.ones(3, 4)]
        get_im_poses = lambda self: torch.tensor(np.stack([np.eye(4), eye]))  # noqa: E731
        get_focals = lambda self: torch.tensor([[10.0], [12.0]])  # noqa: E731
        get_principal_points = lambda self: torch.tensor([[2.0, 1.5]] * 2)  # noqa: E731
        get_pts3d = lambda self: [torch.zeros(3, 4, 3), torch.ones(3, 4, 3)]  # noqa: E731

    found = feed_forward.from_dust3r(Aligned())
    feed_forward.check(found, 2)
    assert found.world_to_camera[1, 0, 3] == -2.0 and found.intrinsics[1, 0, 0] == 12.0
    assert found.confidence[0] == pytest.approx(0.8) and found.confidence[-1] == 0
    assert found.sizes.tolist() == [[4, 3], [4, 3]] and found.colours[0, 0] == 128
    predictions = {
        "extrinsic": torch.eye(4)[None, None, :3].repeat(1, 2, 1, 1), "intrinsic": torch.eye(3).repeat(1, 2, 1, 1),
        "world_points": torch.zeros(1, 2, 3, 4, 3), "world_points_conf": torch.full((1, 2, 3, 4), 2.0),
    }  # fmt: skip
    found = feed_forward.from_vggt(predictions, torch.ones(2, 3, 3, 4))
    feed_forward.check(found, 2)
    assert found.confidence[0] == pytest.approx(0.5) and found.colours[0].tolist() == [255] * 3


# ---- depth networks ----


def test_a_depth_network_from_a_folder_tells_inverse_depth(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    backbone = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14, mlp_ratio=2,
        out_indices=[1, 2], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, reassemble_factors=[2, 1], neck_hidden_sizes=[8, 8],
        fusion_hidden_size=8, head_in_channels=8, head_hidden_size=4, patch_size=14,
    )  # fmt: skip
    transformers.DepthAnythingForDepthEstimation(config).save_pretrained(tmp_path)
    size = {"height": 28, "width": 28}
    transformers.DPTImageProcessor(size=size, ensure_multiple_of=14).save_pretrained(tmp_path)
    prior = monocular.load("depth-anything", str(tmp_path))
    found = prior(torch.randint(0, 255, (24, 36, 3)).byte())
    assert found.shape == (24, 36) and bool(found.isfinite().all())
    maps = monocular.prior_maps(row_scene(), prior)
    assert len(maps) == 3 and all(bool((own.depth > 0).all()) for own in maps)


def test_missing_weights_are_named_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    pytest.importorskip("transformers")
    monkeypatch.setattr(monocular, "NETWORKS", {"dpt": monocular.Network("transformers", str(tmp_path / "x"), "")})
    with pytest.raises(InputError, match="cannot be loaded.*hf download"):
        monocular.load("dpt")
    config = short(steps=4)
    config = replace(config, priors=replace(config.priors, depth=0.1, source="dpt"))
    with pytest.warns(UserWarning, match="going on with the depth of stereo"):
        _, parts = prepare(row_scene(), config)
    assert [part.name for part in parts] == ["depth"]
    monkeypatch.setattr(monocular, "NETWORKS", {"dpt": monocular.Network("no_such_package", "x", "")})
    with pytest.raises(InputError, match="needs the package no_such_package; pip install"):
        monocular.load("dpt")
