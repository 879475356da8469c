"""Held-out scores against scores worked out here."""

import math
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch
from support.scenes import ring_scene, truth
from support.wide_scenes import FISHEYE, LIMIT, PANORAMA, far_colour, write_colmap

from splat.rendering import RenderOptions, render
from splat.runs import evaluation
from splat.runs.evaluation import evaluate, match_colours
from splat.scene import load_scene


def test_scores_are_those_of_the_pictures(tmp_path):
    scene = ring_scene()
    worse = truth().replace(means=truth().means + 0.02)
    options = RenderOptions(background=(0.1, 0.1, 0.1))
    found = evaluate(worse, scene, "reference", options, save=tmp_path)
    assert [view.name for view in found.views] == ["000.png", "008.png"]
    for view, score in zip(scene.test_views, found.views, strict=True):
        rgb = render(worse, view.camera, "reference", options).rgb.clamp(0, 1).double()
        error = (rgb - view.load().rgb.double() / 255).square().mean()
        assert score.psnr == pytest.approx(-10 * math.log10(error), abs=1e-3)
        assert score.corrected_psnr >= score.psnr - 1e-6
    assert found.psnr == pytest.approx(sum(score.psnr for score in found.views) / 2)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{view}_{kind}.jpg" for view in ("000", "008") for kind in ("photo", "render", "side_by_side")
    }
    best = evaluate(truth(), scene, "reference", options)
    assert best.psnr > 50 and best.ssim > 0.999  # what is left is the rounding of the photos


def test_an_affine_change_of_colour_is_found():
    picture = torch.rand(8, 9, 3, generator=torch.Generator().manual_seed(0))
    matrix = torch.tensor([[0.6, 0.1, 0.0], [0.05, 0.7, 0.1], [0.0, 0.0, 0.5]])
    target = picture @ matrix.T + torch.tensor([0.1, 0.0, 0.2])
    assert torch.allclose(match_colours(picture, target), target, atol=1e-5)
    mask = torch.ones(8, 9, dtype=torch.bool)
    mask[3:5, 2:6] = False
    spoiled = torch.where(mask[..., None], target, torch.zeros(3))
    assert torch.allclose(match_colours(picture, spoiled, mask), target, atol=1e-5)


@pytest.mark.parametrize(
    ("lens", "model", "limit"), [(PANORAMA, "EQUIRECTANGULAR", math.pi), (FISHEYE, "OPENCV_FISHEYE", LIMIT)]
)
def test_wide_photos_are_scored_as_they_are(tmp_path, monkeypatch, lens, model, limit):
    """Renders that show the world exactly score by the rounding of the photo, one row a photo, on its own pixels."""
    write_colmap(tmp_path, lens, model, limit=limit)
    scene = load_scene(tmp_path, hold_out=3)

    def drawn(cloud, camera, backend, options):
        towards = camera.rays()[1]
        rgb = torch.from_numpy(far_colour(towards.reshape(-1, 3).numpy())).reshape(towards.shape) / 255
        return SimpleNamespace(rgb=rgb.float())

    monkeypatch.setattr(evaluation, "render", drawn)
    done = []
    found = evaluate(truth(), scene, save=tmp_path / "renders", progress=lambda *each: done.append(each))
    assert [view.name for view in found.views] == ["1.png", "4.png"] and done == [(1, 2), (2, 2)]
    assert all(view.psnr > 54 and view.ssim > 0.999 for view in found.views)
    for name in ("1", "4"):
        photo, render = (
            np.asarray(PIL.Image.open(tmp_path / f"renders/{name}_{kind}.jpg")) for kind in ("photo", "render")
        )
        assert photo.shape == render.shape == (lens.height, lens.width, 3)
        close = np.abs(photo.astype(int) - render).max(-1) < 12
        assert close.mean() > (0.95 if model == "EQUIRECTANGULAR" else 0.85)
    wrong = lambda *each: SimpleNamespace(rgb=drawn(*each).rgb.flip(1))  # noqa: E731
    monkeypatch.setattr(evaluation, "render", wrong)
    assert evaluate(truth(), scene, full=False).psnr < 30
