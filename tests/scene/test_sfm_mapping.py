"""Incremental and global mapping on matches made from known cameras: when the second is tried, and which is taken."""

import dataclasses
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from splat.scene.images import ImageHeader
from splat.scene.readers.photo_folder import _notes
from splat.scene.sfm import mapping
from splat.scene.sfm.photo_preparation import SfmPhoto
from splat.scene.sfm.plausibility import Finding
from splat.scene.sfm.reconstruct import quiet

COUNT = 8


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, list[SfmPhoto], pycolmap.Reconstruction]:
    """A database with the matches of eight photos, 0.3 pixels of noise, and the truth."""
    work = tmp_path_factory.mktemp("matches")
    (work / "images").mkdir()
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1, num_frames_per_rig=COUNT, num_points3D=150, camera_has_prior_focal_length=True
    )
    pycolmap.set_random_seed(0)
    with quiet(), pycolmap.Database.open(work / "database.db") as database:
        truth = pycolmap.synthesize_dataset(options, database)
    header = ImageHeader(1024, 768, 1, False)
    photos = [SfmPhoto(f"{k}.jpg", image.name, header, 0, 1280.0) for k, image in enumerate(truth.images.values())]
    return work, photos, truth


def test_global_mapping_finds_the_cameras(made) -> None:
    work, photos, truth = made
    with quiet():
        model, finding = mapping.map_globally(work, work / "database.db", photos, lambda *_: None)
    assert finding.registered == COUNT and finding.error < 0.1 and not finding.doubts
    relative = []
    for scene in (model, truth):
        by_name = {image.name: image.cam_from_world().matrix()[:, :3] for image in scene.images.values()}
        relative.append(np.stack([by_name[photo.alias] @ by_name[photos[0].alias].T for photo in photos]))
    np.testing.assert_allclose(relative[0], relative[1], atol=1e-3)


@pytest.mark.parametrize("lost", [0, 3])
def test_the_global_mapper_follows_where_photos_are_left_out(made, monkeypatch, lost: int) -> None:
    work, photos, _ = made
    real, asked = mapping._map, []

    def incremental(*arguments):
        models = real(*arguments)
        for image in list(models[0].images.values())[:lost]:
            models[0].deregister_frame(image.frame_id)
        return models

    def together(*arguments):
        asked.append(True)
        return globally(*arguments)

    globally = mapping.map_globally
    monkeypatch.setattr(mapping, "_map", incremental)
    monkeypatch.setattr(mapping, "map_globally", together)
    with quiet():
        _, finding = mapping.map_photos(work, work / "database.db", photos, lambda *_: None)
        _, alone = mapping.map_photos(work, work / "database.db", photos, lambda *_: None, second_try=False)
    assert finding.registered == COUNT and alone.registered == COUNT - lost and len(asked) == bool(lost)
    said = f"the global mapper placed {COUNT} of {COUNT} photos, the incremental one {COUNT - lost}"
    assert finding.choice == (said if lost else "") and alone.choice == ""
    assert (said in _notes(photos, finding, [])) == bool(lost)


SOUND = Finding(8, 100, 400, 0.5, 1.0, (60.0,), ())


@pytest.mark.parametrize(
    ("incremental", "rival", "taken"),
    [
        ({"registered": 6}, {}, "global"),
        ({}, {"registered": 7}, "incremental"),
        ({"registered": 8, "doubts": ("folded", "bent")}, {"registered": 7}, "incremental"),  # never fewer photos
        ({"doubts": ("folded",)}, {"observations": 300}, "global"),
        ({}, {"observations": 401}, "global"),
        ({}, {}, "incremental"),
        ({"registered": 7}, {"supported": 0.5}, "incremental"),
        (None, {}, "global"),
        ({}, None, "incremental"),
        (None, None, None),
    ],
)
def test_which_model_is_taken(incremental: dict | None, rival: dict | None, taken: str | None) -> None:
    candidates = [
        None if changes is None else (name, dataclasses.replace(SOUND, **changes))
        for name, changes in (("incremental", incremental), ("global", rival))
    ]
    found = mapping.choose(*candidates, 8)
    assert (None if found is None else found[0]) == taken
    assert found is None or ("global mapper" in found[1].choice) == (taken == "global")


def test_incremental_attempts_go_on_while_the_global_model_lacks_photos(monkeypatch, tmp_path) -> None:
    """What incremental mapping finds alone at its second attempt is found beside the global mapper too."""
    header = ImageHeader(1024, 768, 1, False)
    photos = [SfmPhoto(f"{k}.jpg", f"{k}.jpg", header, 0, 1280.0) for k in range(8)]
    few = dataclasses.replace(SOUND, registered=4, doubts=("only 4 of 8 photos could be placed",))
    attempts = [lambda: ("plain", few), lambda: ("lenient", SOUND)]
    monkeypatch.setattr(mapping, "_attempts", lambda *_: attempts)
    monkeypatch.setattr(mapping, "map_globally", lambda *_: ("global", dataclasses.replace(SOUND, registered=7)))
    assert mapping.map_photos(tmp_path, tmp_path, photos, lambda *_: None)[0] == "lenient"
