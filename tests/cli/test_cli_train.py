"""``splat train`` and what reads its runs, from a tiny scene to all files of a run."""

import json
import shlex
import shutil
import signal
import struct
import subprocess
import sys

import pytest
from PIL import Image
from support.tiny import everything_in, splat, tiny_cloud, write_scene

from splat import formats
from splat.cli import main

STEPS = 30
SMALL = ["--steps", str(STEPS), "--gaussians", "80"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the tiny scene in ``scene`` and a finished run in ``run``."""
    folder = tmp_path_factory.mktemp("trained")
    write_scene(folder / "scene")
    assert main(["train", str(folder / "scene"), "--out", str(folder / "run"), *SMALL]) == 0
    return folder


def test_a_run_has_all_its_files(folder):
    run = folder / "run"
    assert {path.name for path in run.iterdir()} == {
        *("config.toml", "cloud.ply", "metrics.json", "report.html", "renders", "checkpoints")
    }
    assert {path.name for path in (run / "renders").iterdir()} >= {
        *("00_photo.jpg", "00_render.jpg", "00_side_by_side.jpg")
    }
    metrics = json.loads((run / "metrics.json").read_text())
    for name in ("steps", "seconds", "gaussians", "psnr", "ssim", "lpips", "peak_memory_bytes", "history"):
        assert name in metrics
    cloud = formats.read(run / "cloud.ply")
    assert metrics["steps"] == STEPS
    assert metrics["gaussians"] == len(cloud) <= 80


def test_train_learns(folder):
    history = json.loads((folder / "run" / "metrics.json").read_text())["history"]
    assert history[-1]["loss"] < history[0]["loss"]


def test_info_of_run_and_scene(folder, capsys):
    assert main(["info", str(folder / "run"), "--json", "-"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["settings"]["steps"] == STEPS and facts["settings"]["gaussians"] == 80
    assert facts["metrics"]["steps"] == STEPS
    assert facts["cloud"]["gaussians"] == facts["metrics"]["gaussians"]
    assert main(["info", str(folder / "scene"), "--json", "-"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["photos"], facts["train"], facts["held_out"]) == (8, 7, 1)
    assert facts["points"] == 60 and facts["views_per_point"] == 8
    assert facts["cameras"][0]["width"] == 48
    for name in ("run", "scene"):
        assert main(["info", str(folder / name)]) == 0
    assert "7 to train on, 1 held out" in capsys.readouterr().out


def test_eval_repeats_the_metrics_of_the_run(folder, tmp_path, capsys):
    target = tmp_path / "scores.json"
    assert main(["eval", str(folder / "run"), "--json", str(target), "--save", str(tmp_path / "pictures")]) == 0
    text = capsys.readouterr().out
    scores = json.loads(target.read_text())
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert scores["psnr"] == pytest.approx(metrics["psnr"], abs=1e-6)
    assert scores["ssim"] == pytest.approx(metrics["ssim"], abs=1e-6)
    assert [view["name"] for view in scores["views"]] == ["00.png"]
    assert set(scores["views"][0]) >= {"name", "psnr", "ssim", "lpips"}
    assert f"{scores['psnr']:.2f}" in text
    assert (tmp_path / "pictures" / "00_render.jpg").is_file()


def test_eval_of_the_cloud_that_made_the_photos_is_near_perfect(folder, tmp_path, capsys):
    formats.write(tiny_cloud(), tmp_path / "truth.ply")
    arguments = ["eval", str(tmp_path / "truth.ply"), "--scene", str(folder / "scene"), "--json", "-"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["psnr"] > 50  # only rounding to 8 bits is left


def test_a_run_is_not_overwritten(folder, capsys):
    before = (folder / "run" / "cloud.ply").read_bytes()
    assert main(["train", str(folder / "scene"), "--out", str(folder / "run"), *SMALL]) == 2
    assert "--resume" in capsys.readouterr().err
    assert (folder / "run" / "cloud.ply").read_bytes() == before


def test_resume_refuses_other_settings(folder, capsys):
    assert main(["train", "--out", str(folder / "run"), "--resume", "--steps", "31"]) == 2
    assert "steps" in capsys.readouterr().err


def test_resume_of_a_finished_run_shows_it_again(folder, capsys):
    assert main(["train", "--out", str(folder / "run"), "--resume"]) == 0
    assert "cloud.ply" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["{tmp}/absent", "--out", "{tmp}/r"], "no such scene"),
        (["--out", "{tmp}/r"], "no scene was given"),
        (["{tmp}/empty", "--out", "{tmp}/r"], "empty"),
        (["{scene}", "--out", "{tmp}/r", "--gaussians", "0"], "gaussians is 0"),
        (["{scene}", "--out", "{tmp}/r", "--steps", "-5"], "steps is -5"),
        (["{scene}", "--out", "{tmp}/r", "--minutes", "0"], "minutes is 0"),
        (["{scene}", "--out", "{tmp}/r", "--downscale", "-2"], "downscale is -2"),
        (["{scene}", "--out", "{tmp}/r", "--preset", "nonsense"], "no preset 'nonsense'"),
        (["{scene}", "--out", "{tmp}/file/r"], "cannot write"),
        (["{scene}", "--out", "{tmp}/file"], "file"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(arguments, said, folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("in the way")
    before = everything_in(tmp_path)
    places = {"{tmp}": str(tmp_path), "{scene}": str(folder / "scene")}
    for name, path in places.items():
        arguments = [argument.replace(name, path) for argument in arguments]
    assert main(["train", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("splat: ") and error.count("\n") == 1
    assert said in error
    assert everything_in(tmp_path) == before


def to_binary(scene):
    """Rewrite the text model as a binary one; return the model's folder."""
    import pycolmap

    folder = scene / "sparse" / "0"
    model = pycolmap.Reconstruction(folder)
    for file in folder.iterdir():
        file.unlink()
    model.write_binary(folder)
    for name in ("rigs.bin", "frames.bin"):  # newer COLMAP's; without them images.bin holds the poses
        (folder / name).unlink(missing_ok=True)
    return folder


def damage_truncate(scene):
    file = to_binary(scene) / "images.bin"
    file.write_bytes(file.read_bytes()[:-100])


def damage_camera_model(scene):
    replace_text(scene / "sparse" / "0" / "cameras.txt", "PINHOLE", "PERISCOPE")


def damage_broken_photo(scene):
    file = scene / "images" / "03.png"
    file.write_bytes(file.read_bytes()[:200])


def damage_photo_size(scene):
    Image.new("RGB", (40, 52)).save(scene / "images" / "03.png")


def damage_mask_size(scene):
    (scene / "masks").mkdir()
    Image.new("L", (20, 30), 255).save(scene / "masks" / "03.png")


def damage_nan_pose(scene):
    file = to_binary(scene) / "images.bin"
    content = bytearray(file.read_bytes())
    # Eight bytes of count, then the first image: four of id, its rotation, its translation (seven doubles).
    content[8 + 4 + 32 : 8 + 4 + 40] = struct.pack("<d", float("nan"))
    file.write_bytes(content)


def damage_one_place(scene):
    file = scene / "sparse" / "0" / "images.txt"
    lines = file.read_text().splitlines()
    pose = lines[0].split()[1:8]
    for index in range(0, len(lines), 2):
        words = lines[index].split()
        lines[index] = " ".join([words[0], *pose, *words[8:]])
    file.write_text("\n".join(lines) + "\n")


def replace_text(file, old, new):
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize(
    "damage, said",
    [
        (damage_truncate, "images.bin"),
        (damage_camera_model, "PERISCOPE"),
        (damage_broken_photo, "03.png"),
        (damage_photo_size, "03.png"),
        (damage_mask_size, "03.png"),
        (damage_nan_pose, ".png"),
        (damage_one_place, "place"),
    ],
)
def test_damaged_scenes_are_refused_in_one_sentence(damage, said, folder, tmp_path, capfd):
    damage(shutil.copytree(folder / "scene", tmp_path / "scene"))
    assert main(["train", str(tmp_path / "scene"), "--out", str(tmp_path / "run"), *SMALL]) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("note: ")]
    assert len(errors) == 1 and errors[0].startswith("splat: ")
    assert said in errors[0]
    assert not (tmp_path / "run").exists()


