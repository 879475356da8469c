"""What somebody types who knows another tool, or has only photos: held-out photos, sizes, masks, and foreign flags."""

import dataclasses
import json

import pytest
import tomli_w
from PIL import Image
from support.scene_models import make_model
from support.tiny import write_scene

from splat.cli import main
from splat.cli.peer_flags import _FLAGS, PEERS, SCENE
from splat.cli.train import Train
from splat.training.config import config as settings
from splat.training.config.config import TrainConfig

SMALL = ["--steps", "8", "--gaussians", "80", "--preset", "default"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("newcomers") / "scene")


def trained(scene, run, *options, resume=False) -> TrainConfig:
    """The settings of the run that ``splat train`` makes."""
    assert main(["train", *([] if resume else [str(scene), *SMALL]), "--out", str(run), *options]) == 0
    return settings.read(run / "config.toml")


# ---- held-out photos ----


@pytest.mark.parametrize("wanted, photos", [("auto", [0]), ("4", [0, 4]), ("0.5", [0, 2, 4, 6]), ("list", [3, 5])])
def test_hold_out(scene, tmp_path, monkeypatch, wanted, photos, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test.txt").write_text("03.png\n05\n")
    run = tmp_path / "run"
    config = trained(scene, run, "--hold-out", "test.txt" if wanted == "list" else wanted)
    names = [f"{k:02}.png" for k in photos]
    assert [view["name"] for view in json.loads((run / "metrics.json").read_text())["views"]] == names
    assert config.scene.hold_out == (str(tmp_path / "test.txt") if wanted == "list" else wanted)
    monkeypatch.chdir("/")  # the list is found from anywhere
    assert main(["train", "--out", str(run), "--resume"]) == 0
    capsys.readouterr()
    assert main(["eval", str(run), "--json", "-"]) == 0
    assert [view["name"] for view in json.loads(capsys.readouterr().out)["views"]] == names


def test_training_on_all_photos(scene, tmp_path, capfd) -> None:
    run = tmp_path / "run"
    trained(scene, run, "--hold-out", "none")
    said = capfd.readouterr().out
    assert "8 photos to train on, 0 held out" in said and "all photos are trained on, so no scores are computed" in said
    assert "Held-out photos" not in said and (run / "report.html").is_file()
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["psnr"] is None and metrics["views"] == [] and metrics["protocol"]["photos"]["training"] == 8
    assert main(["eval", str(run)]) == 2
    assert "is held out, so there is nothing to measure on" in capfd.readouterr().err
    assert main(["info", str(run)]) == 0


@pytest.mark.parametrize("wanted", ["1", "nowhere.txt", "-2"])
def test_what_cannot_be_held_out(scene, tmp_path, wanted, capfd) -> None:
    assert main(["train", str(scene), "--out", str(tmp_path / "run"), *SMALL, f"--hold-out={wanted}"]) == 2
    error = capfd.readouterr().err
    assert error.startswith("splat: hold out ") and error.count("\n") == 1


# ---- sizes ----


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Three photos of 2,000 × 1,500 pixels."""
    folder = tmp_path_factory.mktemp("large") / "scene"
    make_model(folder, views=4, size=(2000, 1500), params=[1750, 1750, 1000, 750])
    for path in (folder / "images").iterdir():
        Image.new("RGB", (2000, 1500), (90, 120, 30)).save(path)
    return folder


@pytest.mark.parametrize(
    "options, width",
    [
        ([], 1600), (["--max-side", "none"], 2000), (["--max_side=none"], 2000), (["--max-side", "320"], 320),
        (["--downscale", "1"], 2000), (["--downscale", "4"], 500),
    ],
)  # fmt: skip
def test_large_photos_are_shrunk_unless_told_otherwise(large, tmp_path, monkeypatch, options, width, capfd) -> None:
    seen = []
    monkeypatch.setattr("splat.runs.train.train", lambda scene, *rest, **more: seen.append(scene) or 1 / 0)
    main(["train", str(large), "--out", str(tmp_path / "run"), *SMALL, *options])
    assert seen[0].views[0].camera.width == width
    said = "photos of 2000×1500 pixels are shrunk to 1600×1200; --max-side none keeps their size"
    assert (said in capfd.readouterr().out) == (options == [])


def test_runs_of_old_keep_their_size_and_their_rules(scene, tmp_path) -> None:
    """A run of before there were these settings: its photos were used whole, and it resumes so."""
    run = tmp_path / "run"
    trained(scene, run, "--max-side", "none")
    values = {
        name: {key: each for key, each in value.items() if each is not None} if isinstance(value, dict) else value
        for name, value in dataclasses.asdict(settings.read(run / "config.toml")).items()
        if value is not None
    }
    for name in ("hold_out", "masks", "alpha"):
        del values["scene"][name]
    assert "max_side" not in values["scene"]
    values["ges"]["shape_rate"], values["appearance"]["features_rate"], values["enhance"]["between"] = 1e-3, 2e-3, 4
    (run / "config.toml").write_text(tomli_w.dumps(values))
    for name in ("metrics.json", "cloud.ply"):
        (run / name).unlink()
    config = trained(scene, run, "--resume", resume=True)
    assert config.scene.max_side is None and (run / "metrics.json").is_file()


# ---- flags of other tools ----


def test_flags_of_other_tools_are_told_ours(scene, tmp_path, capfd) -> None:
    for given, said in (
        (["--iterations", "7000"], "--iterations is an option of Inria's 3DGS; did you mean --steps 7000?"),
        (["-i", "7000"], "-i is an option of LichtFeld Studio; did you mean --steps 7000?"),
        (["--max_steps=30000"], "--max_steps is an option of gsplat; did you mean --steps 30000?"),
        (["-s", "room"], "-s is an option of Inria's 3DGS; here the scene needs none: did you mean splat train room?"),
        (["--data", "room"], "--data is an option of nerfstudio; here the scene needs none"),
        (["--source_path=room"], "did you mean splat train room?"),
        (["-m", "out"], "did you mean --out out?"),
        (["--output", "out"], "did you mean --out out?"),
        (["--total-steps", "9"], "--total-steps is an option of Brush; did you mean --steps 9?"),
        (["--eval"], "--eval is an option of Inria's 3DGS; did you mean --hold-out 8?"),
        (["-w"], "did you mean --background 1 1 1?"),
        (["--antialiasing"], "did you mean --antialiased?"),
        (["--densify_grad_threshold", "0.0002"], "did you mean --densify.gradient 0.0002?"),
    ):
        assert main(["train", str(scene), "--out", str(tmp_path / "run"), *given]) == 2
        error = capfd.readouterr().err
        assert error.startswith("splat: ") and error.count("\n") == 1 and said in error
        assert not (tmp_path / "run").exists()


def test_every_flag_of_others_leads_to_one_of_ours_and_none_is_ours() -> None:
    ours = {name.replace("_", "-") for name in settings.flatten(TrainConfig())}
    ours |= {item.name.replace("_", "-") for item in dataclasses.fields(Train)} - {"scene"}
    for theirs, (option, whose) in PEERS.items():
        name = option.removeprefix("--").split(" ")[0]
        assert option == SCENE or name in ours, option
        assert theirs not in ours and theirs == theirs.lower().strip("-").replace("_", "-") and whose
    flags = {name for name, value in settings.flatten(TrainConfig()).items() if isinstance(value, bool)}
    targets = {option.removeprefix("--") for option, _ in PEERS.values() if " " not in option and option != SCENE}
    assert {flag.removeprefix("--") for flag in _FLAGS} == {
        name for name in targets if name.replace("-", "_") in flags | {"resume", "view"}
    }


def test_underscores_are_hyphens(scene, tmp_path) -> None:
    config = trained(scene, tmp_path / "run", "--max_side", "40", "--cache_megabytes", "50", "--hold_out", "4")
    assert (config.scene.max_side, config.scene.cache_megabytes, config.scene.hold_out) == (40, 50, "4")
