"""Commands whose n-th call of the system fails: is nothing lost, and is it said in one sentence?

    python tools/fault_injection.py --results faults.jsonl [--commands train convert …] [--kinds write core …]
    python tools/fault_injection.py --kill --results kills.jsonl

Each command runs under a shim (fault_shim.c) once for every n and every error that fits the call; where a command makes
more than --first such calls, --beyond more are spread over the rest. Afterwards
- the exit code is 0, or 2 with exactly one sentence on standard error and no traceback;
- the file that was to be replaced is the old or the new one, whole; with exit code 0 it is the new one;
- the next run (of `train`: with --resume) ends with the result of a run that nothing befell, bit for bit;
- after it no temporary file is left.
--kill ends the process (SIGKILL) at the n-th call that changes files instead. Results go on where they stopped.
"""

import argparse
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fault_server import KILL, SHORT, Answer, Fault, Server, compiled

CODES = {
    "write": ("ENOSPC", "EIO", "EINTR", "SHORT"),
    "fsync": ("EIO", "ENOSPC", "EINTR"),
    "rename": ("ENOSPC", "EIO"),
    "open": ("ENOSPC", "EIO", "EINTR"),
    "mmap": ("ENOMEM",),
    "malloc": ("ENOMEM",),
    "core": ("ENOMEM",),
}
OPTIONS = ["--steps", "3", "--gaussians", "80", "--preset", "default", "--checkpoint-seconds", "0.000001"]
OLD = b"old"


@dataclass(frozen=True)
class Command:
    """Attributes:
    arguments: of the command, {out} is its folder.
    result: the file that it makes, below that folder.
    start: folder with what is there before; None: only an old file in the place of the result.
    entry: "module:function" that gets the arguments.
    """

    arguments: tuple[str, ...]
    result: str
    start: Path | None = None
    entry: str = "splat.cli:main"

    def prepare(self, out: Path) -> None:
        """Make ``out`` what it is before the command."""
        shutil.rmtree(out, ignore_errors=True)
        if self.start is not None:
            shutil.copytree(self.start, out)
        else:
            out.mkdir()
            (out / self.result).write_bytes(OLD)

    def again(self, out: Path) -> list[str]:
        """What is run after a fault: the same, or a run's resumption where there is something to resume."""
        run = out / "run"
        if "train" in self.arguments and ((run / "config.toml").exists() or any(run.glob("checkpoints/step_*"))):
            return ["train", "--out", str(run), "--resume"]
        return self.given(out)

    def given(self, out: Path) -> list[str]:
        return [part.replace("{out}", str(out)) for part in self.arguments]


def commands(folder: Path, server: Server) -> dict[str, Command]:
    """The five commands, on inputs made in ``folder``."""
    made = folder / "demo"
    if not (made / "run" / "cloud.ply").exists():
        scene = ["demo", "--out", str(made), "--views", "9", "--width", "64", "--steps", "20", "--no-browser"]
        _expect(server.run("splat.cli:main", scene, folder), 0)
    cloud, scene, run = str(made / "run" / "cloud.ply"), str(made / "scene"), "run/cloud.ply"
    empty, half = folder / "empty", folder / "half"
    empty.mkdir(exist_ok=True)
    train = Command(("train", scene, "--out", "{out}/run", *OPTIONS), run, empty)
    tiny = folder / "tiny.spz"
    if not tiny.exists():
        _expect(server.run("splat.cli:main", ["convert", cloud, str(tiny), "--decimate", "60"], folder), 0)
    if not half.exists():  # killed while its second checkpoint gets its name; the first rename is the settings'
        work = folder / "out"
        train.prepare(work)
        _expect(server.run(train.entry, train.given(work), work, Fault("rename", 4, KILL)), -9)
        shutil.move(work, half)
    meshing = ("--method", "median", "--resolution", "16", "--max-side", "64")
    return {
        "train": train,
        "resume": Command(("train", "--out", "{out}/run", "--resume"), run, half),
        "convert": Command(("convert", cloud, "{out}/cloud.spz"), "cloud.spz"),
        "compress": Command(("compress", str(tiny), "{out}/cloud.vectree", "--method", "vectree"), "cloud.vectree"),
        "mesh": Command(("mesh", str(made / "run"), "{out}/mesh.ply", *meshing), "mesh.ply"),
    }


def _expect(answer: Answer, code: int) -> None:
    if answer.code != code:
        raise RuntimeError(f"exit code {answer.code}, expected {code}\n{answer.stderr}")


