"""The report as a document: well formed, self-contained, with the right numbers, whatever is missing."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from splat import text as wording
from splat.errors import InputError
from splat.report import charts, pictures, write, write_report

VOID = {"meta", "img", "input", "br", "line", "circle", "ellipse", "path"}


class Document(HTMLParser):
    """Elements with attributes, the visible text, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data.strip())

    def attributes(self, name: str) -> list[str]:
        return [value[name] for _, value in self.elements if name in value]

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word)


def write_picture(path: Path, value: int, size=(48, 36)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "run"
    views = []
    for index in range(3):
        write_picture(folder / "renders" / f"cam_{index}_photo.png", 100)
        write_picture(folder / "renders" / f"cam_{index}_render.png", 110)
        views.append({"name": f"cam/{index}.jpg", "psnr": 30.0 + index, "ssim": 0.9, "lpips": None})
    history = [{"step": 100 * i, "seconds": 2.0 * i, "loss": 0.5 / i, "gaussians": 1000 * i} for i in range(1, 11)]
    history[4]["psnr"], history[9]["psnr"] = 25.0, 31.0
    metrics = {
        "steps": 1000, "seconds": 83.0, "gaussians": 12345, "psnr": 31.0, "ssim": 0.9, "lpips": None,
        "peak_memory_bytes": 1_234_000_000, "protocol": {"scene": "<b>fox</b> & co", "strategy": "mcmc"},
        "views": views, "history": history,
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.toml").write_text('steps = 1000\n[loss]\nssim_weight = 0.2\nnote = "a < b"\n')
    (folder / "cloud.ply").write_bytes(bytes(2500))
    return folder


def test_it_is_one_whole_file(run):
    path = write_report(run)
    assert path == run / "report.html"
    document = Document(path.read_text(encoding="utf-8"))
    for source in document.attributes("src"):
        assert source.startswith("data:image/jpeg;base64,")
        Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).load()
    assert document.attributes("href") == []
    assert "http" not in re.sub(r"data:[^\"]+", "", path.read_text(encoding="utf-8"))
    assert not [p for p in run.iterdir() if p.name.startswith(".")]


def test_it_shows_the_numbers(run):
    text = Document(write_report(run).read_text(encoding="utf-8")).text
    for expected in ("31.00 dB", "0.9000", "12\u2009345", "2.5 kB", "1 min 23 s", "1.23 GB", "<b>fox</b> & co"):
        assert expected in text, expected
    for expected in ("cam/0.jpg", "worst of 3", "2 of 3", "best of 3", "a < b", "LPIPS was not computed"):
        assert expected in text, expected


def test_every_view_has_its_pictures_and_a_row(run):
    document = Document(write_report(run).read_text(encoding="utf-8"))
    stages = [a for tag, a in document.elements if tag == "article"]
    assert [a["data-view"] for a in stages] == ["0", "1", "2"]
    assert len([a for tag, a in document.elements if tag == "tr" and "data-view" in a]) == 3
    assert len([a for tag, a in document.elements if tag == "img"]) == 4 * 3  # photo, render, difference, thumbnail


def test_curves_are_there_over_steps_and_over_time(run):
    document = Document(write_report(run).read_text(encoding="utf-8"))
    points = {a["aria-label"]: json.loads(a["data-points"]) for _, a in document.elements if "data-points" in a}
    assert len(points) == 6
    assert [label for *_, label in points["PSNR on held-out views over step"]] == ["25 dB · 500", "31 dB · 1k"]
    assert points["Gaussians over seconds"][-1][2] == "10k · 0:20"
    x = [p[0] for p in points["Training loss over step"]]
    assert x == sorted(x)
    assert x[-1] == charts.WIDTH - charts.RIGHT


@pytest.mark.parametrize("lost", ["metrics.json", "config.toml", "cloud.ply", "renders/cam_1_render.png"])
def test_what_is_missing_is_named(run, lost):
    (run / lost).unlink()
    text = Document(write_report(run).read_text(encoding="utf-8")).text
    assert "Not in this report" in text
    assert ("cam/1.jpg" if "cam" in lost else lost) in text.split("Not in this report")[1]


def test_an_empty_folder_gives_a_page_too(tmp_path):
    text = Document(write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "the run has not finished" in text


def test_a_perfect_view_does_not_break_the_page(run):
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["views"][0]["psnr"] = metrics["history"][4]["psnr"] = float("inf")
    (run / "metrics.json").write_text(json.dumps(metrics))
    assert "∞ dB" in Document(write_report(run).read_text(encoding="utf-8")).text


def test_broken_input_is_refused_in_one_sentence(run, tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        write_report(tmp_path / "nowhere")
    (run / "renders" / "cam_0_photo.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(InputError, match=r"cam_0_photo\.png is not a readable picture"):
        write_report(run)
    (run / "metrics.json").write_text("{")
    with pytest.raises(InputError, match=r"metrics\.json: its text cannot be understood"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_many_views_keep_the_best_and_the_worst(run):
    views = [
        write.ViewFiles(f"{i:03d}", 30 + np.sin(i * 12.9898) * 3, None, None, Path("a"), Path("b")) for i in range(100)
    ]
    chosen = write.pictured(views)
    assert len(chosen) == write.MOST_PICTURED
    assert chosen == sorted(chosen, key=lambda v: v.name)
    assert {min(views, key=lambda v: v.psnr), max(views, key=lambda v: v.psnr)} <= set(chosen)


def test_difference_map_colours():
    a = np.zeros((1, 4, 3), np.float32)
    b = a.copy()
    b[0, 1] = pictures.ERROR_LIMIT / 5
    b[0, 2, 0] = 3 * pictures.ERROR_LIMIT * 2 / 5  # one channel of three
    b[0, 3] = 1
    colours = pictures.difference_map(a, b)[0]
    assert colours.tolist() == [[0, 0, 4], [59, 15, 112], [140, 41, 129], [252, 253, 191]]


def test_pictures_of_other_sizes_have_no_difference_map(tmp_path):
    write_picture(tmp_path / "a.png", 10, (2400, 1200))
    write_picture(tmp_path / "b.png", 10, (1200, 600))
    both = pictures.pair(tmp_path / "a.png", tmp_path / "b.png")
    assert both.difference is None
    assert (both.width, both.height) == (1000, 500)


def test_axes_have_round_ticks_that_span_the_values():
    assert charts.linear_axis(22.7, 31.2).ticks == (22.5, 25.0, 27.5, 30.0, 32.5)
    assert charts.linear_axis(0, 150_000).ticks == (0, 50_000, 100_000, 150_000)
    flat = charts.linear_axis(5.0, 5.0)
    assert flat.low < 5 < flat.high
    axis = charts.log_axis(0.021, 0.26)
    assert axis.ticks == pytest.approx((0.02, 0.05, 0.1, 0.2, 0.5))
    assert axis.to_fraction(0.1) == pytest.approx(0.5)
    assert charts.time_axis(331).ticks == (0, 120, 240)


def test_numbers_as_people_read_them():
    assert wording.short(150000) == "150k"
    assert wording.short(0.5) == "0.5"
    assert wording.duration(7384) == "2 h 03 min"
    assert wording.clock(3725) == "1:02:05"
    assert wording.size(35_400_000) == ("35.4", "MB")
    assert wording.size(999) == ("999", "B")
    assert wording.score(float("inf"), 2) == "∞"
    assert wording.score(None, 2) == "–"
