"""Structure from motion with pycolmap on the CPU: features and matching, then `mapping`.

Work is handed to pycolmap in small portions: that shows progress and lets Ctrl-C in. Watching its database with
Python's sqlite3 meanwhile is no way: two SQLite libraries in one process break each other's locks (seen as SIGBUS).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from splat.errors import InputError
from splat.machine import usable_cores
from splat.scene.colmap_library import pycolmap
from splat.scene.progress import Report
from splat.scene.sfm.mapping import map_photos
from splat.scene.sfm.pair_selection import choose_pairs, sample
from splat.scene.sfm.photo_preparation import SfmPhoto
from splat.scene.sfm.plausibility import Finding, plausible

MAX_SIDE = 1600  # pixels; SIFT finds little more in larger images, only slower
ALL_PAIRS_UP_TO = 60  # photos
_FEATURES_FEW, _FEATURES_MANY, _FEW = 8192, 4096, 25  # features per photo, up to so many photos
_GUESS = 1.2  # focal length over longest side, as COLMAP begins without EXIF
CPU = pycolmap.Device.cpu


def reconstruct(
    work: Path, photos: Sequence[SfmPhoto], ordered: bool, report: Report
) -> tuple[pycolmap.Reconstruction, Finding]:
    """The best model of ``work``/images and what is known about it; images carry the photos' aliases.

    ``ordered``: photos are frames of a video, neighbours are matched first. Raises InputError if no model results.
    """
    with quiet():
        database = match_photos(work, photos, ordered, report)
        best = map_photos(work, database, photos, report)
    if best is None:
        raise InputError(
            f"structure from motion found no two of the {len(photos)} photos that fit together; take more photos that "
            "overlap by two thirds, of something with texture, and walk around instead of turning on the spot"
        )
    return best


def match_photos(work: Path, photos: Sequence[SfmPhoto], ordered: bool, report: Report) -> Path:
    """A new database, ``work``/database.db, with the features of ``work``/images and their verified matches."""
    database = work / "database.db"
    _extract(work, database, photos, report)
    _match(work, database, photos, ordered, report)
    return database


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
    _set_focals(database, photos)
    # From here on the cameras are known; SINGLE would now refuse photos of another size than the first.
    mode = pycolmap.CameraMode.AUTO
    names = [photo.alias for photo in photos]
    step = 2 * usable_cores()
    for start in range(0, len(names), step):
        report("finding features", start / len(names))
        pycolmap.extract_features(database, work / "images", names[start : start + step], mode, reader, options, CPU)
    report("finding features", 1.0)


def _set_focals(database: Path, photos: Sequence[SfmPhoto]) -> None:
    """Begin from the focal lengths that EXIF tells; an implausible one that COLMAP reads there is forgotten."""
    with pycolmap.Database.open(database) as opened:
        for photo in photos:
            camera = opened.read_camera(opened.read_image_with_name(photo.alias).camera_id)
            longer = max(camera.width, camera.height)
            if photo.focal is not None:
                camera.focal_length, camera.has_prior_focal_length = photo.focal, True
            elif camera.has_prior_focal_length and not plausible(camera):
                camera.focal_length, camera.has_prior_focal_length = _GUESS * longer, False
            opened.update_camera(camera)


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


@contextmanager
def quiet() -> Iterator[None]:
    """Only fatal messages of COLMAP on the terminal: the progress bar and the notes say what matters."""
    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = 3
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before
