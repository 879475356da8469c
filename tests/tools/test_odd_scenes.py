"""A slice of the odd scenes of tools/odd_scenes.py, and what its checks say of a reader that loses photos."""

import dataclasses

import odd_scenes
import pytest

from splat.scene import load


@pytest.mark.parametrize("kind, count", [("transforms", 40), ("colmap", 40), ("ply", 60)])
def test_odd_scenes_load_or_are_refused(kind: str, count: int) -> None:
    result = odd_scenes.run(kind, range(5000, 5000 + count))
    assert result["FAILED"] == 0 and result["refused"] < 0.7 * count
    assert result["loaded"] + result["loaded with notes"] > 0.3 * count


def test_scenes_are_those_of_their_seed(tmp_path) -> None:
    for kind, (make, _, _) in odd_scenes.KINDS.items():
        for folder in ("a", "b"):
            make(7, tmp_path / kind / folder)
        files = sorted(path.relative_to(tmp_path / kind / "a") for path in (tmp_path / kind / "a").rglob("*.*"))
        assert files
        for file in files:
            assert (tmp_path / kind / "a" / file).read_bytes() == (tmp_path / kind / "b" / file).read_bytes()


def test_photos_lost_in_silence_are_noticed(tmp_path, monkeypatch, capsys) -> None:
    """A reader that drops a view, one that drops its notes, and one that fails."""
    whole = load.build
    seeds = range(5)

    def fewer(raw, options):
        return whole(dataclasses.replace(raw, views=raw.views[1:]), options)

    def silent(raw, options):
        return dataclasses.replace(whole(raw, options), notes=())

    def failing(raw, options):
        raise KeyError("x")

    for build in (fewer, silent, failing):
        monkeypatch.setattr(load, "build", build)
        assert sum(odd_scenes.run(kind, seeds)["FAILED"] for kind in ("transforms", "colmap")) > 0
