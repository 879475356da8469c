"""Names of PLY properties as tools write them, and as this package calls them."""

import re
from collections.abc import Iterable

# CloudCompare puts the first before every scalar field, 3dgsconverter the second.
_PREFIXES = ("scalar_", "scal_")
_OTHER_NAMES = {
    "r": "red", "g": "green", "b": "blue", "a": "alpha",
    "diffuse_red": "red", "diffuse_green": "green", "diffuse_blue": "blue", "diffuse_alpha": "alpha",
}  # fmt: skip
_KNOWN = re.compile(
    r"[xyz]|n[xyz]|red|green|blue|alpha|intensity|opacity|filter_3d|(f_dc|scale|rot)_[0-3]|f_rest_([0-9]|[1-6][0-9]|7[01])"
)
COLOURS = ("red", "green", "blue")
FILTER = "filter_3d"
"""Mip-Splatting's standard deviation of the 3D smoothing filter, world units."""


def known_names(names: Iterable[str]) -> dict[str, str]:
    """Properties that this package reads: the name of each here → as the file spells it.

    Upper case, the prefixes of other tools and other names of colours are seen through; of two spellings of one name,
    the exact one counts.
    """
    found: dict[str, str] = {}
    for name in names:
        plain = _plain(name)
        if _KNOWN.fullmatch(plain) and (plain not in found or name == plain):
            found[plain] = name
    return found


def _plain(name: str) -> str:
    plain = name.lower()
    for prefix in _PREFIXES:
        plain = plain.removeprefix(prefix)
    return _OTHER_NAMES.get(plain, plain)
