"""Damaged exports of other programs: a scene or one sentence, never a traceback, and every photo used or counted."""

import random
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support import exports

from splat.errors import InputError
from splat.scene import load_scene, random_points

WRITERS: dict[str, Callable[[Path, exports.Truth], object]] = {
    "cams.csv": exports.realityscan,
    "cameras.xml": lambda path, scene: exports.metashape(path, scene, coefficients="<k1>0.1</k1><b1>1</b1>"),
    "reconstruction.json": exports.opensfm,
    "sfm_data.json": exports.openmvg,
    "odometry.csv": lambda path, scene: exports.stray_scanner(path.parent, scene),
    "metadata": lambda path, scene: exports.record3d(path.parent, scene),
    "keyframes/corrected_cameras/103.json": lambda path, scene: exports.polycam(path.parents[2], scene),
}
WORDS = ["null", "[]", "{}", "nan", "-1", "1e999", '"a"', "true", "", "99999999999999999999", "0", "<a/>", ",", "-inf"]
NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")


def damaged(text: str, rng: random.Random) -> bytes:
    """``text`` with a number or word replaced, a piece cut out or doubled, or bytes turned."""
    way = rng.randrange(5)
    if way == 0:
        at = rng.choice(list(NUMBER.finditer(text)))
        return (text[: at.start()] + rng.choice(WORDS) + text[at.end() :]).encode()
    if way == 1 and re.search("[A-Za-z_]", text):
        at = rng.choice(list(re.finditer(r"[A-Za-z_]{1,20}", text)))
        return (text[: at.start()] + rng.choice(["x", "é", "", *WORDS]) + text[at.end() :]).encode()
    start = rng.randrange(len(text))
    end = min(len(text), start + rng.choice([1, 10, 500]))
    if way == 2:
        return (text[:start] + text[end:]).encode()
    if way == 3:
        return (text[:end] + text[start:]).encode()
    return bytes(b ^ (1 << rng.randrange(8)) if start <= i < end else b for i, b in enumerate(text.encode()))


@pytest.fixture(autouse=True)
def few_random_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenes without points get some at random, which takes longer than reading them."""
    monkeypatch.setattr(random_points, "random_points", partial(random_points.random_points, count=100))


@pytest.mark.parametrize("name", WRITERS)
def test_damage(name: str, tmp_path: Path, count: int = 5) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    WRITERS[name](path, exports.truth())
    if (
        not (tmp_path / "rgbd").exists()
        and not (tmp_path / "rgb.mp4").exists()
        and not (tmp_path / "keyframes").exists()
    ):
        exports.photos(tmp_path / "images")
    text, rng = path.read_text(), random.Random(name)
    for _ in range(count):
        path.write_bytes(damaged(text, rng))
        try:
            scene = load_scene(path if path.suffix != ".json" or "keyframes" not in name else tmp_path, progress=False)
        except InputError as error:
            assert "\n" not in str(error)
        else:
            missing = [
                int(n) for note in scene.notes for n in re.findall(r"^(\d+) (?:photos?|cameras?|frames?)\b", note)
            ]
            assert len(scene.views) + sum(missing) >= len(exports.NAMES)
