"""Fuzzing that learns: mutants of small files that reach new lines of a reader are mutated further.

    python tools/fuzz.py --minutes 10 --reader ply          # coverage-guided
    python tools/fuzz.py --cases 10000                      # the same mutants every time, of every reader

Each reader runs in worker processes. An input must be read or refused with InputError in one line, within SECONDS of
the processor's time, and memory may grow by four times the file and SLACK. Anything else is a failure: the input is
kept and printed. A new target is one entry in TARGETS: how to make small sound files, how to read one, and what damages
it well.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import fuzz_formats
import fuzz_runs
import fuzz_scenes
import fuzz_viewer
import mutations
from fuzz_clouds import foreign, neural, read_cloud, reseal_checked, sog_folder, usd_in_forks, written

from splat import formats
from splat.errors import InputError

SECONDS = 10  # for one input, of the processor's time, as the machine may be busy
WAIT = 600  # seconds by the clock, after which a worker that waits for something hangs
TRACED = 20  # how many times as long an input may take while lines are traced, before it is read again without
TIMES, SLACK = 4, 300 << 20  # memory that an input may take: so many times its size, and bytes
LIMIT = 3 << 30  # address space of a worker beyond what it holds, so that the machine stays usable
SEEDS = Path(__file__).parents[1] / "tests" / "formats" / "seeds"


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    Attributes:
        seeds: makes small sound inputs in a folder and returns the files that are to be damaged.
        read: reads the damaged file; whatever it raises but InputError is a failure.
        mend: gives damaged bytes right checksums, so that the damage gets past them.
        damage: does, most of the time, damage that only files of this kind know.
        prepare: called once with the seeds before the first is read.
    """

    seeds: Callable[[Path], list[Path]]
    read: Callable[[Path], Any]
    mend: Callable[[bytes], bytes] | None = None
    damage: Callable[[bytes, np.random.Generator], bytes] | None = None
    prepare: Callable[[list[Path]], None] = field(default=lambda seeds: None)


# ---- targets ----

MENDS = {"splatz": fuzz_formats.reseal}
TARGETS = {name: Target(written(name), read_cloud, MENDS.get(name)) for name in fuzz_formats.VARIANTS if name != "usd"}
TARGETS["usd"] = Target(written("usd"), read_cloud, prepare=usd_in_forks)
TARGETS |= {name: Target(neural(name), read_cloud, reseal_checked) for name in ("vectree", "codebooks", "neuralgs")}
TARGETS |= {name: Target(partial(foreign, name), read_cloud) for name in ("mip.ply", "checkpoint", "pcd", "text")}
TARGETS["sog-folder"] = Target(sog_folder, read_cloud)
TARGETS |= {
    f"colmap-{stem}-{kind}": Target(partial(fuzz_scenes.colmap, kind, stem), fuzz_scenes.read_scene)
    for kind in ("bin", "txt")
    for stem in ("cameras", "images", "points3D", "rigs", "frames")
}
TARGETS |= {
    "transforms": Target(fuzz_scenes.transforms, fuzz_scenes.read_scene),
    "sparse-ply": Target(fuzz_scenes.sparse_ply, fuzz_scenes.read_sparse_ply),
    "photo": Target(fuzz_scenes.pictures, fuzz_scenes.read_picture),
    "camera-path": Target(fuzz_scenes.camera_path, fuzz_scenes.read_path),
    "viewer-camera": Target(fuzz_viewer.pose_message, fuzz_viewer.read_pose_message),
    "viewer-controls": Target(fuzz_viewer.control_messages, fuzz_viewer.read_control_messages),
    "checkpoint": Target(fuzz_runs.checkpoints, fuzz_runs.read_checkpoint, damage=fuzz_runs.damage_checkpoint),
    "run-config": Target(fuzz_runs.settings, fuzz_runs.read_run, damage=fuzz_runs.damage_toml),
    "run-metrics": Target(fuzz_runs.metrics, fuzz_runs.read_run),
}


# ---- workers ----


def spent() -> float:
    """Seconds of work by this process and its children, which a busy machine does not change."""
    return sum(os.times()[:4])