class Trial:
    """One command under faults in the folder ``out``."""

    def __init__(self, server: Server, command: Command, out: Path) -> None:
        self._server, self._command, self._out = server, command, out
        command.prepare(out)
        _expect(self._run(command.given(out)), 0)
        self._whole = self._result()
        self._names = self._files()

    def count(self, kind: str) -> int:
        """Number of calls of ``kind`` that the command makes."""
        self._command.prepare(self._out)
        answer = self._run(self._command.given(self._out), Fault(kind, 0, 0))
        _expect(answer, 0)
        return answer.calls

    def wrong(self, fault: Fault) -> tuple[int, list[str]]:
        """Exit code of the command under ``fault``, and what was wrong with it and with the run after it."""
        self._command.prepare(self._out)
        before = self._result()
        answer = self._run(self._command.given(self._out), fault)
        found = [] if fault.code == KILL else complaints(answer)
        now = self._result()
        if now not in (before, self._whole):
            found.append("half a file, or none")
        if answer.code == 0 and now != self._whole:
            found.append("exit code 0 without the result")
        after = self._run(self._command.again(self._out))
        if after.code:
            found.append(f"the next run: exit code {after.code}\n{after.stderr[-1500:]}")
        elif self._result() != self._whole:
            found.append("the next run has another result")
        left = [name for name in self._files() if Path(name).name.startswith(".") or "/.trial-" in name]
        found += [f"left behind: {left}"] if left else []
        if answer.code and not after.code and self._files() != self._names and not left:
            found.append(f"other files than without the fault: {sorted(set(self._files()) ^ set(self._names))}")
        return answer.code, found

    def _run(self, arguments: list[str], fault: Fault | None = None) -> Answer:
        return self._server.run(self._command.entry, arguments, self._out, fault)

    def _result(self) -> bytes | None:
        path = self._out / self._command.result
        return path.read_bytes() if path.exists() else None

    def _files(self) -> list[str]:
        return sorted(str(path.relative_to(self._out)) for path in self._out.rglob("*") if path.is_file())


def complaints(answer: Answer) -> list[str]:
    """What is wrong with how a command that met an error has ended."""
    said = [line for line in answer.stderr.splitlines() if line.strip() and not line.startswith("note: ")]
    good = answer.code in (0, 2) and len(said) == (answer.code == 2)
    if good and all(line.startswith("splat: ") for line in said):
        return []
    return [f"exit code {answer.code}, {len(said)} lines on standard error\n{answer.stderr[-3000:]}"]


def numbers(total: int, first: int, beyond: int) -> Iterator[int]:
    """1 to ``first``, then ``beyond`` more, evenly over what is left."""
    yield from range(1, min(total, first) + 1)
    rest = total - first
    yield from sorted({first + (rest * part) // beyond for part in range(1, beyond + 1)} if rest > 0 and beyond else [])


def inject(trial: Trial, name: str, kind: str, options: argparse.Namespace) -> None:
    """All faults of one kind in one command; a line of JSON each is added to the results."""
    results: Path = options.results
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    done = {(row["number"], row["error"]) for row in rows if (row["command"], row["kind"]) == (name, kind)}
    total = trial.count(kind)
    for number in numbers(total, options.first, options.beyond):
        for error in ("KILL",) if options.kill else CODES[kind]:
            if (number, error) in done:
                continue
            code = {"SHORT": SHORT, "KILL": KILL}.get(error) or getattr(errno, error)
            exit_code, wrong = trial.wrong(Fault(kind, number, code))
            row = {"command": name, "kind": kind, "number": number, "of": total, "error": error}
            with results.open("a") as file:
                file.write(json.dumps(row | {"exit": exit_code, "wrong": wrong}) + "\n")


def table(rows: list[dict]) -> str:
    """Faults tried and wrong, by command and kind, as Markdown."""
    lines = ["| command | call | calls | errors | tried | exit 0 | exit 2 | wrong |", "|---" * 8 + "|"]
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        groups.setdefault((row["command"], row["kind"]), []).append(row)
    for (name, kind), group in groups.items():
        errors = ", ".join(dict.fromkeys(row["error"] for row in group))
        codes = [sum(row["exit"] == code for row in group) for code in (0, 2)]
        bad = sum(bool(row["wrong"]) for row in group)
        calls = max(row["of"] for row in group)
        lines.append(f"| {name} | {kind} | {calls} | {errors} | {len(group)} | {codes[0]} | {codes[1]} | {bad} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["train", "resume", "convert", "compress", "mesh"]
    parser.add_argument("--commands", nargs="+", default=names, choices=names)
    parser.add_argument("--kinds", nargs="+", default=list(CODES), choices=list(CODES))
    parser.add_argument("--first", type=int, default=200, help="every n up to this one")
    parser.add_argument("--beyond", type=int, default=20, help="so many more, where there are more calls")
    parser.add_argument("--kill", action="store_true", help="SIGKILL at the n-th call that changes files")
    parser.add_argument("--folder", type=Path, help="for inputs, kept; by default a temporary one")
    parser.add_argument("--results", type=Path, default=Path("faults.jsonl"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            shim = compiled(folder)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"the shim cannot be compiled: {error}", file=sys.stderr)
            return 77
        with Server(shim, ["splat", "splat.native.cpu_library:library"]) as server:
            for name in options.commands:
                trial = Trial(server, commands(folder, server)[name], folder / f"out-{os.getpid()}")
                for kind in ["files"] if options.kill else options.kinds:
                    inject(trial, name, kind, options)
    rows = [json.loads(line) for line in options.results.read_text().splitlines()]
    print(table(rows))
    for row in rows:
        for what in row["wrong"]:
            print(f"\n{row['command']}, {row['kind']} {row['number']}, {row['error']}: {what}")
    return int(any(row["wrong"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
