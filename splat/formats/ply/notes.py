"""What there is to say of a PLY before its picture is looked at, from its header alone."""

from splat.formats.ply.header import Header
from splat.formats.ply.names import FILTER, known_names

_MOST_NAMES = 6
_POINTS_NAMES = frozenset(("x", "y", "z", "nx", "ny", "nz", "red", "green", "blue", "alpha"))


def of_cloud(header: Header, noted: set[str]) -> tuple[str, ...]:
    """Sentences about a Gaussian cloud; ``noted`` are its columns that our own writer named."""
    vertex = header.element("vertex")
    spelt = known_names(vertex.names)
    notes = []
    if FILTER in spelt:
        notes.append(f"Mip-Splatting's {spelt[FILTER]} is worked into scales and opacities")
    if "scale_2" not in spelt:
        notes.append("its Gaussians have two scales (2DGS) and become flat ones")
    others = [name for name in vertex.names if name not in noted and name not in spelt.values()]
    if others:
        notes.append(f"{_listed(others)} no part of a Gaussian cloud: no picture shows that")
    return tuple(notes)


def of_points(header: Header) -> tuple[str, ...]:
    """Sentences about a point cloud."""
    vertex = header.element("vertex")
    spelt = known_names(vertex.names)
    notes = [
        f"a point cloud of {vertex.count:,} points without Gaussians: each becomes a ball as large as the mean distance"
        " to its three nearest neighbours"
    ]
    read = {spelt[name] for name in _POINTS_NAMES & set(spelt)}
    others = [name for name in vertex.names if name not in read]
    if others:
        notes.append(f"{_listed(others)} not read")
    return tuple(notes) + _lists(header)


def _lists(header: Header) -> tuple[str, ...]:
    faces = header.element("face")
    return () if faces is None or not faces.count else (f"its {faces.count:,} faces are not read",)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    words = "properties" if len(names) > 1 else "property"
    return f"the {words} {', '.join(names[:_MOST_NAMES])}{more} {'are' if len(names) > 1 else 'is'}"
