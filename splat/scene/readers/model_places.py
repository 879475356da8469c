"""Where a COLMAP model lies: in the usual folders, or a level down or up; and which of several sub-models is meant."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from splat.errors import InputError
from splat.reading import read_bytes
from splat.scene.readers import colmap_text

KINDS = ("bin", "txt")
FILES = frozenset(f"{stem}.{kind}" for stem in ("cameras", "images", "points3D", "rigs", "frames") for kind in KINDS)
_LEVELS_UP = 3  # from sparse/0 of an undistorted scene to the folder with its photos


@dataclass(frozen=True)
class Place:
    """A model and the folders below which its photos may be, the likeliest first."""

    model: Path
    roots: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def is_model(folder: Path) -> bool:
    """Whether ``folder`` holds at least one file of a COLMAP model (which may be incomplete)."""
    return any((folder / f"{stem}.{kind}").is_file() for stem in ("cameras", "images") for kind in KINDS)


def kind_of(folder: Path) -> str:
    """``bin`` or ``txt``: the kind of files that the model in ``folder`` is read from, a complete one before others."""
    whole = [k for k in KINDS if all((folder / f"{stem}.{k}").is_file() for stem in ("cameras", "images"))]
    some = [k for k in KINDS if any((folder / f"{stem}.{k}").is_file() for stem in ("cameras", "images"))]
    return (whole + some + ["txt"])[0]


def first_place(root: Path) -> Place | None:
    """The model in ``sparse`` of ``root``: it goes before a transforms.json."""
    return _place(root, root / "sparse")


def all_places(root: Path) -> list[Place]:
    """Every usual place of a model in ``root``, or around it where ``root`` is part of a model; the likeliest first."""
    names = ("sparse", "colmap/sparse", "distorted/sparse", "", "undistorted/sparse", "dense/sparse", "dense")
    places = [_place(root, root / name if name else root) for name in names]
    return [place for place in places if place is not None]


def find_model(root: Path, names: Sequence[str]) -> Path | None:
    """The largest model in the first of the folders ``names`` of ``root`` that holds one, or None."""
    for name in names:
        place = _place(root, root / name)
        if place is not None:
            return place.model
    return None


def _place(root: Path, folder: Path) -> Place | None:
    """The model in ``folder``, or the largest of the sub-models in its folders."""
    models, notes = [folder] if is_model(folder) else [], ()
    if folder.name == "sparse":
        models = [child for child in folders_in(folder) if is_model(child)] + models
    elif models:
        notes = _siblings_note(folder)
    else:  # elsewhere only numbers are sub-models
        numbers = [child for child in folders_in(folder) if child.name.isdecimal()]
        places = [each for child in numbers for each in (child, child / "sparse/0", child / "sparse")]
        models = [each for each in places if is_model(each)]
    if not models:
        return None
    if len(models) > 1:
        sizes = {model: count_images(model) for model in models}
        models = sorted(models, key=lambda model: -sizes[model])
        others = ", ".join(f"{_short(model, root)} has {sizes[model]}" for model in models[1:])
        notes = (
            f"of {len(models)} models {_short(models[0], root)} is used, which has the most photos, "
            f"{sizes[models[0]]}; {others}",
        )
    return Place(models[0], _roots(root, models[0]), notes)


def _short(model: Path, root: Path) -> str:
    return model.relative_to(root).as_posix() if root in model.parents else model.name


def _siblings_note(model: Path) -> tuple[str, ...]:
    """What is beside a sub-model that was asked for itself."""
    if not model.name.isdecimal():
        return ()
    own = count_images(model)
    others = [each for each in folders_in(model.parent) if each != model and is_model(each)]
    larger = [f"{each.name} with {count_images(each)}" for each in others if count_images(each) > own]
    return (f"model {model.name} was asked for and has {own} photos; there is {', '.join(larger)}",) if larger else ()


def _roots(root: Path, model: Path) -> tuple[Path, ...]:
    """Folders from the model's own upwards: to ``root``, or some levels up where ``root`` is within the model."""
    chain = [model, *model.parents]
    if root != model and root in model.parents:
        chain = chain[: chain.index(root) + 1]
        is_part = root.name == "sparse"
    else:
        chain, is_part = [root], True
    if is_part:
        above = [each for each in Path(os.path.abspath(root)).parents if each != each.parent]
        chain += above[:_LEVELS_UP]
    return tuple(chain)


def folders_in(folder: Path) -> list[Path]:
    """Folders in ``folder`` that are not hidden, by name."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except OSError:  # it is none, or closed to us: then it holds no model that could be read
        return []
    return [folder / name for name in sorted(names)]


def count_images(model: Path) -> int:
    """Images in the model; 0 where that cannot be told."""
    path = model / f"images.{kind_of(model)}"
    try:
        if path.suffix == ".txt":
            return len(colmap_text.images(path))
        return int.from_bytes(read_bytes(path)[:8], "little")
    except InputError:  # said when the model is read
        return 0
