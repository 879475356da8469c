"""A metrics.json that anybody may have written: refused in one sentence by all that read it."""

import json

import pytest

from splat.cli import info
from splat.errors import InputError
from splat.report import write_report
from splat.report.metrics_file import read_metrics, require_whole

SOUND = {
    "steps": 10, "seconds": 1.5, "gaussians": 7, "psnr": 30.0, "ssim": 0.9, "lpips": None, "peak_memory_bytes": 1000,
    "protocol": {"scene": "a", "photos": {"training": 2, "held_out": 1}, "first_photo_size": [3, 4]},
    "views": [{"name": "a.png", "psnr": float("inf"), "ssim": 0.9, "lpips": None}],
    "history": [{"step": 5, "seconds": 0.5, "loss": 0.1, "gaussians": 7, "psnr": 29.0},
                {"step": 10, "seconds": 1.0, "loss": 0.05, "gaussians": 7}],
}  # fmt: skip
ENTRY, VIEW = SOUND["history"][0], SOUND["views"][0]
WRONG = [
    ({"steps": "many"}, "'steps' is 'many', expected a whole number"),
    ({"steps": 1e308}, "'steps' is 1e\\+308"),
    ({"gaussians": -1}, "'gaussians' is out of range"),
    ({"gaussians": True}, "'gaussians' is True"),
    ({"seconds": float("inf")}, "'seconds' is out of range"),
    ({"seconds": 10**400}, "'seconds' is out of range"),
    ({"psnr": []}, "'psnr' is a list"),
    ({"ssim": 1e300}, "'ssim' is out of range"),
    ({"peak_memory_bytes": "x"}, "'peak_memory_bytes' is 'x'"),
    ({"protocol": 3.5}, "'protocol' is 3.5"),
    ({"protocol": {"photos": 7}}, "'photos' is 7"),
    ({"protocol": {"photos": {"training": "two"}}}, "'training' is 'two'"),
    ({"protocol": {"scene": [[]]}}, "'scene' is nested"),
    ({"protocol": {"scene": 10**400}}, "'scene' is out of range"),
    ({"machine": []}, None),
    ({"machine": {"Cores": {"a": {}}}}, "'Cores' is nested"),
    ({"views": {"a": 1}}, "'views' is an object"),
    ({"views": [None]}, "an entry of 'views' is None"),
    ({"views": [{"psnr": 3.0}]}, "'name' is missing"),
    ({"views": [VIEW | {"name": ""}]}, "a view has no name"),
    ({"views": [VIEW | {"name": ".."}]}, None),
    ({"views": [VIEW | {"name": "a\0b" + 300 * "c"}]}, None),
    ({"views": [VIEW | {"psnr": "x"}]}, "'psnr' is 'x'"),
    ({"views": [VIEW | {"name": "\ud800"}]}, "surrogates not allowed"),
    ({"history": [[]]}, "an entry of 'history' is a list"),
    ({"history": [ENTRY | {"loss": "x"}, ENTRY]}, "'loss' is 'x'"),
    ({"history": [ENTRY | {"step": float("nan")}, ENTRY]}, "'step' is nan"),
    ({"\udc00": 1}, "surrogates not allowed"),
]


@pytest.mark.parametrize("change, said", WRONG)
def test_what_cannot_be_is_refused_by_info_and_report(tmp_path, change, said):
    (tmp_path / "config.toml").write_text("")
    (tmp_path / "metrics.json").write_text(json.dumps(SOUND | change))
    for read in (info.run_facts, write_report):
        if said is None:
            read(tmp_path)
            continue
        with pytest.raises(InputError, match=rf"metrics\.json holds no metrics of a run \(.*{said}") as caught:
            read(tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"7", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 5000])
def test_what_is_no_object_is_refused(tmp_path, content):
    (tmp_path / "config.toml").write_text("")
    (tmp_path / "metrics.json").write_bytes(content)
    for read in (info.run_facts, write_report):
        with pytest.raises(InputError, match=r"metrics\.json: its text"):
            read(tmp_path)


def test_what_is_missing_or_unknown_is_left_to_the_reader(tmp_path):
    path = tmp_path / "metrics.json"
    for metrics in (SOUND, {}, {"steps": 3, "from_tomorrow": [{"a": {"b": 1}}]}):
        path.write_text(json.dumps(metrics))
        assert read_metrics(path) == metrics
    require_whole(SOUND)
    for name in ("steps", "gaussians", "seconds", "psnr", "views", "history"):
        with pytest.raises(ValueError, match=f"'{name}' is missing"):
            require_whole({key: value for key, value in SOUND.items() if key != name})
    with pytest.raises(ValueError, match="'seconds' is None"):
        require_whole(SOUND | {"seconds": None})


@pytest.mark.parametrize(
    "text",
    [
        "background = 3", "background = [0.1, 0.2]", 'background = [0, 0, "x"]', "background = [[0], 0, 0]",
        "background = [nan, 0, 0]", "antialiased = 7", "a = " + "[" * 5000,
    ],
)  # fmt: skip
def test_settings_that_cannot_be_drawn_with_are_refused_by_the_report(tmp_path, text):
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(InputError, match=r"config\.toml holds no settings of a run"):
        write_report(tmp_path)
