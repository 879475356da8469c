"""Refinement with tiny, randomly initialised diffusers pipelines: the code path of the real ones, without weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from splat.camera import Camera
from splat.errors import InputError
from splat.priors.views import iterative_refinement
from splat.priors.views.enhancer import classical, enhance_video, inpainted, repair

SIZE = 32


def picture(seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, 4, 4, generator=g)
    return torch.nn.functional.interpolate(small, (SIZE, SIZE), mode="bilinear")[0].permute(1, 2, 0).contiguous()


@pytest.fixture(scope="session")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Network, autoencoder, text encoder and tokenizer of a Stable Diffusion of a few thousand weights."""
    diffusers, transformers = pytest.importorskip("diffusers"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tokenizer")
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "photo</w>", "a", "p", "h", "o", "t"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    text = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=2,
        bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    blocks = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8}
    down = ("DownBlock2D", "CrossAttnDownBlock2D")
    attention = {"cross_attention_dim": 32, "attention_head_dim": 8}
    return {
        "unet": diffusers.UNet2DConditionModel(
            sample_size=16, in_channels=4, out_channels=4, down_block_types=down,
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **attention, **blocks,
        ),
        "controlnet": diffusers.ControlNetModel(
            in_channels=4, down_block_types=down, conditioning_embedding_out_channels=(8, 16), **attention, **blocks
        ),
        "vae": diffusers.AutoencoderKL(
            block_out_channels=(32, 64), in_channels=3, out_channels=3, latent_channels=4, norm_num_groups=8,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        ),
        "text_encoder": transformers.CLIPTextModel(text).eval(),
        "tokenizer": transformers.CLIPTokenizer(
            str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77
        ),
        "scheduler": diffusers.DDIMScheduler(beta_start=0.00085, beta_end=0.012, clip_sample=False),
    }  # fmt: skip


def enhancer(pieces: dict, kind: str):
    import diffusers

    from splat.priors.views.diffusion import DiffusersEnhancer

    none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    plain = {name: part for name, part in pieces.items() if name != "controlnet"}
    fill = None
    if kind == "control":
        image = diffusers.StableDiffusionControlNetImg2ImgPipeline(**pieces, **none)
    else:
        image = diffusers.StableDiffusionImg2ImgPipeline(**plain, **none)
    if kind == "inpaint":
        fill = diffusers.StableDiffusionInpaintPipeline(**plain, **none)
        fill.set_progress_bar_config(disable=True)
    image.set_progress_bar_config(disable=True)
    return DiffusersEnhancer(image, fill, kind == "control", strength=0.5, steps=4)


@pytest.mark.parametrize("kind", ["plain", "control", "inpaint"])
def test_a_pipeline_repairs_pictures_reproducibly(pieces, kind):
    enhance = enhancer(pieces, kind)
    image = picture()
    done = enhance(image, None, None, 7)
    assert done.shape == image.shape and 0 <= float(done.min()) and float(done.max()) <= 1
    assert torch.equal(done, enhance(image, None, None, 7))
    assert not torch.equal(done, enhance(image, None, None, 8))
    assert float((done - image).abs().mean()) > 1e-3
    # Colours keep their statistics; clamping to [0, 1] may bend them a little.
    assert (done.mean((0, 1)) - image.mean((0, 1))).abs().max() < 0.06
    hole = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    hole[8:20, 8:20] = True
    filled = inpainted(enhance, image, hole, 1)
    assert torch.equal(filled[~hole], image[~hole])
    assert not torch.equal(filled[hole], image[hole])


def test_odd_sizes_come_back_at_their_size(pieces):
    enhance = replace(enhancer(pieces, "plain"), side=16)
    assert enhance(torch.rand(21, 35, 3), None, None, 0).shape == (21, 35, 3)


def test_a_saved_pipeline_loads_and_a_missing_one_is_named(pieces, tmp_path: Path):
    from splat.priors.views import diffusion

    enhancer(pieces, "plain").image.save_pretrained(tmp_path / "model")
    pieces["controlnet"].save_pretrained(tmp_path / "control")
    for control in ("", str(tmp_path / "control")):
        loaded = diffusion.load(str(tmp_path / "model"), control, "a photo", 0.5, 4)
        assert loaded.controlled == bool(control) and loaded.side == 128
        assert replace(loaded, side=16)(picture(), None, None, 0).shape == (SIZE, SIZE, 3)
    with pytest.raises(InputError, match="cannot be loaded.*hf download"):
        diffusion.load(str(tmp_path / "nothing"))