class Coverage:
    """Lines of the package that were reached, by sys.settrace; ``new`` counts those not seen before."""

    def __init__(self) -> None:
        self.seen: set[tuple[Any, int]] = set()
        self.new = 0
        self.home = str(Path(formats.__file__).parents[1])

    def __enter__(self) -> "Coverage":
        self.new = 0
        sys.settrace(self.call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def call(self, frame: Any, _event: str, _value: Any) -> Any:
        return self.line if frame.f_code.co_filename.startswith(self.home) else None

    def line(self, frame: Any, _event: str, _value: Any) -> Any:
        place = (frame.f_code, frame.f_lineno)
        if place not in self.seen:
            self.seen.add(place)
            self.new += 1
        return self.line


def work(
    name: str, first: int, cases: int, seconds: float, seed: int, keep: str, learned: str | None, report: Connection
) -> None:
    """Run inputs ``first`` to ``cases``, or for ``seconds`` of work; send (case, outcome, file) before and after each.

    ``learned`` is a folder for inputs that reach new lines, and with those of earlier runs.
    """
    warnings.simplefilter("ignore")
    target, guided = TARGETS[name], seconds > 0
    with tempfile.TemporaryDirectory() as folder:
        paths = target.seeds(Path(folder))
        corpus = [(path, path.read_bytes()) for path in paths]
        if guided:
            found = kept_seeds(name) + (kept_seeds(name, Path(learned)) if learned else [])
            corpus += [(home_of(seed, paths), seed.read_bytes()) for seed in found]
        target.prepare(paths)
        for path in paths:
            target.read(path)  # loads what the reader needs, whose memory is not the file's
        if name != "usd":  # limits itself
            held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (held + LIMIT, held + LIMIT))
        coverage, case = Coverage(), first
        if guided:
            for path, data in corpus:
                sound = path.read_bytes()
                path.write_bytes(data)
                attempt(target, path, coverage)
                path.write_bytes(sound)
        until = spent() + seconds
        while spent() < until if guided else case < cases:
            random = np.random.default_rng((seed, case))
            path, data = corpus[int(random.integers(0, len(corpus))) if guided else case % len(corpus)]
            other = corpus[int(random.integers(0, len(corpus)))][1]
            damaged = mutations.mutant(data, other, random, target.mend, target.damage)
            inside = len(path.relative_to(folder).parts) > 1
            place = path if inside else Path(folder) / f"case{path.name[1:]}"
            place.write_bytes(damaged)
            last = Path(keep) / f"{name}-last{path.suffix}"
            last.write_bytes(damaged)
            report.send((case, "", str(last)))
            outcome = attempt(target, place, coverage if guided else None)
            report.send((case, outcome, str(last)))
            if guided and coverage.new and len(damaged) < 1 << 20:
                corpus.append((path, damaged))
                if learned:
                    (Path(learned) / f"{name}-{seed}_{case}{path.suffix}").write_bytes(damaged)
            if inside:
                path.write_bytes(dict(corpus[: len(paths)])[path])
            case += 1
    report.send((case, "end", ""))


def kept_seeds(name: str, folder: Path = SEEDS) -> list[Path]:
    """Inputs of the target ``name`` in ``folder``, by default those of the tree: what once failed."""
    return [path for path in sorted(folder.iterdir()) if path.name.rpartition("-")[0] == name]


def home_of(seed: Path, paths: list[Path]) -> Path:
    """Which of the sound files ``paths`` the input ``seed`` stands for: one of the same kind."""
    return next((path for path in paths if path.suffix == seed.suffix), paths[0])


def attempt(target: Target, path: Path, coverage: Coverage | None) -> str:
    """ "read", "refused", or what went wrong."""
    held, start = fuzz_formats.reset_peak(), time.process_time()
    try:
        if coverage is None:
            target.read(path)
        else:
            with coverage:
                target.read(path)
        outcome = "read"
    except InputError as error:
        outcome = "refused" if str(error).strip() and "\n" not in str(error) else f"several lines: {error}"
    except Exception as error:  # what the exercise is for
        return f"{type(error).__name__}: {error}"
    grown, seconds = fuzz_formats.peak() - held, time.process_time() - start
    if grown > TIMES * path.stat().st_size + SLACK:
        return f"memory: {grown >> 20} MB for {path.stat().st_size:,} bytes ({outcome})"
    if coverage is not None and seconds >= SECONDS:  # tracing is what takes long
        return attempt(target, path, None)
    return outcome if seconds < SECONDS else f"slow: {seconds:.0f} s ({outcome})"


