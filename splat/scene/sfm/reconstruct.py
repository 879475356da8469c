"""Structure from motion with pycolmap on the CPU: features, matching, incremental mapping, and a plausibility check.

A model can register every photo at about 1 px and still be wrong, mostly by a wrong focal length when no EXIF tells it.
Each result is therefore checked (`plausibility`), and mapping is tried again from other focal lengths when it looks
wrong.

Work is handed to pycolmap in small portions: that shows progress and lets Ctrl-C in. Watching its database with
Python's sqlite3 meanwhile is no way: two SQLite libraries in one process break each other's locks (seen as SIGBUS).
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from splat.errors import InputError
from splat.machine import usable_cores
from splat.scene.colmap_library import pycolmap
from splat.scene.progress import Report
from splat.scene.sfm.pair_selection import choose_pairs, sample
from splat.scene.sfm.photo_preparation import SfmPhoto
from splat.scene.sfm.plausibility import Finding, examine

MAX_SIDE = 1600  # pixels; SIFT finds little more in larger images, only slower
ALL_PAIRS_UP_TO = 60  # photos
_FEATURES_FEW, _FEATURES_MANY, _FEW = 8192, 4096, 25  # features per photo, up to so many photos
_WIDE = 0.75  # focal length over longest side of a phone's main camera; COLMAP's own guess is 1.2
CPU = pycolmap.Device.cpu


def reconstruct(
    work: Path, photos: Sequence[SfmPhoto], ordered: bool, report: Report
) -> tuple[pycolmap.Reconstruction, Finding]:
    """The best model of ``work``/images and what is known about it; images carry the photos' aliases.

    ``ordered``: photos are frames of a video, neighbours are matched first. Raises InputError if no model results.
    """
    database = work / "database.db"
    with quiet():
        _extract(work, database, photos, report)
        _match(work, database, photos, ordered, report)
        best = _map_until_plausible(work, database, photos, report)
    if best is None:
        raise InputError(
            f"structure from motion found no two of the {len(photos)} photos that fit together; take more photos that "
            "overlap by two thirds, of something with texture, and walk around instead of turning on the spot"
        )
    return best


def _extract(work: Path, database: Path, photos: Sequence[SfmPhoto], report: Report) -> None:
    options = pycolmap.FeatureExtractionOptions()
    options.use_gpu, options.num_threads, options.max_image_size = False, usable_cores(), MAX_SIDE
    options.sift.max_num_features = _FEATURES_FEW if len(photos) <= _FEW else _FEATURES_MANY
    reader = pycolmap.ImageReaderOptions()
    if (work / "masks").is_dir():
        reader.mask_path = str(work / "masks")
    cameras: dict[int, list[str]] = {}
    for photo in photos:
        cameras.setdefault(photo.camera, []).append(photo.alias)

    pycolmap.Database.open(database).close()  # makes the file
    for names in cameras.values():
        pycolmap.import_images(database, work / "images", pycolmap.CameraMode.SINGLE, names, reader)
    # From here on the cameras are known; SINGLE would now refuse photos of another size than the first.
    mode = pycolmap.CameraMode.AUTO
    names = [photo.alias for photo in photos]
    step = 2 * usable_cores()
    for start in range(0, len(names), step):
        report("finding features", start / len(names))
        pycolmap.extract_features(database, work / "images", names[start : start + step], mode, reader, options, CPU)
    report("finding features", 1.0)


def _match(work: Path, database: Path, photos: Sequence[SfmPhoto], ordered: bool, report: Report) -> None:
    names = sorted(photo.alias for photo in photos)
    limit = ALL_PAIRS_UP_TO // 2 if ordered else ALL_PAIRS_UP_TO
    if len(names) <= limit:
        pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    else:
        with pycolmap.Database.open(database) as opened:
            images = [opened.read_image_with_name(name) for name in names]
            descriptors = [sample(opened.read_descriptors(image.image_id).data) for image in images]
        pairs = choose_pairs(descriptors)
    match_pairs(work, database, names, pairs, report)


def match_pairs(
    work: Path, database: Path, names: Sequence[str], pairs: Sequence[tuple[int, int]], report: Report
) -> None:
    """Match the features of ``pairs`` of images, numbers in ``names``, and verify them by two-view geometry."""
    options = pycolmap.FeatureMatchingOptions()
    options.use_gpu, options.num_threads = False, usable_cores()
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = str(work / "pairs.txt")
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = 0
    step = 16 * usable_cores()
    for start in range(0, len(pairs), step):
        report("matching pairs", start / len(pairs))
        lines = (f"{names[i]} {names[j]}\n" for i, j in pairs[start : start + step])
        Path(pairing.match_list_path).write_text("".join(lines))
        pycolmap.match_image_pairs(database, options, pairing, verification, CPU)
    report("matching pairs", 1.0)


def _map_until_plausible(
    work: Path, database: Path, photos: Sequence[SfmPhoto], report: Report
) -> tuple[pycolmap.Reconstruction, Finding] | None:
    """Map with COLMAP's settings; while implausible, again with lower thresholds and other focal lengths."""
    attempts: list[tuple[Callable[[Path], bool] | None, bool]] = [(None, False), (None, True)]
    if not all(photo.focal_known for photo in photos):
        attempts += [(_calibrate_by_pairs, True), (_assume_wide, True)]
    best: tuple[pycolmap.Reconstruction, Finding] | None = None
    for number, (prepare, lenient) in enumerate(attempts):
        source = database
        if prepare is not None:
            source = work / f"database_{number}.db"
            shutil.copyfile(database, source)
            if not prepare(source):
                continue
        stage = f"placing photos, attempt {number + 1}" if number else "placing photos"
        for model in _map(work, source, len(photos), lenient, report, stage):
            finding = examine(model, database, len(photos))
            if best is None or finding.score > best[1].score:
                best = model, finding
        if best is not None and not best[1].doubts:
            break
    return best


def _map(
    work: Path, database: Path, count: int, lenient: bool, report: Report, stage: str
) -> list[pycolmap.Reconstruction]:
    """All models that incremental mapping finds. ``lenient`` places a photo on fewer matches: sets with few photos
    around an object need it (of 16 around a statue 16 are placed instead of 6); `examine` guards against the risk."""
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed, options.min_model_size = usable_cores(), 0, 3
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


@contextmanager
def quiet() -> Iterator[None]:
    """Only fatal messages of COLMAP on the terminal: the progress bar and the notes say what matters."""
    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = 3
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before