def test_full_disk_is_one_sentence(folder, tmp_path):
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
    arguments = ["train", str(folder / "scene"), "--out", str(tmp_path / "run"), *SMALL]
    script = f"{limit} from splat.cli import main; sys.exit(main({arguments}))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    errors = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
    assert len(errors) == 1 and "cannot write" in errors[0]
    assert not list((tmp_path / "run").rglob(".*"))
    assert not (tmp_path / "run" / "cloud.ply").exists()


def test_interrupted_run_goes_on_to_the_same_cloud(folder, tmp_path):
    """Ctrl-C gives exit code 130 and a command that, typed as printed, ends where an uninterrupted run does."""
    settings = ["--steps", "250", "--gaussians", "80"]
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    command = [sys.executable, "-m", "splat", "train", str(folder / "scene"), "--out", str(stopped), *settings]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "step" in line:
            break
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130, error
    assert not (stopped / "cloud.ply").exists()
    assert "step_0" in error
    again = shlex.split(error.partition("go on with: ")[2])
    assert again[0] == "splat"
    assert splat(*again[1:]).returncode == 0
    assert splat("train", folder / "scene", "--out", whole, *settings).returncode == 0
    assert (stopped / "cloud.ply").read_bytes() == (whole / "cloud.ply").read_bytes()


def test_demo_ends_with_a_report(tmp_path, capsys, monkeypatch):
    """With the tiny scene in place of the real one, which takes longer (tests/scene/test_demo.py makes it)."""

    def make(folder, views, progress, width):
        progress(views, views)
        return write_scene(folder)

    monkeypatch.setattr("splat.scene.demo.make", make)
    arguments = ["demo", "--out", str(tmp_path), "--width", "64", "--steps", "20", "--no-browser"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert (tmp_path / "run" / "report.html").is_file()
    assert "PSNR" in text and "report.html" in text


def test_a_run_folder_runs_no_code(tmp_path, monkeypatch, capsys):
    """The settings of somebody's run name a module of theirs: --resume does not import it."""
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "evil.py").write_text('open("MARKER", "w").close()\n')
    (run / "config.toml").write_text('[scene]\npath = "photos"\n[priors]\nreconstruct = "evil:run"\n')
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--out", "run", "--resume"]) == 2
    error = capsys.readouterr().err
    assert "--priors.reconstruct evil:run" in error and error.count("\n") == 1
    assert not (tmp_path / "MARKER").exists() and "evil" not in sys.modules
