"""Scenes in zip archives: unpacked once, refused where an archive claims too much, leads outside or hides a cloud."""

import json
import stat
import zipfile
from functools import partial
from pathlib import Path

import pytest
from support import exports
from support.exports import NAMES, Truth, photos, same
from support.tiny import write_scene

from splat.cli.inputs import kind_of
from splat.errors import InputError
from splat.scene import load_scene, random_points


@pytest.fixture(scope="module")
def scene() -> Truth:
    return exports.truth()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def few_random_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenes without points get some at random, which takes longer than reading them."""
    monkeypatch.setattr(random_points, "random_points", partial(random_points.random_points, count=100))


def packed(folder: Path, path: Path, inside: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, Path(inside, file.relative_to(folder)).as_posix())
    return path


def load(path: Path):
    return load_scene(path, progress=False, hold_out="none")


@pytest.mark.parametrize("inside", ["", "my scene/capture"])
def test_every_kind(tmp_path: Path, scene: Truth, inside: str) -> None:
    for kind in ("metashape", "record3d", "polycam", "transforms"):
        folder = tmp_path / kind
        if kind == "metashape":
            exports.metashape(folder / "cameras.xml", scene)
            photos(folder / "images")
        elif kind == "transforms":
            from support import json_scenes

            json_scenes.write(folder, json_scenes.described(folder))
        else:
            getattr(exports, kind)(folder, scene)
        path = packed(folder, tmp_path / f"{kind}.{'r3d' if kind == 'record3d' else 'zip'}", inside)
        assert kind_of(path) == "scene"
        loaded, plain = load(path), load(folder)
        assert [view.name for view in loaded.views] == [view.name for view in plain.views]
        assert all(
            (a.camera.world_to_camera == b.camera.world_to_camera).all()
            for a, b in zip(loaded.views, plain.views, strict=True)
        )
        assert loaded.kind == plain.kind
        assert loaded.name == kind
        assert any(f"{path.name} is unpacked in" in note for note in loaded.notes)


def test_colmap_is_unpacked_once_and_anew_when_changed(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "scene")
    path = packed(folder, tmp_path / "scene.zip")
    first = load(path).views[0].source.path
    before = first.stat().st_mtime_ns
    assert load(path).views[0].source.path.stat().st_mtime_ns == before
    (folder / "images/00.png").write_bytes((folder / "images/01.png").read_bytes())
    packed(folder, path)
    assert load(path).views[0].source.path.read_bytes() == (folder / "images/01.png").read_bytes()


def test_clutter_and_links_are_left_out(tmp_path: Path, scene: Truth) -> None:
    exports.metashape(tmp_path / "s/cameras.xml", scene)
    photos(tmp_path / "s/images")
    path = packed(tmp_path / "s", tmp_path / "s.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/images/._view_00.png", b"x")
        link = zipfile.ZipInfo("images/secret.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    loaded = load(path)
    same(loaded, scene)
    assert any("1 link in it is left out (images/secret.png)" in note for note in loaded.notes)
    assert not any("._view" in note for note in loaded.notes)


@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "a/../../out.txt", "..\\out.txt", "C:/out.txt"])
def test_paths_that_lead_outside(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(InputError, match="leads outside"):
        load(tmp_path / "x.zip")
    assert {path.name for path in tmp_path.rglob("*")} == {"x.zip"}


def test_a_bomb_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images/a.png", bytes(64 << 20))
    with pytest.raises(InputError, match="claims to hold 67,108,864"):
        load(tmp_path / "x.zip")
    assert {path.name for path in tmp_path.rglob("*")} == {"x.zip"}


def test_damage(tmp_path: Path, scene: Truth) -> None:
    exports.metashape(tmp_path / "s/cameras.xml", scene)
    photos(tmp_path / "s/images")
    good = packed(tmp_path / "s", tmp_path / "good.zip").read_bytes()
    path = tmp_path / "x.zip"
    for data in (b"", b"PK", good[: len(good) // 2], good[:40] + bytes(200) + good[240:]):
        path.write_bytes(data)
        with pytest.raises(InputError, match="x.zip"):
            load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", b"x")
    with pytest.raises(InputError, match="holds no scene"):
        load(path)


def test_a_cloud_in_an_archive_is_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "cloud.zip", "w") as archive:
        archive.writestr("meta.json", json.dumps({"means": {}}))
        archive.writestr("means_l.webp", b"x")
    assert kind_of(tmp_path / "cloud.zip") == "cloud"


def test_info_takes_them(tmp_path: Path, scene: Truth, capsys: pytest.CaptureFixture) -> None:
    from splat.cli.info import run

    exports.realityscan(tmp_path / "s/cams.csv", scene)
    photos(tmp_path / "s/DCIM")  # no usual folder: the table must not pass for points
    for path in (packed(tmp_path / "s", tmp_path / "s.zip"), tmp_path / "s", tmp_path / "s/cams.csv"):
        run([str(path), "--json", "-"])
        facts = json.loads(capsys.readouterr().out)
        assert (facts["layout"], facts["photos"]) == ("RealityScan", len(NAMES))


def test_photos_alone_are_taken_to_structure_from_motion(tmp_path: Path) -> None:
    photos(tmp_path / "s/images", NAMES[:2])
    with pytest.raises(InputError, match="holds 2 photos, but structure from motion needs at least 3"):
        load(packed(tmp_path / "s", tmp_path / "s.zip"))
