"""Which folder the photos of a reconstruction are in, and which file is meant by each name."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from splat.errors import InputError
from splat.scene.images import IMAGE_SUFFIXES
from splat.scene.listing import list_images, listed
from splat.scene.masks import among_photos
from splat.scene.pictures.kinds import PLAIN, without_twins

FOLDERS = ("images", "image", "input", "rgb", "photos", "frames")
PHOTO_FOLDER = re.compile(rf"({'|'.join(FOLDERS)})(_(\d{{1,3}}))?")  # shrunk copies have the factor in their name
_FIRST = (".png", ".jpg", ".jpeg")  # where a name has no suffix, as in Blender's synthetic sets
# What renderers write beside photos.
_NO_PHOTO = re.compile(
    r"(?:^|[_.-])(?:depth|normal|mask|alpha|disp|disparity|albedo|semantic|segmentation)s?(?:[_.-]|$)"
)
_LARGEST_FACTOR = 999


@dataclass(frozen=True)
class Photos:
    """Where photos are.

    Attributes:
        folder: of the photos that ``names`` are relative to; masks lie beside it.
        files: file by name, for those that are there.
        factor: by which the files are shrunk.
        notes: sentences about what was chosen.
        copy: the shrunk copy of ``folder`` that the files are in, if there is one.
    """

    folder: Path
    files: dict[str, Path]
    factor: int = 1
    notes: tuple[str, ...] = ()
    copy: Path | None = None


def find_photos(roots: Sequence[Path], names: Sequence[str], downscale: float, what: str) -> Photos:
    """The photos ``names`` in one of the usual folders of ``roots`` (the best first), or in those folders themselves.

    The folder that holds most of them is taken. Shrunk copies of it (``images_4``) serve where ``downscale`` allows
    them, or where there is nothing else. Raises InputError where there is no photo at all; ``what`` names the model.
    """
    bases = [root / name for root in roots for name in (*FOLDERS, "") if (root / name).is_dir()]
    best = _best(bases, names)
    if best is None:
        best = _only_shrunk(roots, names, downscale) or _without_folders(bases, names)
    if best is None:
        raise _nowhere(roots, bases, names, what)
    return _for_downscale(best, names, downscale)


def photos_in(folder: Path, names: Sequence[str], downscale: float) -> Photos:
    """As `find_photos`, where the folder is known. There may be no photo."""
    match = PHOTO_FOLDER.fullmatch(folder.name)
    files = match_names(folder, names)
    return _for_downscale(Photos(folder, files, int(match[3] or 1) if match else 1), names, downscale)


def missing_note(names: Sequence[str], photos: Photos, holder: str) -> list[str]:
    """A sentence about those of ``names`` that are not there, if there are some."""
    missing = sorted({name for name in names if name not in photos.files})
    if not missing:
        return []
    verb = "photo of {} is" if len(missing) == 1 else "photos of {} are"
    return [f"{len(missing)} {verb.format(holder)} not there ({listed(missing)})"]


def unnamed_note(photos: Photos, holder: str, named: Collection[str] = ()) -> list[str]:
    """A sentence about photos in the folder that nothing names, if there are some."""
    folder = photos.copy or photos.folder
    names = without_twins(among_photos(list_images(folder)))
    return _unnamed([name for name in names if name not in named], folder, photos.files.values(), holder)


def beside_note(photos: Photos, masks: Iterable[Path], holder: str) -> list[str]:
    """As `unnamed_note`, of the folders that the photos are in, not below; depths and such are told by their names."""
    known = [*photos.files.values(), *masks]
    found = []
    for folder in sorted({path.parent for path in photos.files.values()}):
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if _is_photo(Path(entry.path)))
        names = [name for name in without_twins(among_photos(names)) if not _NO_PHOTO.search(name.lower())]
        found += _unnamed(names, folder, known, holder)
    return found


def _unnamed(names: Sequence[str], folder: Path, known: Iterable[Path], holder: str) -> list[str]:
    """A sentence about those of ``names`` in ``folder`` that are not among the files ``known``."""
    real = {os.path.realpath(path) for path in known if os.path.exists(path)}
    others = [name for name in names if os.path.realpath(folder / name) not in real]
    if not others:
        return []
    photos, verb = ("photo", "is") if len(others) == 1 else ("photos", "are")
    return [f"{len(others)} {photos} in {folder.name} {verb} in {holder} ({listed(others)})"]


def _best(bases: Sequence[Path], names: Sequence[str]) -> Photos | None:
    best: Photos | None = None
    for base in bases:
        files = match_names(base, names)
        if files and (best is None or len(files) > len(best.files)):
            best = Photos(base, files)
        if len(files) == len(set(names)):
            break
    return best


def _only_shrunk(roots: Sequence[Path], names: Sequence[str], downscale: float) -> Photos | None:
    """The least shrunk copy, where the photos themselves are gone."""
    for root in roots:
        copies = [copy for name in FOLDERS for copy in _copies(root, name, _LARGEST_FACTOR)]
        found = [Photos(path, match_names(path, names), factor) for factor, path in sorted(copies)]
        most = max((len(photos.files) for photos in found), default=0)
        if most:
            chosen = next(photos for photos in found if len(photos.files) == most)
            note = (
                f"the photos are there only shrunk, in {', '.join(photos.folder.name for photos in found)}; "
                f"{chosen.folder.name} is used"
            )
            return Photos(chosen.folder, chosen.files, chosen.factor, () if downscale >= chosen.factor else (note,))
    return None


def _without_folders(bases: Sequence[Path], names: Sequence[str]) -> Photos | None:
    """Photos found by the last part of their names, where that part is unique on both sides."""
    lasts = Counter(PurePosixPath(name).name.lower() for name in names)
    for base in bases:
        if base.name not in FOLDERS:
            continue
        present: dict[str, list[str]] = {}
        for name in list_images(base):
            present.setdefault(PurePosixPath(name).name.lower(), []).append(name)
        files = {}
        for name in names:
            last = PurePosixPath(name).name.lower()
            if lasts[last] == 1 and len(present.get(last, ())) == 1:
                files[name] = base / present[last][0]
        if files:
            return Photos(base, files, notes=(f"photos in {base.name} are found by their names without folders",))
    return None


def _nowhere(roots: Sequence[Path], bases: Sequence[Path], names: Sequence[str], what: str) -> InputError:
    folder = next((base for base in bases if base.name in FOLDERS), None)
    if folder is None:
        return InputError(
            f"{what} has {len(names)} images, but there is no folder with them (looked for {names[0]} in images, "
            f"image, input and rgb of {roots[0]}); put the photos into a folder 'images' there"
        )
    others = f" and {len(names) - 1} of the other {len(names) - 1}" if len(names) > 1 else ""
    return InputError(
        f"the image {folder / names[0]}{others} named in {what} does not exist; put the images there, or remove them "
        "from the model"
    )


def _copies(root: Path, name: str, most: float) -> list[tuple[int, Path]]:
    """Folders ``name_N`` in ``root`` with 1 < N ≤ ``most``."""
    found = []
    for path in root.iterdir() if root.is_dir() else ():
        match = re.fullmatch(re.escape(name) + r"_(\d{1,3})", path.name)
        if match and 1 < int(match[1]) <= most and path.is_dir():
            found.append((int(match[1]), path))
    return found


def _for_downscale(photos: Photos, names: Sequence[str], downscale: float) -> Photos:
    """The most shrunk copy that ``downscale`` allows and that holds all ``photos``; a note if one was skipped."""
    stem = re.sub(r"_\d{1,3}$", "", photos.folder.name) if photos.factor > 1 else photos.folder.name
    notes = photos.notes
    if not stem:
        return photos
    present = [name for name in names if name in photos.files]
    for factor, path in sorted(_copies(photos.folder.parent, stem, downscale), reverse=True):
        if factor <= photos.factor:
            break
        files = match_names(path, present)
        missing = [name for name in present if name not in files]
        if not missing:
            return Photos(photos.folder, files, factor, notes, path)
        note = f"{path.name} lacks {len(missing)} of {len(present)} images ({missing[0]}), so it was not used"
        notes = (*photos.notes, note)
    return Photos(photos.folder, photos.files, photos.factor, notes)


# ---- names ----


def match_names(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """The file of each of ``names`` in ``folder``, also where case or image suffix differ; no file serves two names."""
    files = {name: folder / name for name in names if PurePosixPath(name).name and os.path.exists(folder / name)}
    rest = [name for name in names if name not in files]
    if rest:
        taken, folders = set(files.values()), _Folders()
        for name in dict.fromkeys(rest):
            path = folders.find(folder, PurePosixPath(name), taken)
            if path is not None:
                files[name] = path
                taken.add(path)
    return files


def match_file(folder: Path, name: str) -> Path | None:
    """The file ``name`` below ``folder``, also where case differs, or where ``name`` is a whole path elsewhere."""
    parts, folders = PurePosixPath(name).parts, _Folders()
    for start in range(len(parts) if _is_whole_path(name) else 1):
        path = folders.file(folder, PurePosixPath(*parts[start:]))
        if path is not None:
            return path
    return None


class _Folders:
    """Folders listed once each, by lower-case names."""

    def __init__(self) -> None:
        self.lists: dict[Path, dict[str, list[str]]] = {}

    def entries(self, folder: Path) -> dict[str, list[str]]:
        """Names in ``folder`` by their lower-case form without an image suffix, and whole."""
        if folder not in self.lists:
            found: dict[str, list[str]] = {}
            try:
                present = sorted(os.listdir(folder))
            except (OSError, ValueError):  # no such folder: then it holds nothing
                present = []
            for name in present:
                stem, suffix = os.path.splitext(name.lower())
                for key in {name.lower(), stem if suffix in IMAGE_SUFFIXES else name.lower()}:
                    found.setdefault(key, []).append(name)
            self.lists[folder] = found
        return self.lists[folder]

    def folder_of(self, folder: Path, name: PurePosixPath) -> Path | None:
        """The folder of ``name`` below ``folder``, whatever the case of its parts."""
        if name.is_absolute() or ".." in name.parts or not name.parts:
            return None
        for part in name.parts[:-1]:
            inside = [each for each in self.entries(folder).get(part.lower(), ()) if (folder / each).is_dir()]
            if not inside:
                return None
            folder = folder / (part if part in inside else inside[0])
        return folder

    def file(self, folder: Path, name: PurePosixPath) -> Path | None:
        """The file ``name`` below ``folder``, whatever the case."""
        place = self.folder_of(folder, name)
        for each in () if place is None else self.entries(place).get(name.name.lower(), ()):
            if each.lower() == name.name.lower() and (place / each).is_file():
                return place / each
        return None

    def find(self, folder: Path, name: PurePosixPath, taken: set[Path]) -> Path | None:
        """The photo ``name`` below ``folder`` that is not ``taken``, whatever the case and image suffix."""
        folder = self.folder_of(folder, name)
        if folder is None:
            return None
        last = name.name.lower()
        stem = last if not re.fullmatch(r"\.[a-z][a-z0-9]{1,4}", name.suffix.lower()) else os.path.splitext(last)[0]
        for key in dict.fromkeys((last, stem)):
            candidates = [each for each in self.entries(folder).get(key, ()) if _is_photo(folder / each)]
            for each in sorted(candidates, key=lambda each: (each.lower() != last, _rank(each))):
                if folder / each not in taken:
                    return folder / each
        return None


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _rank(name: str) -> tuple[int, str]:
    """Plain formats go before those that need a package."""
    suffix = os.path.splitext(name)[1].lower()
    return (_FIRST.index(suffix) if suffix in _FIRST else len(_FIRST) + (suffix not in PLAIN), name)


def relative_names(names: Sequence[str], roots: Sequence[Path]) -> list[str]:
    """``names`` with those that are whole paths of another machine cut to what is found below ``roots``.

    Where nothing is found, the last part is left, unless the path is one of this machine.
    """
    if not any(_is_whole_path(name) for name in names):
        return list(names)
    bases, folders = [root / name for root in roots for name in ("", *FOLDERS)], _Folders()
    result, last = [], 1  # the number of parts that was cut last
    for name in names:
        parts = PurePosixPath(name).parts
        if _is_whole_path(name) and len(parts) > 1:
            starts = (last, *range(1, len(parts)))
            tails = [PurePosixPath(*parts[start:]) for start in starts if start < len(parts)]
            found = next((tail for tail in tails if any(folders.find(base, tail, set()) for base in bases)), None)
            if found is not None:
                last = len(parts) - len(found.parts)
            if found is not None or not os.path.isfile(name):
                name = str(found or parts[-1])
        result.append(name)
    return result if len(set(result)) == len(set(names)) else list(names)


def _is_whole_path(name: str) -> bool:
    return name.startswith("/") or re.match(r"[A-Za-z]:/", name) is not None
