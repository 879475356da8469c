"""The boundary at which files of others are read: what is opened, how much of it, and how damage becomes a sentence."""

import json
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from splat.errors import InputError

# What a reader meets in damaged bytes. TypeError and AttributeError are left out: they are defects of a reader.
DAMAGE = (
    ValueError,  # with UnicodeError, JSONDecodeError and what NumPy finds wrong with shapes
    LookupError,
    ArithmeticError,
    EOFError,
    RecursionError,
    NotImplementedError,  # a way of packing that Python's zipfile knows by name alone
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)
# Python's objects are larger than the text that they are read from, at worst by these bytes for each sign.
_JSON_BYTES = {b"{": 80, b"[": 64, b",": 32, b'"': 30}
JSON_SLACK = 100 << 20  # bytes that a small text may take


@contextmanager
def guarded(path: Path | str, part: str) -> Iterator[None]:
    """Turn what damage of ``path`` causes inside into InputError with the file, the ``part`` of it and the reason.

    What the list `DAMAGE` does not name passes through: it is no fault of the file.
    """
    try:
        yield
    except MemoryError as error:
        raise InputError(f"{path}: {part} needs more memory than is free; use a larger machine") from error
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: cannot be read ({reason}); check the file and its permissions") from error
    except DAMAGE as error:
        raise InputError(
            f"{path}: {part} cannot be understood ({reason_of(error)}); make or copy the file again"
        ) from error


def reason_of(error: BaseException) -> str:
    """``error`` in a few words on one line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, KeyError) and error.args:
        return f"{str(error.args[0])[:60]!r} is missing"
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def require_file(path: Path | str) -> Path:
    """``path`` if it is an ordinary file. Raises InputError for pipes and devices, which may never end, and others."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise InputError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); check the path and its permissions"
        ) from error
    if not stat.S_ISREG(mode):
        kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}
        kind = next((word for test, word in kinds.items() if test(mode)), "a device")
        raise InputError(f"{path} is {kind}, expected a file; save what it holds in a file first")
    return path


def read_bytes(path: Path | str, most: int | None = None) -> bytes:
    """The bytes of an ordinary file, at most ``most``. Raises InputError."""
    path = require_file(path)
    with guarded(path, "the file"):
        size = path.stat().st_size
        if most is not None and size > most:
            raise InputError(f"{path}: {size:,} bytes are too many, expected at most {most:,}; check the file")
        return path.read_bytes()


def parse_json(data: bytes, path: Path | str, part: str) -> dict[str, Any]:
    """The JSON object in ``data``, if what Python makes of it stays in bounds. Raises InputError, naming ``part``."""
    value = parse_any_json(data, path, part)
    if not isinstance(value, dict):
        raise InputError(f"{path}: {part} is JSON but no object; make or copy the file again")
    return value


def parse_any_json(data: bytes, path: Path | str, part: str, times: int = 3) -> Any:
    """As `parse_json`, of any JSON that may take so many ``times`` its bytes: points are written tersely."""
    need = sum(size * data.count(sign) for sign, size in _JSON_BYTES.items())
    if need > times * len(data) + JSON_SLACK:
        raise InputError(f"{path}: {part} has too many entries for {len(data):,} bytes of JSON; check the file")
    with guarded(path, part):
        return json.loads(data)


_WORDS = {int: "a whole number", float: "a number", str: "text", list: "a list", dict: "an object"}
_ABSENT = object()


def member(holder: Any, name: str, kind: type, default: Any = _ABSENT) -> Any:
    """``holder[name]`` of parsed JSON, if it is of ``kind`` (float: any number). Raises ValueError otherwise."""
    if not isinstance(holder, dict):
        raise ValueError(f"{_shown(holder)} stands where an object with '{name}' was expected")
    value = holder.get(name, default)
    if value is _ABSENT:
        raise ValueError(f"'{name}' is missing")
    return value if value is default else typed(value, kind, f"'{name}'")


def typed(value: Any, kind: type, what: str) -> Any:
    """``value`` of parsed JSON if it is of ``kind``. Raises ValueError, calling it ``what``."""
    wanted = (int, float) if kind is float else kind
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise ValueError(f"{what} is {_shown(value)}, expected {_WORDS[kind]}")
    return value


def element(values: list, index: Any, what: str) -> Any:
    """``values[index]`` of parsed JSON. Raises ValueError where ``index`` is no place in the list of ``what``."""
    if typed(index, int, f"the number of {what}") < 0 or index >= len(values):
        raise ValueError(f"{what} {_shown(index)} of {len(values):,} was asked for")
    return values[index]


def _shown(value: Any) -> str:
    """A short picture of parsed JSON, whatever its size."""
    if isinstance(value, (dict, list)):
        return f"{_WORDS[type(value)]} of {len(value):,}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**20:
        return f"a number of {value.bit_length():,} bits"
    return repr(value)[:60]
