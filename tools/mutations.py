"""Damage done to files: to their bytes, their JSON, the lines of their header, the members of their zip."""

import copy
import io
import json
import zipfile
import zlib
from collections.abc import Callable

import fuzz_formats
import numpy as np

ODD = [
    None, True, -1, 0, 1e308, 10**30, 2**31, "", "x", "../x", [], {}, [[]], {"a": 1}, float("inf"), "\ud800", -0.5,
    float("nan"), 10**400, "a\nb", "[/x]", 5e-324,
]  # fmt: skip


def mutant(
    data: bytes,
    other: bytes,
    random: np.random.Generator,
    mend: Callable[[bytes], bytes] | None = None,
    damage: Callable[[bytes, np.random.Generator], bytes] | None = None,
) -> bytes:
    """``data`` damaged: its text, its JSON, a member of its zip, or its bytes; at times joined with ``other``.

    Args:
        mend: gives damaged bytes right checksums.
        damage: damage that only files of one kind know, done three times in four.
    """
    if not data:
        return other
    if damage and random.integers(0, 4):
        return damage(data, random)
    kind = int(random.integers(0, 10))
    if data[:2] == b"PK" and kind < 6:
        return mutate_zip(data, random)
    if data[:1] == b"{" and kind < 7:
        return mutate_json(data, random)
    if data[:4] == b"glTF" and kind < 6:
        size = int.from_bytes(data[12:16], "little")
        text = mutate_json(data[20 : 20 + size], random)
        head = (20 + len(text) + len(data) - 20 - size).to_bytes(4, "little") + len(text).to_bytes(4, "little")
        return data[:8] + head + b"JSON" + text + data[20 + size :]
    if data[:3] == b"ply" and kind < 4:
        return mutate_lines(data, random)
    if data[:2] == b"\x1f\x8b" and kind < 6:
        try:
            return zlib_of(fuzz_formats.mutate(zlib.decompress(data, 31), random))
        except zlib.error:
            return fuzz_formats.mutate(data, random)
    if kind == 9 and other:
        return data[: random.integers(0, len(data) + 1)] + other[random.integers(0, len(other) + 1) :]
    damaged = fuzz_formats.mutate(data, random)
    return mend(damaged) if mend and random.integers(0, 5) and len(damaged) > 16 else damaged


def zlib_of(data: bytes) -> bytes:
    """``data`` as a gzip file."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def mutate_zip(data: bytes, random: np.random.Generator) -> bytes:
    """A zip with one member damaged, renamed, left out or packed in another way, and right checksums."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # a mutant of a mutant need not be a zip
        return fuzz_formats.mutate(data, random)
    if not members:
        return fuzz_formats.mutate(data, random)
    chosen, kind = str(random.choice(sorted(members))), random.integers(0, 8)
    packing = zipfile.ZIP_STORED
    if kind == 0:
        del members[chosen]
    elif kind == 1:
        members[f"x/{chosen}"] = members.pop(chosen)
    elif kind == 2:
        packing = int(random.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))
    elif members[chosen]:
        text = members[chosen][:1] == b"{"
        members[chosen] = (mutate_json if text else fuzz_formats.mutate)(members[chosen], random)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def mutate_json(data: bytes, random: np.random.Generator) -> bytes:
    """JSON with one to three of its values replaced by odd ones, repeated or left out."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return fuzz_formats.mutate(data, random)
    for _ in range(int(random.integers(1, 4))):
        holder, places = tree, list(tree) if isinstance(tree, dict) else []
        while places:
            key = places[int(random.integers(0, len(places)))]
            below = holder[key]
            if isinstance(below, (dict, list)) and below and random.integers(0, 4):
                holder, places = below, list(below) if isinstance(below, dict) else list(range(len(below)))
                continue
            kind = random.integers(0, 8)
            if kind == 0:
                del holder[key]
            elif kind == 1 and isinstance(holder, list):
                holder.append(below)
            elif kind == 2 and isinstance(below, int):
                holder[key] = below + int(random.choice([-1, 1, 7, 255]))
            else:
                holder[key] = copy.deepcopy(ODD[int(random.integers(0, len(ODD)))])
            break
    return json.dumps(tree).encode()


def mutate_lines(data: bytes, random: np.random.Generator) -> bytes:
    """A header of text with a line left out, doubled, moved or with a word exchanged."""
    end = data.find(b"end_header")
    lines = data[:end].split(b"\n")
    at, to = (int(random.integers(0, len(lines))) for _ in range(2))
    words = [b"0", b"-1", b"99999999", b"char", b"double", b"list", b"[/x]", b"ascii", b"binary_big_endian", b"vertex"]
    kind = random.integers(0, 5)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(to, lines[at])
    elif kind == 2:
        lines[at], lines[to] = lines[to], lines[at]
    elif kind == 3:
        parts = lines[at].split(b" ")
        parts[int(random.integers(0, len(parts)))] = words[int(random.integers(0, len(words)))]
        lines[at] = b" ".join(parts)
    else:
        lines.insert(at, b"comment splat extra a uint64 [%d,%d]" % tuple(random.integers(0, 4, 2)))
    return b"\n".join(lines) + data[end:]
