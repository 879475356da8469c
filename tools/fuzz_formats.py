"""Feed damaged files to every reader: each must give an InputError or a valid cloud, quickly and in little memory.

    python tools/fuzz_formats.py --cases 10000

A crash, a hang, any other error, or memory beyond four times what the file claims is a failure and leaves the file
behind. Memory is the peak of resident memory while one file is read, which Linux lets a process reset
(/proc/self/clear_refs), against the largest of the file's size, the cloud that came out and the one that was damaged.
USD files are read by children of a process that has usd-core loaded; theirs is the peak of the child.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from splat import formats
from splat.cloud import GaussianCloud
from splat.cloud_arrays import FIELDS, GaussianArrays
from splat.errors import InputError
from splat.formats.splatz import container
from splat.formats.usd import reader_process, usd

SECONDS = 20  # for one small file; a reader that needs longer hangs
MEMORY = 1 << 30  # address space beyond what the process held before the first case
TIMES = 4  # the file's claim
SLACK = {"usd": reader_process.MEMORY + (12 << 20)}  # bytes whatever the size: usd-core and its code, touched first now
USUAL_SLACK = 3 << 20
VARIANTS = {
    "ply": [("a.ply", {})],
    "compressed-ply": [("a.compressed.ply", {})],
    "splat": [("a.splat", {})],
    "ksplat": [("a.ksplat", {"level": level}) for level in (0, 1, 2)],
    "spz": [("a.spz", {"version": version}) for version in (2, 3, 4)],
    "sog": [("a.sog", {})],
    "gltf": [("a.glb", {}), ("a.gltf", {}), ("b.glb", {"spz": True})],
    "points": [("a.points.ply", {})],
    "streamed-sog": [("folder/lod-meta.json", {"levels": 1})],
    "splatz": [("a.splatz", {}), ("b.splatz", {"layers": 3})],
    "usd": [("a.usdc", {}), ("a.usda", {}), ("a.usdz", {})],
}


def sample_cloud(count: int = 300, degree: int = 3, seed: int = 0) -> GaussianCloud:
    """A plausible random cloud."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    sh = (0.3 * normal(count, (degree + 1) ** 2, 3)).clamp(-0.9, 0.9)
    return GaussianCloud(normal(count, 3), normal(count, 3) - 4, normal(count, 4), 2 * normal(count), sh)


