"""A bare folder of photos: structure from motion (SfM) runs once, and its result is cached beside them."""

import dataclasses
import hashlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from splat.errors import InputError
from splat.files import write_json
from splat.reading import guarded, member, require_file, typed
from splat.scene.build import RawScene
from splat.scene.folder_notes import unread
from splat.scene.images import IMAGE_SUFFIXES, read_header
from splat.scene.listing import list_images
from splat.scene.masks import among_photos, find_masks, marks_what_moves, unmatched_note
from splat.scene.pictures.kinds import without_twins
from splat.scene.progress import Report, reporter
from splat.scene.readers.colmap import read_colmap
from splat.scene.registration import CamerasUnknown, Registration, Unregistered, photo_sizes
from splat.scene.sfm import result_cache
from splat.scene.sfm.exif_orientation import turn_upright
from splat.scene.sfm.photo_preparation import SfmPhoto, prepare
from splat.scene.sfm.plausibility import Finding

_VERSION = 3  # of the reconstruction; results of other versions are made again
_FEWEST = 3
_HEAD = 1 << 16  # bytes of each file that enter the fingerprint


def photo_folder(root: Path) -> Path | None:
    """The folder with photos in ``root``: ``images`` or ``input`` there if it has some, else ``root``; else None."""
    for folder in (root / "images", root / "input", root):
        if folder.is_dir() and photo_names(folder):
            return folder
    return None


def own_photos(root: Path) -> Path | None:
    """The folder in which ``root`` itself has photos, not somewhere below: ``images``, ``input`` or ``root``."""
    for folder in (root / "images", root / "input"):
        if folder.is_dir() and photo_names(folder):
            return folder
    with guarded(root, "the folder"), os.scandir(root) as entries:
        inside = any(os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES for entry in entries)
    return root if inside else None


def photo_names(folder: Path) -> list[str]:
    """Photos below ``folder`` that can be read here, one of each name; masks beside them are left out."""
    return without_twins(among_photos(list_images(folder)))


def read_photos(
    root: Path,
    folder: Path,
    downscale: float,
    progress: Report | bool,
    kind: str = "photos",
    ordered: bool = False,
    extra_notes: Sequence[str] = (),
    mask_mode: str = "object",
    register: bool = True,
) -> RawScene:
    """Cameras and points of the photos in ``folder``, from the cache or by SfM. Raises InputError.

    Args:
        mask_mode: as ``masks`` of `load_scene`; hidden pixels have no part in structure from motion.
        register: run structure from motion where nothing is cached; else `CamerasUnknown` is raised there.
    """
    names, broken = _sorted_out(folder)
    if len(names) < _FEWEST and broken:
        raise InputError(f"{folder}: {'; '.join(broken)}")
    if len(names) < _FEWEST:
        held = "one photo" if len(names) == 1 else f"{len(names)} photos"
        raise InputError(
            f"{folder} holds {held}, but structure from motion needs at least {_FEWEST}; 20 to 200 that overlap by two "
            "thirds work well"
        )
    masks = {} if mask_mode == "none" else find_masks(folder, names)
    ignore = mask_mode == "ignore" or any(map(marks_what_moves, masks.values()))
    fingerprint = _fingerprint(folder, names, masks) + ("-ignore" if ignore else "")
    candidates = result_cache.candidate_folders(folder, "sfm", fingerprint)
    cached = result_cache.find_result(candidates, fingerprint)
    if cached is None and not register:
        notes = (*extra_notes, *broken, *unread(folder, names), *unmatched_note(folder, set(masks.values())))
        raise CamerasUnknown(Unregistered(kind, root, len(names), photo_sizes(folder, names), len(masks), notes))
    if cached is None:
        cached = result_cache.first_writable(candidates)
        with reporter(progress) as report:
            _reconstruct(folder, names, masks, fingerprint, cached, ordered, report, ignore)
    record = result_cache.read_record(cached)
    raw = read_colmap(root, cached, downscale, images=folder)
    with guarded(cached / result_cache.RECORD, "the record of an earlier structure from motion"):
        turns = member(record, "orientations", dict)
        views = [turn_upright(view, member(turns, view.name, int)) for view in raw.views]
        said = [typed(note, str, "a note") for note in member(record, "notes", list)]
        registration = _registration(cached, member(record, "result", dict))
    notes = (*extra_notes, *said, *broken, *(note for note in raw.notes if "no pose" not in note))
    return dataclasses.replace(raw, kind=kind, views=views, notes=notes, registration=registration)


def _sorted_out(folder: Path) -> tuple[list[str], list[str]]:
    """The photos below ``folder`` whose headers can be read, and a note on the others for each suffix."""
    names, broken = [], defaultdict(list)
    for name in photo_names(folder):
        try:
            read_header(folder / name)
        except InputError as error:
            broken[PurePosixPath(name).suffix].append(str(error))
        else:
            names.append(name)
    notes = []
    for suffix, errors in broken.items():
        count = f"1 {suffix} photo" if len(errors) == 1 else f"{len(errors)} {suffix} photos"
        notes.append(f"{count} cannot be read and {'is' if len(errors) == 1 else 'are'} left out: {errors[0]}")
    return names, notes


