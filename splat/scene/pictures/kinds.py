"""Which files are photos, by their suffix: read always, with a package, or never."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import PurePosixPath

from PIL import features

PLAIN = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".pgm"})


@dataclass(frozen=True)
class Kind:
    """Photos that a package reads.

    Attributes:
        module: what is imported, or a feature of Pillow ("PIL:avif").
        package: what to install.
    """

    suffixes: tuple[str, ...]
    module: str
    package: str

    @property
    def installed(self) -> bool:
        """Whether photos of this kind can be read here."""
        module, _, feature = self.module.partition(":")
        return bool(features.check(feature)) if feature else find_spec(module) is not None


# The first ones go before later ones where files of one name have both suffixes.
OPTIONAL = (
    Kind((".avif",), "PIL:avif", "-U pillow"),
    Kind((".heic", ".heif", ".hif"), "pillow_heif", "pillow-heif"),
    Kind((".jxl",), "pillow_jxl", "pillow-jxl-plugin"),
    Kind((".exr",), "OpenEXR", "openexr"),
    Kind(
        (
            *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".raf", ".rw2", ".pef"),
            *(".srw", ".3fr", ".iiq", ".erf", ".mrw", ".kdc", ".dcr", ".x3f", ".gpr"),
        ),
        "rawpy",
        "rawpy",
    ),
)
RAW = frozenset(OPTIONAL[-1].suffixes)
NEVER = frozenset({".gif", ".jp2", ".j2k", ".jxr", ".psd", ".hdr", ".dpx", ".cin", ".tga", ".pcx", ".xcf", ".insp"})
ALL = PLAIN | {suffix for kind in OPTIONAL for suffix in kind.suffixes}


def suffix_of(name: str) -> str:
    """The suffix of ``name`` in lower case, with its dot."""
    return PurePosixPath(name).suffix.lower()


def kind_of(suffix: str) -> Kind | None:
    """The kind of photos with this suffix; None for those read always, and for files that are none."""
    return next((kind for kind in OPTIONAL if suffix in kind.suffixes), None)


def readable() -> frozenset[str]:
    """Suffixes of the photos that can be read on this machine."""
    return PLAIN | {suffix for kind in OPTIONAL if kind.installed for suffix in kind.suffixes}


def without_twins(names: Iterable[str]) -> list[str]:
    """``names`` without those that another file of the same name shows in a plainer format (IMG_1.DNG by IMG_1.JPG)."""
    best: dict[str, int] = {}
    ranks = [(name, _stem(name), _rank(name)) for name in names]
    for _, stem, rank in ranks:
        best[stem] = min(rank, best.get(stem, rank))
    return [name for name, stem, rank in ranks if rank == best[stem]]


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return (path.with_suffix("").as_posix() if path.name else name).casefold()


def _rank(name: str) -> int:
    kind = kind_of(suffix_of(name))
    return 0 if kind is None else 1 + OPTIONAL.index(kind)


def left_out(names: Iterable[str], used: Collection[str]) -> list[str]:
    """A note for each kind of photo among ``names`` that is not read, and for those that have a plainer twin in
    ``used``."""
    stems = {_stem(name) for name in used}
    unread: Counter[str] = Counter()
    twins: Counter[str] = Counter()
    used = set(used)
    for name in names:
        suffix = suffix_of(name)
        kind = kind_of(suffix)
        if name in used or (kind is None and suffix not in NEVER):
            continue
        shown = PurePosixPath(name).suffix
        if _stem(name) in stems:
            twins[shown] += 1
        elif kind is None or not kind.installed:
            unread[shown] += 1
    notes = [f"{count} {suffix} {_photos(count)} left out: {advice(suffix)}" for suffix, count in unread.items()]
    return notes + [
        f"{count} {suffix} {_photos(count)} left out: other files of the same name are used"
        for suffix, count in twins.items()
    ]


def _photos(count: int) -> str:
    return "photo is" if count == 1 else "photos are"


def advice(suffix: str) -> str:
    """What to do about photos with ``suffix`` that are not read."""
    kind = kind_of(suffix.lower())
    return "convert them to JPEG or PNG" if kind is None else f"pip install {kind.package}, or convert them to JPEG"
