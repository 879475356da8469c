"""Feed damaged files to every reader: each must give an InputError or a valid cloud, quickly and in little memory.

    python tools/fuzz_formats.py --cases 10000

A crash, a hang, any other error, or memory far beyond what the file claims is a failure and leaves the file behind.
"""

import argparse
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import torch

from splat import formats
from splat.cloud import GaussianCloud
from splat.errors import InputError

SECONDS = 20  # for one small file; a reader that needs longer hangs
MEMORY = 1 << 30  # address space beyond what the process held before the first case
RESIDENT = 256 << 20  # growth of resident memory over all cases of a format
VARIANTS = {
    "ply": [("a.ply", {})],
    "compressed-ply": [("a.compressed.ply", {})],
    "splat": [("a.splat", {})],
    "ksplat": [("a.ksplat", {"level": level}) for level in (0, 1, 2)],
    "spz": [("a.spz", {"version": version}) for version in (2, 3, 4)],
    "sog": [("a.sog", {})],
    "gltf": [("a.glb", {}), ("a.gltf", {}), ("b.glb", {"spz": True})],
    "points": [("a.points.ply", {})],
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
        at, length = random.integers(0, size), random.integers(1, 1 + size // 2)
        return np.delete(raw, slice(at, at + length)).tobytes()
    if kind == 5:  # a block twice
        at, length = random.integers(0, size), random.integers(1, 1 + size // 2)
        return np.concatenate([raw[: at + length], raw[at:]]).tobytes()
    if kind == 6:  # a digit of a text header changed
        digits = np.flatnonzero((raw[:3000] >= 48) & (raw[:3000] <= 57))
        for at in random.choice(digits, min(len(digits), random.integers(1, 4))) if len(digits) else ():
            raw[at] = 48 + random.integers(0, 10)
        return raw.tobytes()
    at, length = random.integers(0, size), random.integers(1, 1 + size // 4)  # noise
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


def valid(cloud: GaussianCloud) -> bool:
    """Whether ``cloud`` keeps the promises of its type (which its constructor checks) and can be used."""
    n = len(cloud)
    return cloud.means.dtype == torch.float32 and cloud.sh.shape[0] == n and len(cloud.select(cloud.finite())) <= n


def fuzz(name: str, cases: int, seed: int, keep: Path) -> dict[str, int]:
    """Run ``cases`` damaged files through ``read``; counts by outcome. Files that fail are left in ``keep``."""
    signal.signal(signal.SIGALRM, _hang)
    counts = {"refused": 0, "read": 0, "failed": 0}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sources = []
        for file, options in VARIANTS[name]:
            path = folder / file
            formats.write(sample_cloud(), path, **options)
            formats.read(path)
            sources.append((path, path.read_bytes()))
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        if name != "usd":  # read in a process of its own, with a limit of its own
            resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for case in range(cases):
            random = np.random.default_rng((seed, case))
            path, data = sources[case % len(sources)]
            zipped = path.suffix in (".sog", ".usdz") and random.integers(0, 2)
            damaged = mutate_archive(path, random) if zipped else mutate(data, random)
            target = folder / f"case{path.name[1:]}"
            target.write_bytes(damaged)
            last = keep / f"{name}-last{path.suffix}"
            last.write_bytes(damaged)  # what a crash would leave behind
            outcome = attempt(target, name)
            counts[outcome if outcome in counts else "failed"] += 1
            if outcome not in counts:
                print(f"{name} case {case}: {outcome}", file=sys.stderr)
                (keep / f"{name}-{case}{path.suffix}").write_bytes(damaged)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        if grown > RESIDENT:
            counts["failed"] += 1
            print(f"{name}: resident memory grew by {grown >> 20} MiB", file=sys.stderr)
    return counts


def attempt(path: Path, name: str) -> str:
    """'refused', 'read', or what went wrong."""
    signal.alarm(SECONDS)
    try:
        return "read" if valid(formats.read(path, name)) else "an invalid cloud"
    except InputError as error:
        return "refused" if str(error).strip() and "\n" not in str(error) else f"a message of several lines: {error}"
    except Exception as error:  # the point of the exercise: anything else is a defect
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)


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
    print(f"{'format':16} {'refused':>8} {'read':>8} {'failed':>8} {'seconds':>8}")
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
        done = subprocess.run([*command, "--keep", str(options.keep)], stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - start
        if done.returncode:
            print(f"{name:16} crashed with exit code {done.returncode}; the file is {options.keep}/{name}-last*")
            bad += 1
            continue
        counts = json.loads(done.stdout.splitlines()[-1])
        bad += counts["failed"]
        print(f"{name:16} {counts['refused']:8} {counts['read']:8} {counts['failed']:8} {seconds:8.1f}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