def mutate(data: bytes, random: np.random.Generator) -> bytes:
    """``data`` damaged in one of the ways files get damaged, and in some that an attacker would choose."""
    raw = np.frombuffer(data, np.uint8).copy()
    kind = random.integers(0, 8)
    size = len(raw)
    if size < 4:  # next to nothing
        return data + bytes([random.integers(0, 256)])
    if kind == 0:  # cut off
        return raw[: random.integers(0, size)].tobytes()
    if kind == 1:  # bits flipped anywhere
        for at in random.integers(0, size, random.integers(1, 20)):
            raw[at] ^= 1 << random.integers(0, 8)
        return raw.tobytes()
    if kind == 2:  # bytes replaced near the start, where headers are
        for at in random.integers(0, min(size, 4200), random.integers(1, 12)):
            raw[at] = random.integers(0, 256)
        return raw.tobytes()
    if kind == 3:  # an extreme 32-bit number in the header
        at = random.integers(0, max(1, min(size, 300) - 4))
        value = random.choice(np.array([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 24, 1 << 28], np.uint32))
        raw[at : at + 4] = np.frombuffer(value.tobytes(), np.uint8)[: size - at]
        return raw.tobytes()
    if kind == 4:  # a block missing
        at, length = random.integers(0, size), random.integers(1, max(2, 1 + size // 2))
        return np.delete(raw, slice(at, at + length)).tobytes()
    if kind == 5:  # a block twice
        at, length = random.integers(0, size), random.integers(1, max(2, 1 + size // 2))
        return np.concatenate([raw[: at + length], raw[at:]]).tobytes()
    if kind == 6:  # a digit of a text header changed
        digits = np.flatnonzero((raw[:3000] >= 48) & (raw[:3000] <= 57))
        for at in random.choice(digits, min(len(digits), random.integers(1, 4))) if len(digits) else ():
            raw[at] = 48 + random.integers(0, 10)
        return raw.tobytes()
    at, length = random.integers(0, size), random.integers(1, max(2, 1 + size // 4))  # noise
    raw[at : at + length] = random.integers(0, 256, len(raw[at : at + length]), dtype=np.uint8)
    return raw.tobytes()


def mutate_archive(path: Path, random: np.random.Generator) -> bytes:
    """The zip ``path`` with one member damaged and the checksums right, so that the damage reaches the decoder."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = random.choice(sorted(members))
    members[chosen] = mutate(members[chosen], random)
    out = path.with_name("mutated.zip")
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.read_bytes()


def reseal(data: bytes) -> bytes:
    """A damaged .splatz whose checksums are right, as far as its parts can still be found."""
    raw = bytearray(data)
    if len(raw) < container.HEADER.size:
        return data
    wide = 3 * ((raw[10] + 1) ** 2 - 1)
    start, end = 0, container.HEADER.size + container.HEADER.unpack_from(raw)[6] * (wide + 4)
    while end + 4 <= len(raw):
        raw[end : end + 4] = container.CHECK.pack(zlib.crc32(raw[start:end]))
        start = end + 4
        if start + container.LAYER.size > len(raw):
            break
        end = start + container.LAYER.size + container.LAYER.unpack_from(raw, start)[1]
    return bytes(raw)


def valid(table: GaussianArrays) -> bool:
    """Whether ``table`` keeps the promises of its type (the constructor of `GaussianCloud` checks most)."""
    kinds = [getattr(table, name).dtype for name in FIELDS]
    right = kinds[0] in (np.float32, np.float64) and all(kind == np.float32 for kind in kinds[1:])
    return right and len(table.cloud()) == len(table)


def fuzz(name: str, cases: int, seed: int, keep: Path) -> dict[str, float]:
    """Run ``cases`` damaged files through ``read``; counts by outcome. Files that fail are left in ``keep``."""
    for kind in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(kind, _hang)
    counts = {"refused": 0, "read": 0, "failed": 0, "memory": 0.0}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sources = []
        for file, options in VARIANTS[name]:
            path = folder / file
            formats.write(sample_cloud(), path, **options)
            attempt(path, name)
            sources.append((path, path.read_bytes()))
        if name == "splatz":  # version 4
            path = folder / "c.splatz"
            table = GaussianArrays.of(sample_cloud())
            path.write_bytes(container.encode(table, detail=np.arange(len(table)) % 8 - 4))
            sources.append((path, path.read_bytes()))
        if name == "usd":  # limits itself
            usd.extract = extract_in_fork
            _sound.extend(path for path, _ in sources)
        else:
            held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
        for case in range(cases):
            random = np.random.default_rng((seed, case))
            path, data = sources[case % len(sources)]
            zipped = path.suffix in (".sog", ".usdz") and random.integers(0, 2)
            damaged = mutate_archive(path, random) if zipped else mutate(data, random)
            if path.suffix == ".splatz" and random.integers(0, 4):
                damaged = reseal(damaged)
            target = path if name == "streamed-sog" else folder / f"case{path.name[1:]}"
            target.write_bytes(damaged)
            last = keep / f"{name}-last{path.suffix}"
            last.write_bytes(damaged)  # what a crash would leave behind
            outcome, grown = attempt(target, name)
            counts["memory"] = max(counts["memory"], grown)
            counts[outcome if outcome in counts else "failed"] += 1
            if outcome not in counts:
                print(f"{name} case {case}: {outcome}", file=sys.stderr)
                (keep / f"{name}-{case}{path.suffix}").write_bytes(damaged)
    return counts


def attempt(path: Path, name: str) -> tuple[str, int]:
    """'refused', 'read', or what went wrong; and the bytes by which memory grew meanwhile."""
    claim = max(path.stat().st_size, SAMPLE_BYTES)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of its own, however busy the machine is
    signal.alarm(30 * SECONDS)
    before = reset_peak()
    try:
        table = formats.read_table(path, name)
        grown = peak() - before
        claim = max(claim, sum(getattr(table, field).nbytes for field in FIELDS))
        outcome = "read" if valid(table) else "an invalid cloud"
    except InputError as error:
        grown = peak() - before
        outcome = "refused" if str(error).strip() and "\n" not in str(error) else f"a message of several lines: {error}"
    except Exception as error:  # the point of the exercise: anything else is a defect
        return f"{type(error).__name__}: {error}", 0
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
    grown = max(grown, _child_grown)
    times = max(TIMES, reader_process.times(path)) if name == "usd" else TIMES
    if grown > times * claim + SLACK.get(name, USUAL_SLACK):
        outcome = f"{grown:,} bytes of memory for a claim of {claim:,}"
    return outcome, grown


def reset_peak() -> int:
    """Forget this process's peak of resident memory; the resident memory now, bytes. 0 where Linux is not."""
    global _child_grown
    _child_grown = 0
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return peak()


def peak() -> int:
    """The peak of resident memory since the last `reset_peak`, bytes; 0 where Linux is not."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def extract_in_fork(path: Path, out: Path) -> tuple[int, str]:
    """As `usd.extract`, in a fork of this process, which has usd-core loaded: a hundred times as fast."""
    global _child_grown
    said = out.with_suffix(".txt")
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        for sound in _sound:  # a fork holds no page of the libraries until it is touched, and they are not the file's
            reader_process.extract(str(sound))
        os.write(theirs, b"%d" % reset_peak())
        os.dup2(os.open(said, os.O_CREAT | os.O_WRONLY), 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        code = 1
        try:
            code = reader_process.main(str(path), str(out))
            sys.stdout.flush()
        finally:
            os._exit(code)
    os.close(theirs)
    held = int(os.read(ours, 32))
    os.close(ours)
    _, status, usage = os.wait4(child, 0)
    _child_grown = max(0, (usage.ru_maxrss << 10) - held)
    return status, said.read_text(errors="replace").strip()


_child_grown = 0
_sound: list[Path] = []
SAMPLE_BYTES = GaussianArrays.of(sample_cloud()).sh.nbytes * 59 // 48


class Hang(Exception):
    """A reader did not come back in time."""


def _hang(_signal, _frame) -> None:
    raise Hang(f"no answer within {SECONDS} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="damaged files per format")
    parser.add_argument("--formats", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--keep", type=Path, default=Path(tempfile.gettempdir()) / "splat-fuzz", help="for failing files"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if options.child:
        print(json.dumps(fuzz(options.child, options.cases, options.seed, options.keep)))
        return 0
    bad = 0
    print(f"{'format':16} {'refused':>8} {'read':>8} {'failed':>8} {'memory':>10} {'seconds':>8}")
    for name in options.formats:
        # Each format in its own process, so that a crash of a C library is seen and survived.
        command = [
            sys.executable,
            __file__,
            "--child",
            name,
            "--cases",
            str(options.cases),
            "--seed",
            str(options.seed),
        ]
        start = time.perf_counter()
        # The allocator gives freed blocks back at once, so that each file's own need is seen.
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
        command += ["--keep", str(options.keep)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
        seconds = time.perf_counter() - start
        if done.returncode:
            print(f"{name:16} crashed with exit code {done.returncode}; the file is {options.keep}/{name}-last*")
            bad += 1
            continue
        counts = json.loads(done.stdout.splitlines()[-1])
        bad += counts["failed"]
        row = f"{counts['refused']:8} {counts['read']:8} {counts['failed']:8} {counts['memory'] / 1e6:7.1f} MB"
        print(f"{name:16} {row} {seconds:8.1f}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
