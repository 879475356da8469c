"""What lies beside the photos of a scene and is not used: photos of kinds that are not read, masks of no photo."""

from pathlib import Path, PurePosixPath

from splat.scene.build import RawScene
from splat.scene.listing import list_files
from splat.scene.masks import among_photos, unmatched_note
from splat.scene.pictures import kinds

_NO_PHOTOS = ("depth", "normal", "disp")  # in names of what renderers and sensors write beside photos


def folder_notes(raw: RawScene, masks: bool) -> list[str]:
    """Notes on what is left out of the folder of ``raw``'s photos; on masks only if they are used."""
    if not raw.views:
        return []
    folder, used = _folder(raw)
    notes = unread(folder, used)
    if masks:
        notes += unmatched_note(folder, {view.mask for view in raw.views if view.mask is not None})
    return notes


def _folder(raw: RawScene) -> tuple[Path, list[str]]:
    """The folder of the photos of ``raw``, and their names below it."""
    first = raw.views[0]
    depth = len(PurePosixPath(first.name).parts)
    folder = first.path.parents[min(depth, len(first.path.parents)) - 1]
    names = [view.path.relative_to(folder).as_posix() for view in raw.views if view.path.is_relative_to(folder)]
    return folder, names


def unread(folder: Path, used: list[str]) -> list[str]:
    """A note for each kind of photos in ``folder`` that is not read; ``used`` are those that are."""
    if not folder.is_dir():
        return []
    names = among_photos(list_files(folder, kinds.ALL | kinds.NEVER))
    names = [name for name in names if not any(word in name.lower() for word in _NO_PHOTOS)]
    return kinds.left_out(names, used)
