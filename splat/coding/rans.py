"""The entropy coder of `.splatz`: many range-variant ANS coders side by side, so that NumPy codes a row at a time.

rANS after Duda 2013 ("Asymmetric numeral systems"): a state x in [2^16, 2^32) a lane, 16-bit words, frequencies that
sum to 2^14. Symbols are 0 to 255; larger values are a symbol that says how many plain bits follow. A symbol's table may
depend on a context that the reader knows already, and on the symbol before it in the same lane.
"""

import zlib

import numpy as np

from splat.coding.parallel import pieces
from splat.coding.rans_tables import (
    PRECISION,
    TOTAL,
    Damaged,
    inflate,
    normalise,
    pack_curves,
    pack_tables,
    unpack_curves,
    unpack_tables,
)

LOWEST = 1 << 16  # of a state
PER_LANE = {0: 512, 16: 2048}  # symbols, by a bit of the mode; a lane costs four bytes
LONG = 16
QUICK = 1 << 18  # symbols from which on many coders make decoding quicker
DIRECT = 224  # values below are their own symbol, the others say their number of bits
FEWEST = 100  # symbols for each table, on average
CURVED, SPLIT = 4, 8  # bits of the mode: tables are curves through a few levels; with one for even and one for odd
MEMORY = 6  # groups of preceding symbols that are told apart
PIECE = 1 << 14  # values whose plain bits are held one by one
HEAD = np.dtype([("bits", "<u4"), ("tables", "<u4"), ("words", "<u4")])


