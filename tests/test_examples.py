"""The course in `examples/` runs, script by script, and its results are sound."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import splat

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("0*.py"))
README = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the scripts share; later ones use what earlier ones made."""
    return tmp_path_factory.mktemp("examples")


def run(number: int, out: Path) -> str:
    """Run the script ``number`` in a process of its own; what it printed."""
    done = subprocess.run([sys.executable, SCRIPTS[number - 1], out], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def number(pattern: str, text: str) -> float:
    """The number that the one group of ``pattern`` finds in ``text``."""
    match = re.search(pattern, text)
    assert match, text
    return float(match[1])


def panels(path: Path, count: int) -> list[np.ndarray]:
    """The ``count`` pictures beside each other in ``path``, values from 0 to 1."""
    return np.split(np.asarray(Image.open(path)).astype(float) / 255, count, axis=1)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a - b) ** 2)))


def test_they_are_short_and_the_page_lists_them() -> None:
    assert [path.name[:2] for path in SCRIPTS] == ["01", "02", "03", "04", "05"]
    for path in SCRIPTS:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 60, path.name
        assert f"examples/{path.name}" in README and f"]({path.name})" in README


def test_01_gaussian_cloud(out: Path) -> None:
    printed = run(1, out)
    assert len(splat.read(out / "01_rings.ply")) == len(splat.read(out / "01_rings.spz")) > 6000
    assert number(r"01_rings.ply: .* ([\d.]+) dB", printed) > 100
    assert number(r"01_rings.spz: .* ([\d.]+) dB", printed) > 45
    rgb, alpha, nearness = panels(out / "01_rings.png", 3)
    assert 0.1 < (alpha > 0.9).mean() < 0.6 and rgb[alpha > 0.9].std() > 0.2
    assert (nearness[alpha > 0.9] > 0.3).all()


@pytest.mark.slow
def test_02_train(out: Path) -> None:
    printed = run(2, out)
    assert number(r"run: ([\d.]+) dB", printed) > 23
    assert len(splat.read(out / "run" / "cloud.ply")) == 15_000 and (out / "run" / "report.html").is_file()
    photo, render, _ = panels(out / "02_photo_and_render.png", 3)
    assert psnr(photo, render) > 20


@pytest.mark.slow
def test_03_compress(out: Path) -> None:
    printed = run(3, out)
    sizes = {ending: (out / f"03_converted{ending}").stat().st_size for ending in (".compressed.ply", ".spz", ".sog")}
    assert all(3 * size < (out / "run" / "cloud.ply").stat().st_size for size in sizes.values())
    assert number(r"smaller\), ([\d.]+) dB", printed) > 31
    small = splat.read(out / "03_small.spz")
    assert 20 * (out / "03_small.spz").stat().st_size <= (out / "run" / "cloud.ply").stat().st_size * 1.001
    assert 5_000 < len(small) <= 15_000
    original, compressed, _ = panels(out / "03_original_and_small.png", 3)
    assert psnr(original, compressed) > 30


@pytest.mark.slow
def test_04_training_hook(out: Path) -> None:
    printed = run(4, out)
    needles = [float(percent) for percent in re.findall(r"hook: ([\d.]+)% of", printed)]
    scores = [float(score) for score in re.findall(r"needles, ([\d.]+) dB", printed)]
    assert needles[1] < needles[0] / 4  # the loss does what it is for
    assert min(scores) > 22 and abs(scores[1] - scores[0]) < 1
    photo, *renders = panels(out / "04_without_and_with.png", 3)
    assert all(psnr(photo, render) > 19 for render in renders)


@pytest.mark.slow
@pytest.mark.skipif(not (find_spec("skimage") and find_spec("av")), reason="the extras mesh and video are missing")
def test_05_mesh_and_video(out: Path) -> None:
    printed = run(5, out)
    assert number(r"F1 ([\d.]+) within", printed) > 0.85
    assert (out / "05_mesh.ply").stat().st_size > 100_000
    import av

    with av.open(str(out / "05_orbit.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 48 and frames[0].shape == (108, 144, 3)
    assert np.abs(frames[0].astype(float) - frames[24]).mean() > 10  # from the other side, another picture
    _, mesh, truth = panels(out / "05_mesh.png", 3)
    assert mesh.min() < 0.5 and truth.min() < 0.5


def test_each_makes_what_it_builds_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    import course

    monkeypatch.setattr(course, "HERE", tmp_path)
    (tmp_path / "earlier.py").write_text(f"open({str(tmp_path / 'made')!r}, 'a').write('once')")
    for _ in range(2):
        assert course.made_by("earlier.py", tmp_path / "made").read_text() == "once"
