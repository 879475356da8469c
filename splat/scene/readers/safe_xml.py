"""XML of strangers as a tree, in bounds: no document types, hence no entities, and a limited number of elements."""

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from splat.reading import guarded, read_bytes

_LARGEST = 256 << 20  # bytes
_MOST_ELEMENTS = 2_000_000
_DEEPEST = 60


def read_xml(path: Path, part: str) -> Element:
    """The root element of the XML file ``path``. Raises InputError, naming ``part``."""
    data = read_bytes(path, _LARGEST)
    with guarded(path, part):
        return _parse(data)


def _parse(data: bytes) -> Element:
    builder, parser = TreeBuilder(), expat.ParserCreate()
    opened, depth = 0, 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal opened, depth
        opened, depth = opened + 1, depth + 1
        if opened > _MOST_ELEMENTS or depth > _DEEPEST:
            raise ValueError(f"it has more than {_MOST_ELEMENTS:,} elements, or is nested deeper than {_DEEPEST}")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"it is no XML: {error}") from error
    return builder.close()


def _refuse(*_: object) -> None:
    raise ValueError("it declares a document type, which no export has")