def lanes_of(count: int, mode: int) -> int:
    """How many coders run side by side over ``count`` symbols."""
    return max(1, count // PER_LANE[mode & LONG])


def encode(values: np.ndarray, contexts: np.ndarray | None = None, context_count: int = 1) -> bytes:
    """Code ``values`` (N,) ≥ 0 below 2^31, each with the table of its context (N,) below ``context_count``."""
    values = np.asarray(values, np.int64).reshape(-1)
    if len(values) == 0:
        return b""
    symbols, extra, sizes = _symbols(values)
    contexts = np.zeros(len(values), np.int64) if contexts is None else np.asarray(contexts, np.int64).reshape(-1)
    long = LONG if len(symbols) < QUICK else 0
    lanes = lanes_of(len(symbols), long)
    steps = -(-len(symbols) // lanes)
    fill = np.full(steps * lanes - len(symbols), len(symbols) - 1)
    rows = np.concatenate([np.arange(len(symbols)), fill]).reshape(lanes, steps).T
    symbols, contexts = symbols[rows], contexts[rows]
    groups = _groups(symbols)
    before = np.concatenate([np.zeros((1, lanes), np.int64), groups[symbols[:-1]]])
    best = None
    for mode in (0, 1, 2, 3):
        kinds = (context_count if mode & 1 else 1) * (MEMORY if mode & 2 else 1)
        if (mode & 1 and context_count == 1) or (kinds > 1 and kinds * FEWEST > symbols.size):
            continue  # tables that few symbols would use cost more than they save
        table = (contexts if mode & 1 else 0) * (MEMORY if mode & 2 else 1) + (before if mode & 2 else 0)
        table = np.broadcast_to(table, symbols.shape)
        counts = np.bincount((table * 256 + symbols).reshape(-1), minlength=kinds * 256).reshape(kinds, 256)
        for curved in (0, CURVED, CURVED | SPLIT):
            packed = pack_curves(counts, curved & SPLIT) if curved else pack_tables(normalise(counts))
            frequencies = unpack_curves(packed, kinds, curved & SPLIT) if curved else normalise(counts)
            cost = len(packed) - (counts * np.log2(np.maximum(frequencies, 1) / TOTAL)).sum() / 8
            if best is None or cost < best[0]:
                best = (cost, mode | curved | long, table, frequencies, packed)
    _, mode, table, frequencies, packed = best
    states, words = _encode(symbols, table, frequencies)
    plain = pack_bits(extra, sizes)
    head = np.array([(len(plain), len(packed), len(words))], HEAD).tobytes()
    memory = groups.astype(np.uint8).tobytes() if mode & 2 else b""
    memory = zlib.compress(memory, 9) if memory else b""
    start = bytes([mode]) + len(memory).to_bytes(2, "little") + memory
    return head + start + packed + plain + states.astype("<u4").tobytes() + words.astype("<u2").tobytes()


def decode(data: bytes, count: int, contexts: np.ndarray | None = None, context_count: int = 1) -> np.ndarray:
    """The ``count`` values (int64) that `encode` was given, with the same contexts. Raises Damaged."""
    if count == 0:
        return np.zeros(0, np.int64)
    check_length(data, count)
    head = np.frombuffer(data, HEAD, 1)[0]
    at = HEAD.itemsize
    mode, length = data[at], int.from_bytes(data[at + 1 : at + 3], "little")
    at, lanes = at + 3, lanes_of(count, mode)
    groups = np.frombuffer(inflate(data[at : at + length], 256), np.uint8) if mode & 2 else np.zeros(256, np.uint8)
    at += length
    kinds = (context_count if mode & 1 else 1) * (MEMORY if mode & 2 else 1)
    tables = data[at : at + int(head["tables"])]
    frequencies = unpack_curves(tables, kinds, mode & SPLIT) if mode & CURVED else unpack_tables(tables, kinds)
    at += int(head["tables"])
    plain = data[at : at + int(head["bits"])]
    at += int(head["bits"])
    if mode > 31 or groups.max(initial=0) >= MEMORY or len(data) != at + 4 * lanes + 2 * int(head["words"]):
        raise Damaged("a stream's parts do not fit its length")
    states = np.frombuffer(data, "<u4", lanes, at).astype(np.int64)
    words = np.frombuffer(data, "<u2", int(head["words"]), at + 4 * lanes).astype(np.int64)
    steps = -(-count // lanes)
    base = None
    if mode & 1 and contexts is None:
        raise Damaged("a stream knows contexts that its reader does not")
    if mode & 1:
        full = np.concatenate([contexts, np.full(steps * lanes - count, contexts[-1])]).astype(np.int32)
        base = np.ascontiguousarray(full.reshape(lanes, steps).T) * np.int32(MEMORY if mode & 2 else 1)
    symbols = _decode(states, words, steps, base, groups.astype(np.int64) if mode & 2 else None, frequencies)
    symbols = np.ascontiguousarray(symbols.T).reshape(-1)[:count]
    values, long = symbols.astype(np.int64), np.flatnonzero(symbols >= DIRECT)
    sizes = values[long] - DIRECT
    values[long] = DIRECT - 1 + (np.int64(1) << sizes) + unpack_bits(plain, sizes)
    return values


def check_length(data: bytes, count: int) -> None:
    """Raises Damaged if ``data`` is too short for a stream of ``count`` symbols, before anything is made of it."""
    least = HEAD.itemsize + 3
    if count and (len(data) < least or len(data) < least + 4 * lanes_of(count, data[HEAD.itemsize])):
        raise Damaged("a stream is too short")


def _symbols(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Symbols of ``values``, their plain bits, and how many of those."""
    above = np.maximum(values - (DIRECT - 1), 1)
    sizes = np.where(values >= DIRECT, np.frexp(above.astype(np.float64))[1] - 1, 0).astype(np.int64)
    return np.where(values >= DIRECT, DIRECT + sizes, values), above - (np.int64(1) << sizes), sizes


def _groups(symbols: np.ndarray) -> np.ndarray:
    """(256,) group of each symbol as a predecessor: ranges of about equal weight."""
    share = np.cumsum(np.bincount(symbols.reshape(-1), minlength=256)) / symbols.size
    return np.minimum((share - 1e-9) * MEMORY, MEMORY - 1).astype(np.int64)


def _encode(symbols: np.ndarray, table: np.ndarray, frequencies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    starts = np.cumsum(frequencies, 1) - frequencies
    frequency, start = frequencies[table, symbols], starts[table, symbols]
    states = np.full(symbols.shape[1], LOWEST, np.int64)
    written = []
    for step in range(len(symbols) - 1, -1, -1):
        share = frequency[step]
        full = states >= share << 18
        written.append((states[full] & 0xFFFF).astype(np.uint16))
        states = np.where(full, states >> 16, states)
        whole = states // share
        states = (whole << PRECISION) + (states - whole * share) + start[step]
    return states, np.concatenate(written[::-1]) if written else np.zeros(0, np.uint16)


def _decode(
    states: np.ndarray,
    words: np.ndarray,
    steps: int,
    base: np.ndarray | None,
    groups: np.ndarray | None,
    frequencies: np.ndarray,
) -> np.ndarray:
    """Symbols (``steps``, lanes) uint8; ``base`` of the same shape is the table that each takes by its context."""
    kinds = len(frequencies)
    starts = np.cumsum(frequencies, 1) - frequencies
    lookup = np.zeros((kinds, TOTAL), np.uint8)
    for row in np.flatnonzero(frequencies.sum(1)):
        lookup[row] = np.repeat(np.arange(256, dtype=np.uint8), frequencies[row])
    lookup, frequency, start = lookup.reshape(-1), frequencies.reshape(-1), starts.reshape(-1)
    symbols = np.empty((steps, len(states)), np.uint8)
    at, before, first = 0, np.zeros(len(states), np.int64), np.zeros(len(states), np.int64)
    for step in range(steps):
        table = first if base is None else base[step].astype(np.int64)
        table = table if groups is None else table + before
        slot = states & (TOTAL - 1)
        symbol = lookup[(table << PRECISION) + slot].astype(np.int64)
        symbols[step] = symbol
        entry = (table << 8) + symbol
        states = frequency[entry] * (states >> PRECISION) + slot - start[entry]
        needy = np.flatnonzero(states < LOWEST)
        if at + len(needy) > len(words):
            raise Damaged("a stream ends too soon")
        states[needy] = (states[needy] << 16) | words[at : at + len(needy)]
        at += len(needy)
        if groups is not None:
            before = groups[symbol]
    if at != len(words) or (states != LOWEST).any():
        raise Damaged("a stream does not end where it began")
    return symbols


def pack_bits(values: np.ndarray, sizes: np.ndarray) -> bytes:
    """The lowest ``sizes`` (N,) bits of ``values`` (N,), highest first, without gaps."""
    total = int(sizes.sum())
    if total == 0:
        return b""
    place = np.repeat(np.cumsum(sizes), sizes) - 1 - np.arange(total)
    return np.packbits(((np.repeat(values, sizes) >> place) & 1).astype(np.uint8)).tobytes()


def unpack_bits(data: bytes, sizes: np.ndarray) -> np.ndarray:
    """The values (N,) int64 that `pack_bits` was given. Raises Damaged when the length is another."""
    total = int(sizes.sum())
    if len(data) != -(-total // 8):
        raise Damaged("plain bits are missing")
    values, first = np.zeros(len(sizes), np.int64), 0
    if total == 0:
        return values
    packed = np.frombuffer(data, np.uint8)
    for rows in pieces(len(sizes), PIECE):
        ends = np.cumsum(sizes[rows])
        last = int(ends[-1])
        skip = first % 8  # bits of the first byte that belong to the values before
        bits = np.unpackbits(packed[first // 8 : -(-(first + last) // 8)])[skip : skip + last].astype(np.int64)
        place = np.repeat(ends, sizes[rows]) - 1 - np.arange(last)
        sums = np.concatenate([[0], np.cumsum(bits << place)])
        values[rows] = sums[ends] - sums[ends - sizes[rows]]
        first += last
    return values


def zigzag(values: np.ndarray) -> np.ndarray:
    """Signed integers as 0, −1, 1, −2, … → 0, 1, 2, 3, …"""
    return np.where(values < 0, -2 * values - 1, 2 * values)


def unzigzag(values: np.ndarray) -> np.ndarray:
    """The inverse of `zigzag`."""
    return np.where(values & 1, -(values + 1) // 2, values // 2)
