"""What `splat compress` shows: the plot in text and the page of its report."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from splat.cli.compress_report import PLOT, plot
from splat.compression.compressor import WorkCounter
from splat.compression.rate_control.search import Goal, search
from splat.compression.rate_control.target_format import Trial
from splat.report.compression_page import Comparison, page


def test_plot_puts_the_chosen_point_between_the_others():
    lines = plot([(1000, 30.0), (4000, 50.0)], (2000, 40.0)).split("\n")
    drawn = [line[11:] for line in lines[: PLOT[1]]]
    assert drawn[0].index("·") == PLOT[0] - 1 and drawn[-1].index("·") == 0
    row = next(i for i, line in enumerate(drawn) if "●" in line)
    assert abs(row - PLOT[1] / 2) <= 1 and abs(drawn[row].index("●") - PLOT[0] / 2) <= 1
    assert "50.0 dB" in lines[0] and "1.0 kB" in lines[-1] and "4.0 kB" in lines[-1]
    assert plot([(1000, 30.0)], (1000, 30.0)) == "" == plot([], (0, float("inf")))


def test_page_is_whole_and_names_what_it_holds():
    picture = np.full((8, 12, 3), 0.5, np.float32)
    trial = {"gaussians": 7, "sh_degree": 1, "quality": 41.5, "size": 900, "psnr": float("inf")}
    curves = {".splatz": [(900, 40.0), (2000, 50.0)], "SOG": [(3000, float("inf"))]}
    html = page("a <b>", [("Size", "0.9", "kB")], {"position": 400, "colour": 500}, curves, [trial], [
        Comparison("View 1", picture, picture * 0.9, 26.0), Comparison("View 2", picture, picture, float("inf")),
    ])  # fmt: skip
    parser = HTMLParser()
    parser.feed(html)
    for text in ("a &lt;b&gt;", "position", "55.6 %", "41.5", "SOG", "View 2", "∞"):
        assert text in html
    assert html.count("<circle cx=") == 3 and "$" not in re.sub(r"<script>.*</script>", "", html, flags=re.S)
    assert page("empty", [], {}, {}, [], [])


def test_search_ends_near_the_goal_even_under_a_ceiling():
    """Quality that saturates, as PSNR on photos does, is met in few trials."""
    seen = []

    def trial(quality: float) -> Trial:
        return Trial(10, 0, quality, int(1000 * 2 ** (quality / 25)), 30 - 20 * 2 ** (-quality / 10), b"", None)

    best = search([trial], Goal(psnr=29.9), (5.0, 105.0), seen.append, (50.0, 0.5))
    assert best.psnr >= 29.9 and best.psnr < 29.99 and len(seen) <= 7
    best = search([trial], Goal(size=8000), (5.0, 105.0), seen.append, (50.0, 0.24))
    assert 7000 <= best.size <= 8000


def test_progress_grows_beyond_its_guess():
    shown = []
    work = WorkCounter(lambda done, total: shown.append((done, total)), 2)
    for _ in range(4):
        work.done(1)
    assert [done for done, _ in shown] == [1, 2, 3, 4] and all(done < total for done, total in shown[1:])


@pytest.mark.parametrize("goal", [Goal(psnr=99.0), Goal(size=10)])
def test_what_cannot_be_met_names_the_nearest(goal):
    from splat import InputError

    def trial(quality: float) -> Trial:
        return Trial(10, 0, quality, int(100 + quality), 20 + quality / 10, b"", None)

    with pytest.raises(InputError, match="the nearest is"):
        search([trial], goal, (5.0, 105.0), lambda _: None, (50.0, 0.5))
