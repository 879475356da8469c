"""Cameras and points from verified matches: incremental mapping, the global mapper, and a choice between them.

A model can register every photo at about 1 px and still be wrong, mostly by a wrong focal length when no EXIF tells it.
Each result is therefore checked (`plausibility`). One that looks wrong or lacks photos is followed by others: of the
global mapper (Pan et al., "Global Structure-from-Motion Revisited", ECCV 2024), and from other focal lengths.
"""

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from splat.machine import usable_cores
from splat.scene.colmap_library import pycolmap
from splat.scene.progress import Report
from splat.scene.sfm.photo_preparation import SfmPhoto
from splat.scene.sfm.plausibility import Finding, examine

_WIDE = 0.75  # focal length over longest side of a phone's main camera; COLMAP's own guess is 1.2
_FEWEST = 3  # photos of a model

Candidate = tuple[pycolmap.Reconstruction, Finding]


def map_photos(
    work: Path, database: Path, photos: Sequence[SfmPhoto], report: Report, second_try: bool = True
) -> Candidate | None:
    """The best model of the matches in ``database``, and what is known about it; None if no photos fit together.

    Args:
        second_try: use the global mapper too, where the first incremental model has doubts or lacks photos. Its model
            is taken if it has no fewer photos than the incremental ones and scores better.
    """
    best: Candidate | None = None
    rival: Candidate | None = None
    for number, attempt in enumerate(_attempts(work, database, photos, report)):
        best = _better(best, attempt())
        sound = best is not None and not best[1].doubts
        if number == 0 and second_try and not (sound and _complete(best, photos)):
            rival = map_globally(work, database, photos, report)
            sound |= _complete(rival, photos) and not rival[1].doubts
        if sound:
            break
    return choose(best, rival, len(photos))


def _complete(candidate: Candidate | None, photos: Sequence[SfmPhoto]) -> bool:
    return candidate is not None and candidate[1].registered == len(photos)


def choose(incremental: Candidate | None, rival: Candidate | None, photos: int) -> Candidate | None:
    """The incremental model or that of the global mapper, ``rival``; which one, and why, is said in the finding."""
    if rival is None:
        return incremental
    ours = 0 if incremental is None else incremental[1].registered
    theirs = rival[1].registered
    if incremental is not None and (theirs < ours or rival[1].score <= incremental[1].score):
        return incremental
    said = f"the global mapper placed {theirs} of {photos} photos, the incremental one {ours}"
    if theirs == ours and incremental is not None:
        said = (
            f"the global mapper and the incremental one placed {ours} of {photos} photos each; the global one's model "
            f"is used, which agrees better with the matches ({rival[1].observations} observations against "
            f"{incremental[1].observations})"
        )
    return rival[0], dataclasses.replace(rival[1], choice=said)


def _attempts(
    work: Path, database: Path, photos: Sequence[SfmPhoto], report: Report
) -> list[Callable[[], Candidate | None]]:
    """Incremental mapping with COLMAP's settings; then with lower thresholds, and from other focal lengths."""
    kinds: list[tuple[Callable[[Path], bool] | None, bool]] = [(None, False), (None, True)]
    if not all(photo.focal is not None for photo in photos):
        kinds += [(_calibrate_by_pairs, True), (_assume_wide, True)]

    def attempt(number: int, prepare: Callable[[Path], bool] | None, lenient: bool) -> Candidate | None:
        source = _prepared(database, work / f"database_{number}.db", prepare)
        if source is None:
            return None
        stage = f"placing photos, attempt {number + 1}" if number else "placing photos"
        found = None
        for model in _map(work, source, len(photos), lenient, report, stage):
            found = _better(found, (model, examine(model, database, len(photos))))
        return found

    return [lambda number=number, kind=kind: attempt(number, *kind) for number, kind in enumerate(kinds)]


def _prepared(database: Path, copy: Path, prepare: Callable[[Path], bool] | None) -> Path | None:
    """``database``, or a copy of it that was prepared; None if that had no effect."""
    if prepare is None:
        return database
    shutil.copyfile(database, copy)
    return copy if prepare(copy) else None


def _better(first: Candidate | None, second: Candidate | None) -> Candidate | None:
    if first is None or second is None:
        return first or second
    return second if second[1].score > first[1].score else first


def map_globally(work: Path, database: Path, photos: Sequence[SfmPhoto], report: Report) -> Candidate | None:
    """The global mapper's best model; where EXIF does not tell all focal lengths they are estimated from pairs first,
    as all cameras are placed at once."""
    report("placing photos together", 0.0)
    known = all(photo.focal is not None for photo in photos)
    source = _prepared(database, work / "database_global.db", None if known else _calibrate_by_pairs) or database
    options = pycolmap.GlobalPipelineOptions()
    options.num_threads, options.random_seed, options.min_model_size = usable_cores(), 0, _FEWEST
    options.mapper.global_positioning.use_gpu = options.mapper.bundle_adjustment.ceres.use_gpu = False
    output = work / "global"
    output.mkdir(exist_ok=True)
    models = pycolmap.global_mapping(source, work / "images", output, options)
    best = None
    for model in models.values():
        best = _better(best, (model, examine(model, database, len(photos))))
    report("placing photos together", 1.0)
    return best


def _map(
    work: Path, database: Path, count: int, lenient: bool, report: Report, stage: str
) -> list[pycolmap.Reconstruction]:
    """All models that incremental mapping finds. ``lenient`` places a photo on fewer matches: sets with few photos
    around an object need it (of 16 around a statue 16 are placed instead of 6); `examine` guards against the risk."""
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed, options.min_model_size = usable_cores(), 0, _FEWEST
    options.max_num_models = 5
    if lenient:
        options.min_num_matches = 10
        options.mapper.abs_pose_min_num_inliers, options.mapper.abs_pose_min_inlier_ratio = 15, 0.12
    placed = 2

    def one_more() -> None:
        nonlocal placed
        placed += 1
        report(stage, placed / count)

    models = pycolmap.incremental_mapping(database, work / "images", work, options, next_image_callback=one_more)
    report(stage, 1.0)
    return list(models.values())


def _calibrate_by_pairs(database: Path) -> bool:
    """Focal lengths that the fundamental matrices of many pairs agree on (Sweeney et al., ICCV 2015), as priors."""
    options = pycolmap.ViewGraphCalibrationOptions()
    options.random_seed = 0
    return bool(pycolmap.calibrate_view_graph(database, options))


def _assume_wide(database: Path) -> bool:
    """Begin from a wide angle."""
    with pycolmap.Database.open(database) as opened:
        for camera in opened.read_all_cameras():
            if not camera.has_prior_focal_length:
                camera.focal_length = _WIDE * max(camera.width, camera.height)
                opened.update_camera(camera)
    return True