def _fingerprint(folder: Path, names: Sequence[str], masks: dict[str, Path]) -> str:
    """Changes when a photo or mask is added, removed, renamed or edited."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(str(_VERSION).encode())
    for name in names:
        for path in (folder / name, masks.get(name)):
            if path is None:
                continue
            with guarded(path, "the file"), open(require_file(path), "rb") as file:
                head = file.read(_HEAD)
            digest.update(f"{name}\0{path.stat().st_size}\0".encode())
            digest.update(hashlib.blake2b(head).digest())
    return digest.hexdigest()


def _reconstruct(
    folder: Path,
    names: Sequence[str],
    masks: dict[str, Path],
    fingerprint: str,
    cached: Path,
    ordered: bool,
    report: Report,
    ignore: bool,
) -> None:
    from splat.scene.sfm.panoramas import panoramas_among, reconstruct_panoramas
    from splat.scene.sfm.reconstruct import reconstruct

    with result_cache.atomic_folder(cached) as result, tempfile.TemporaryDirectory(prefix="splat-sfm-") as scratch:
        work = Path(scratch)
        photos = prepare(folder, names, masks, work, ignore)
        panoramas = set(panoramas_among(folder, names, [photo.header for photo in photos]))
        if panoramas:
            photos, others = [photo for photo in photos if photo.name in panoramas], len(photos) - len(panoramas)
            found = reconstruct_panoramas(work, photos, report) if len(photos) >= _FEWEST else None
            if found is None or found[1].registered < max(_FEWEST, len(photos) / 2):
                raise InputError(_panoramas_lost(folder, photos, found))
            model, finding = found
        else:
            model, finding = reconstruct(work, photos, ordered, report)
        placed = {image.name for image in model.images.values() if image.has_pose}
        left_out = [photo.name for photo in photos if photo.alias not in placed]
        if len(placed) < max(_FEWEST, len(photos) / 2):
            raise InputError(
                f"only {len(placed)} of the {len(photos)} photos in {folder} could be placed, so the scene would be a "
                "fragment; take more photos in between, each overlapping its neighbours by two thirds, and remove "
                "photos of other places"
            )
        real = {photo.alias: photo.name for photo in photos}
        for image in model.images.values():
            image.name = real[image.name]
        model.write_binary(str(result))
        record = {
            "fingerprint": fingerprint,
            "orientations": {photo.name: photo.header.orientation for photo in photos},
            "notes": _notes(photos, finding, left_out),
            "result": {
                "photos": len(photos),
                "registered": finding.registered,
                "points": finding.points,
                "error": finding.error,
                "angles": list(finding.angles),
                "left_out": left_out,
            },
        }
        if panoramas:
            record["orientations"] = dict.fromkeys(panoramas, 1)  # a panorama's XMP data turns it, not its EXIF data
            record["notes"] = _panorama_notes(record["notes"], len(photos), others)
        write_json(result / result_cache.RECORD, record)


def _registration(folder: Path, result: dict[str, Any]) -> Registration:
    """What the record of the result in ``folder`` says of it. Raises whatever `guarded` makes an InputError of."""
    return Registration(
        folder,
        *(member(result, name, int) for name in ("photos", "registered", "points")),
        float(member(result, "error", float)),
        tuple(float(typed(angle, float, "an angle")) for angle in member(result, "angles", list)),
        tuple(typed(name, str, "a name") for name in member(result, "left_out", list)),
    )


def _panoramas_lost(folder: Path, photos: Sequence[SfmPhoto], found: tuple[object, Finding] | None) -> str:
    placed = "no two" if found is None else f"only {found[1].registered}"
    return (
        f"{len(photos)} photos in {folder} are panoramas, twice as wide as high, and {placed} of them could be placed; "
        "take more panoramas a step or two apart, or give a COLMAP model or a transforms.json of them"
    )


def _panorama_notes(notes: Sequence[str], panoramas: int, others: int) -> list[str]:
    """``notes`` of a model of panoramas, after what was taken for one."""
    said = [
        f"{panoramas} photos are panoramas (twice as wide as high); they were registered by perspective views of them"
    ]
    if others:
        said.append(f"{others} other photos beside the panoramas are left out")
    return [*said, *(note.replace("; field of view 360°, estimated from the photos", "") for note in notes)]


def _notes(photos: Sequence[SfmPhoto], finding: Finding, left_out: Sequence[str]) -> list[str]:
    """What the user should know about the model, in words."""
    angles = sorted({round(angle) for angle in finding.angles})
    seen = f"{angles[0]}°" if len(angles) == 1 else f"{angles[0]}° to {angles[-1]}°" if angles else ""
    known = all(photo.focal is not None for photo in photos)
    origin = "given by EXIF and refined" if known else "estimated from the photos"
    notes = [
        f"structure from motion placed {finding.registered} of {len(photos)} photos with {finding.points} points at "
        f"{finding.error:.2f} pixels" + (f"; field of view {seen}, {origin}" if seen else "")
    ]
    if finding.choice:
        notes.append(finding.choice)
    if left_out:
        listed = ", ".join(left_out[:5]) + (f" and {len(left_out) - 5} more" if len(left_out) > 5 else "")
        notes.append(f"left out, because they could not be placed: {listed}")
    doubts = [doubt for doubt in finding.doubts if "could be placed" not in doubt]
    if doubts:
        notes.append(
            f"the cameras found may be wrong: {'; '.join(doubts)}; if the result looks folded or bent, take more "
            "photos or give a COLMAP model"
        )
    return notes