def test_a_run_trains_on_what_the_pipeline_made(pieces, tmp_path: Path, monkeypatch):
    """The whole way: rounds begin on schedule, repaired views are trained on, a resumed run ends the same."""
    from support.scenes import row_scene, short

    from splat.priors.build import prepare
    from splat.training import checkpoint, schedules, trainer

    config = short(steps=12)
    config = replace(config, enhance=replace(config.enhance, start=0.25, rounds=2, fraction=0.6))
    monkeypatch.setattr("splat.priors.views.iterative_refinement.BETWEEN", 1)
    calls = []

    def enhance(image, reference, mask, seed):
        calls.append(seed)
        return enhancer(pieces, "plain")(image, reference, mask, seed)

    scene, parts = prepare(row_scene(), config, enhance)
    setup = trainer.set_up(scene, config, parts)
    state = trainer.begin(setup, schedules.Schedule(config.steps, None))
    for _ in range(3):
        trainer.step(setup, state)
    assert not calls
    for _ in range(3):
        trainer.step(setup, state)
    kept = parts[-1].state()
    first = len(kept["views"])
    assert kept["round"] == 1 and len(calls) == first > 0
    packed = {**checkpoint.pack(setup, state), "step": state.schedule.step}
    torch.save(packed, tmp_path / "state.pt")
    for _ in range(6):
        trainer.step(setup, state)
    assert parts[-1].state()["round"] == 2 and len(parts[-1].state()["views"]) > first
    again_scene, again_parts = prepare(row_scene(), config, enhance)
    again = trainer.set_up(again_scene, config, again_parts)
    resumed = checkpoint.unpack(
        again, torch.load(tmp_path / "state.pt", weights_only=True), schedules.Schedule(12, None)
    )
    for _ in range(6):
        trainer.step(again, resumed)
    assert torch.equal(resumed.cloud.means, state.cloud.means)


# ---- schedule and weights ----


def test_rounds_begin_evenly_and_reach_farther():
    due = [iterative_refinement.rounds_due(f, 0.4, 3) for f in (0.0, 0.39, 0.4, 0.59, 0.61, 0.81, 1.0)]
    assert due == [0, 0, 1, 1, 2, 3, 3]
    distances = torch.tensor([3.0, 1.0, 2.0, 4.0, 0.5, 6.0])
    assert iterative_refinement.reached(distances, 1, 3) == [1, 4]
    assert iterative_refinement.reached(distances, 3, 3) == [0, 1, 2, 3, 4, 5]
    assert iterative_refinement.view_weight(distances, 5) == 1.0
    assert iterative_refinement.view_weight(distances, 4) == pytest.approx(4 * 0.5 / 6)


def test_distance_to_the_nearest_photo():
    eye = torch.eye(4, dtype=torch.float64)
    at = [Camera(9.0, 9.0, 4.0, 4.0, 8, 8, eye.clone()) for _ in range(3)]
    for camera, x in zip(at, (0.0, 5.0, 2.0), strict=True):
        camera.world_to_camera[0, 3] = -x
    assert iterative_refinement.distance_to_photos(at[2:], at[:2]).tolist() == [2.0]
    assert iterative_refinement.nearest_photo(at[2], at[:2]) == 0


def test_what_photos_show_is_never_changed_and_contradiction_costs_trust():
    rendered, truth = torch.full((40, 40, 3), 0.5), torch.full((40, 40, 3), 0.2)
    known = torch.zeros(40, 40, dtype=torch.bool)
    known[:, :12] = True

    def wrong(image, reference, mask, seed):
        return torch.full_like(image, 0.9)

    done = repair(wrong, rendered, known, truth, rendered, 0)
    assert torch.equal(done.picture[known], truth[known]) and torch.equal(done.trust[known], torch.ones(40 * 12))
    assert float(done.trust[20, 13]) < 0.3 < float(done.trust[20, 39])
    agreeing = repair(lambda image, *_: truth, rendered, known, truth, rendered, 0)
    assert float(agreeing.trust.min()) > 0.99


def test_inpainting_without_weights_continues_the_surroundings():
    image = torch.linspace(0, 1, 40)[None, :, None].expand(30, 40, 3).contiguous()
    hole = torch.zeros(30, 40, dtype=torch.bool)
    hole[10:16, 15:22] = True
    spoilt = image.clone()
    spoilt[hole] = 1.0
    assert (inpainted(classical, spoilt, hole, 0) - image).abs().max() < 0.08


def test_video_repairs_do_not_flicker():
    """An enhancer that adds a new random tint to every frame flickers less through `enhance_video`."""
    frames = [torch.roll(picture(3), shift, 1) for shift in range(5)]
    tints = iter(torch.tensor([0.1, -0.1, 0.1, -0.1, 0.1, 0.1, -0.1, 0.1, -0.1, 0.1]).tolist())

    def tint(image, reference, mask, seed):
        return (image + next(tints)).clamp(0, 1)

    steady = enhance_video(tint, frames, frames[0], carry=0.9)
    raw = [tint(frame, None, None, 0) for frame in frames]

    def flicker(video):
        change = [float((done - frame).mean()) for done, frame in zip(video, frames, strict=True)]
        return sum(abs(a - b) for a, b in zip(change[1:], change[:-1], strict=True))

    assert flicker(steady) < 0.8 * flicker(raw)
