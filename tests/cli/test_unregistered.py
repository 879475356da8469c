"""Photos and videos whose cameras are not known: what `splat info` says of them, and `splat train --sfm-only`."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pycolmap
import pytest

from splat.cli import main
from splat.errors import InputError
from splat.scene import load_scene
from splat.scene.readers import photo_folder, video
from splat.scene.registration import CamerasUnknown
from splat.scene.sfm import reconstruct
from splat.scene.sfm.plausibility import Finding


def write_photos(folder: Path) -> None:
    """Six photos of two sizes, one of them stored turned, a broken one, a kind that is not read, and two masks."""
    rng = np.random.default_rng(0)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for k in range(6):
        pixels = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)[: 48 if k < 5 else 40]
        kept = {"exif": exif} if k == 0 else {}
        PIL.Image.fromarray(pixels.swapaxes(0, 1) if k == 0 else pixels).save(folder / f"images/{k}.jpg", **kept)
    for k in (1, 2):
        PIL.Image.new("L", (64, 48), 255).save(folder / f"masks/{k}.png")
    (folder / "images/broken.jpg").write_bytes(b"nonsense" * 9)
    (folder / "images/moving.gif").write_bytes(b"GIF89a")


def no_reconstruction(*_):
    raise AssertionError("structure from motion was started")


def found_cameras(work, photos, ordered, report):
    """Stands in for structure from motion: a ring of cameras and a cloud in its middle; the last photo is left out."""
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1, num_frames_per_rig=len(photos) - 1, num_points3D=50, camera_width=64, camera_height=48,
        camera_params=[64.0, 32.0, 24.0, 0.0],
    )  # fmt: skip
    pycolmap.set_random_seed(0)
    model = pycolmap.synthesize_dataset(options)
    for image, photo in zip(model.images.values(), photos, strict=False):
        image.name = photo.alias
    return model, Finding(len(photos) - 1, 50, 50 * (len(photos) - 1), 0.25, 1.0, (53.13,), ())


@pytest.fixture
def said(capsys):
    def run(*arguments) -> dict:
        assert main([*map(str, arguments), "--json", "-"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_info_describes_photos_and_finds_no_cameras(tmp_path, monkeypatch, capsys, said) -> None:
    monkeypatch.setattr(reconstruct, "reconstruct", no_reconstruction)
    folder = tmp_path / "my photos"
    write_photos(folder)
    facts = said("info", folder)
    assert facts["layout"] == "photos" and facts["registered"] is False
    assert facts["photos"] == 6 and facts["masked"] == 2
    assert facts["sizes"] == [
        {"width": 64, "height": 48, "photos": 5},
        {"width": 64, "height": 40, "photos": 1},
    ]
    notes = "\n".join(facts["notes"])
    assert "broken.jpg" in notes and "gif" in notes
    assert facts["next"] == f"splat train '{folder}' --sfm-only"
    assert not list(tmp_path.rglob(".splat"))  # nothing is written
    assert main(["info", str(folder)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "64×48, 5 photos" in text and "on 2 photos" in text and "not known yet" in text and "--sfm-only" in text


def test_info_of_an_archive_of_photos_names_the_archive(tmp_path, monkeypatch, said) -> None:
    monkeypatch.setattr(reconstruct, "reconstruct", no_reconstruction)
    write_photos(tmp_path / "walk")
    archive = shutil.make_archive(str(tmp_path / "walk"), "zip", tmp_path / "walk")
    facts = said("info", archive)
    assert facts["registered"] is False and facts["photos"] == 6 and facts["masked"] == 2
    assert facts["next"] == f"splat train {archive} --sfm-only"


def test_load_scene_raises_one_named_error(tmp_path) -> None:
    write_photos(tmp_path)
    with pytest.raises(CamerasUnknown, match="not known yet; find them with: splat train .* --sfm-only") as caught:
        load_scene(tmp_path, register=False)
    assert isinstance(caught.value, InputError) and caught.value.facts.photos == 6


def test_info_of_a_video_takes_no_frames(tmp_path, monkeypatch, said) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "walk.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (160, 120))
    for k in range(60):
        writer.write(np.full((120, 160, 3), 4 * k, np.uint8))
    writer.release()
    monkeypatch.setattr(video, "_extract", no_reconstruction)
    for path in (tmp_path / "walk.mp4", tmp_path):
        facts = said("info", path)
        assert facts["layout"] == "video" and facts["registered"] is False and facts["photos"] == 24
        assert facts["sizes"] == [{"width": 160, "height": 120, "photos": 24}]
        assert "24 of 60 frames (6.0 s at 10 per second) would be taken" in facts["notes"]
        assert facts["next"].endswith("walk.mp4 --sfm-only")
    assert os.listdir(tmp_path) == ["walk.mp4"]
    monkeypatch.undo()
    monkeypatch.setattr(reconstruct, "reconstruct", no_reconstruction)
    with pytest.raises(AssertionError, match="was started"):
        load_scene(tmp_path, progress=False)  # takes the frames
    facts = said("info", tmp_path)
    assert facts["photos"] == 24 and "24 sharpest of 60 frames" in facts["notes"][0]
    assert facts["next"].endswith("walk.mp4 --sfm-only")


def test_sfm_only_finds_the_cameras_keeps_them_and_stops(tmp_path, monkeypatch, capsys, said) -> None:
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos")
    (tmp_path / "photos/images/0.jpg").unlink()
    monkeypatch.setattr(reconstruct, "reconstruct", found_cameras)
    facts = said("train", tmp_path / "photos", "--sfm-only")
    assert (facts["photos"], facts["registered"], facts["points"]) == (5, 4, 50)
    assert facts["reprojection_pixels"] == 0.25 and facts["field_of_view_degrees"] == [53.13]
    assert facts["left_out"] == ["5.jpg"] and facts["given"] is False
    assert Path(facts["kept_in"]) == tmp_path / "photos/images/.splat/sfm"
    assert (Path(facts["kept_in"]) / "images.bin").is_file()
    assert not (tmp_path / "runs").exists()
    monkeypatch.setattr(reconstruct, "reconstruct", no_reconstruction)  # what is kept is used
    assert said("train", tmp_path / "photos", "--sfm-only") == facts
    assert main(["train", str(tmp_path / "photos"), "--sfm-only"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "4 of 5 photos" in text and "0.25 pixels" in text and "53.1°" in text
    facts = said("info", tmp_path / "photos")
    assert facts["registered"] is True and facts["photos"] == 4 and facts["points"] == 50


def test_sfm_only_where_there_is_nothing_to_find(tmp_path, capsys, said) -> None:
    from support.tiny import write_scene

    scene = write_scene(tmp_path / "scene")
    facts = said("train", scene, "--sfm-only")
    assert facts["given"] is True and facts["registered"] == 8
    assert main(["train", str(scene), "--sfm-only"]) == 0 and "none to find" in capsys.readouterr().out
    assert main(["train", str(scene), "--sfm-only", "--resume"]) == 2
    assert "leave out --resume" in capsys.readouterr().err
    assert main(["train", str(scene), "--sfm-only", "--priors.reconstruct", "a:b"]) == 2
    assert "leave out one of the two" in capsys.readouterr().err


def test_a_damaged_record_is_said(tmp_path, monkeypatch) -> None:
    write_photos(tmp_path)
    (tmp_path / "images/0.jpg").unlink()
    monkeypatch.setattr(reconstruct, "reconstruct", found_cameras)
    scene = load_scene(tmp_path, progress=False)
    assert scene.registration.registered == 4 and scene.registration.angles == (53.13,)
    record = tmp_path / "images/.splat/sfm" / photo_folder.result_cache.RECORD
    record.write_text(record.read_text().replace('"points": 50', '"points": "many"'))
    with pytest.raises(InputError, match="'points' is"):
        load_scene(tmp_path, progress=False)