def fuzz(
    name: str, cases: int, minutes: float, seed: int, keep: Path, first: int = 0, learned: Path | None = None
) -> dict[str, int]:
    """Counts by outcome of the target ``name``; a worker that crashes or hangs is replaced.

    Args:
        cases, minutes: run mutant ``first`` to this one, or guided for so long; the other is 0.
        keep: folder for inputs that fail.
        learned: folder for inputs that reach new lines.
    """
    counts = {"read": 0, "refused": 0, "failed": 0}
    guided, seconds = minutes > 0, 60 * minutes
    spawn, running = multiprocessing.get_context("spawn"), True
    while running:
        ours, theirs = spawn.Pipe(duplex=False)
        worker = spawn.Process(
            target=work,
            args=(name, first, cases, seconds, seed, str(keep), learned and str(learned), theirs),
            daemon=name != "usd",
        )
        worker.start()
        theirs.close()
        case, outcome, last = first - 1, "", ""
        while True:
            try:
                if not answers(ours, worker.pid, SECONDS * (TRACED if guided else 2)):
                    outcome = "hang"
                    break
                case, outcome, last = ours.recv()
            except EOFError:
                worker.join()
                outcome = f"crash: exit code {worker.exitcode}"
                break
            if outcome == "end":
                running = False
                break
            if outcome in counts:
                counts[outcome] += 1
            elif outcome:
                note_failure(name, case, outcome, last, keep, counts)
        if running:
            if not last:
                raise RuntimeError(f"{name}: the worker does not start ({outcome})")
            note_failure(name, case, outcome, last, keep, counts)
            seconds = max(seconds - max(processor_seconds(worker.pid), SECONDS), 1) if guided else 0
            worker.kill()
            first = case + 1
        worker.join()
    return counts


def answers(connection: Connection, pid: int, seconds: float) -> bool:
    """Whether the worker ``pid`` sends something before it has used so much of the processor, or WAIT is over."""
    used, end = processor_seconds(pid), time.monotonic() + WAIT
    while not connection.poll(2):
        if processor_seconds(pid) - used > seconds or time.monotonic() > end:
            return False
    return True


def processor_seconds(pid: int) -> float:
    """What the process ``pid`` has used of the processor so far, with its children that ended; 0 if it is over."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def note_failure(name: str, case: int, outcome: str, last: str, keep: Path, counts: dict[str, int]) -> None:
    """Keep the input of a failure and print where it is."""
    counts["failed"] += 1
    kept = keep / f"{name}-{case}{Path(last).suffix}"
    kept.write_bytes(Path(last).read_bytes())
    print(f"{name} case {case}: {outcome[:300]!r}; the input is {kept}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=0, help="coverage-guided, for so long of the processor's time")
    parser.add_argument("--cases", type=int, default=0, help="mutants of the seeds instead, the same every time")
    parser.add_argument("--first", type=int, default=0, help="begin with this mutant: a long run in parts")
    parser.add_argument("--reader", action="append", choices=sorted(TARGETS), help="one target; all if none is named")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "splat-fuzz", help="for failures")
    parser.add_argument("--corpus", type=Path, help="folder with what earlier runs with --minutes learned; added to")
    options = parser.parse_args()
    if (options.minutes > 0) == (options.cases > 0):
        parser.error("give --minutes or --cases")
    for folder in filter(None, (options.keep, options.corpus)):
        folder.mkdir(parents=True, exist_ok=True)
    # Freed memory goes back at once, so that each input's own need is seen.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    failed = 0
    for name in options.reader or TARGETS:
        start, used = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        counts = fuzz(name, options.cases, options.minutes, options.seed, options.keep, options.first, options.corpus)
        failed += counts["failed"]
        words = ", ".join(f"{count:,} {word}" for word, count in counts.items())
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - used
        print(f"{name}: {words}, {time.time() - start:.0f} s, {used:.0f} s of the processor", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
