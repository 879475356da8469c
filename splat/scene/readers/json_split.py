"""Which frames of a transforms.json are trained on, tested on, or neither: its lists, or its sibling files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from splat.reading import guarded, member, typed
from splat.scene.listing import listed

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """What the input says about its frames.

    Attributes:
        held_out: True, False or, where nothing is said, None for each frame that is used; by position.
        left_out: positions of the frames that are neither trained on nor tested on.
        notes: sentences about what was left out.
    """

    held_out: list[bool | None]
    left_out: set[int]
    notes: list[str]


def plain_path(file: str) -> str:
    """A path of the file with forward slashes and no leading './', whatever system it was written on."""
    return PurePosixPath(file.replace("\\", "/")).as_posix()


def split_of(named: Sequence[set[str]], files: Sequence[str], notes: Sequence[str] = ()) -> Split:
    """The split of frames that are in the splits ``named``, a set of names from SPLITS for each.

    Validation photos are not trained on, and are no test either, unless there is no other.
    """
    said, held_out, left_out = list(notes), [], set()
    tests, vals, trains = (any(word in each for each in named) for word in ("test", "val", "train"))
    for index, each in enumerate(named):
        if "test" in each or ("val" in each and not tests):
            held_out.append(True)
        elif "val" in each or (trains and "train" not in each and (tests or vals)):
            held_out.append(None)
            left_out.add(index)
        else:
            held_out.append((trains and "train" not in each) if trains or tests or vals else None)
    for word, chosen in (
        ("for validation", [i for i in left_out if "val" in named[i]]),
        ("in none of the lists", [i for i in left_out if "val" not in named[i]]),
    ):
        if chosen:
            verb = "photo is" if len(chosen) == 1 else "photos are"
            names = listed([files[i] for i in sorted(chosen)])
            said.append(f"{len(chosen)} {verb} {word} and left out of training and test ({names})")
    rest = sum(not each for each in named) if trains and not (tests or vals) else 0
    if rest:
        said.append(f"there is a list of photos to train on alone; the other {rest} are held out as the test")
    both = [file for file, each in zip(files, named, strict=True) if "train" in each and each != {"train"}]
    if both:
        said.append(f"to train on and to test on were named {listed(both)}; what is tested on is not trained on")
    return Split(held_out, left_out, said)


def lists_of(meta: dict[str, Any], files: Sequence[str], path: Path) -> tuple[list[set[str]], list[str]]:
    """For each of ``files`` the splits whose list (``train_filenames``, …) names it, and notes. Raises InputError.

    Names are compared as paths, else without suffix, else by their last part where that is unique.
    """
    result: list[set[str]] = [set() for _ in files]
    keys = [_keys(file) for file in files]
    lookup = [_by_key([key[level] for key in keys]) for level in range(3)]
    notes = []
    for split in SPLITS:
        with guarded(path, f"'{split}_filenames'"):
            names = [plain_path(typed(n, str, "a name")) for n in member(meta, f"{split}_filenames", list, [])]
        unknown = []
        for name in names:
            key = _keys(name)
            rows = next((lookup[level][key[level]] for level in range(3) if key[level] in lookup[level]), None)
            if rows is None or len(rows) > 1 and key[0] not in lookup[0]:
                unknown.append(name)
                continue
            for row in rows:
                result[row].add(split)
        if unknown:
            notes.append(f"{split}_filenames names {len(unknown)} that are no frames ({listed(unknown)})")
    return result, notes


def _keys(name: str) -> tuple[str, str, str]:
    """What names are compared by: the path, the path without suffix, the last part without suffix."""
    path = PurePosixPath(name)
    stem = path.with_suffix("") if path.name else path
    return path.as_posix(), stem.as_posix().lower(), stem.name.lower()


def _by_key(keys: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        found.setdefault(key, []).append(row)
    return found
