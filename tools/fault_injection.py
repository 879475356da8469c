"""Commands whose n-th write, fsync, rename or open fails: is nothing lost, and is it said in one sentence?

Usage: python tools/fault_injection.py [--every K] [--commands train convert …]

Each command runs under a shim (`fault_shim.c`, compiled here) once for every n, or every K-th. Afterwards the exit code
must be 0, or 2 with one sentence and no traceback; the file that was to be replaced must be the old or the new one,
whole; no temporary file may be left; and an interrupted training run must be resumed to the same cloud, bit for bit.
"""

import argparse
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CALLS = {"write": ("ENOSPC", "EIO"), "fsync": ("EIO",), "rename": ("ENOSPC",), "open": ("ENOSPC",)}
OPTIONS = ["--steps", "12", "--gaussians", "80", "--preset", "default", "--checkpoint-seconds", "0.000001"]
COMMANDS = {
    "train": ["train", "{scene}", "--out", "{out}/run", *OPTIONS],
    "convert": ["convert", "{cloud}", "{out}/cloud.spz"],
}
RESULTS = {"train": "run/cloud.ply", "convert": "cloud.spz"}


def compiled(folder: Path) -> Path:
    """The shim as a shared library in ``folder``."""
    library = folder / "shim.so"
    source = Path(__file__).with_name("fault_shim.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def run(arguments: list[str], out: Path, shim: Path | None, **fault: str) -> subprocess.CompletedProcess:
    """One command; under ``shim``, which counts and fails what ``fault`` says."""
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    if shim is not None:
        environment |= {"LD_PRELOAD": str(shim), "FAULT_UNDER": str(out)} | fault
    command = [sys.executable, "-m", "splat", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def faults_of(name: str, places: dict[str, Path], folder: Path, shim: Path, every: int) -> tuple[int, list[str]]:
    """Number of faults tried on the command ``name``, and what went wrong."""
    out, result = places["out"], places["out"] / RESULTS[name]
    arguments = [part.format(**places) for part in COMMANDS[name]]

    def fresh(old: bytes) -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        if name != "train":
            result.write_bytes(old)

    fresh(b"old")
    assert run(arguments, out, None).returncode == 0
    whole, tried, wrong = result.read_bytes(), 0, []
    for call, codes in CALLS.items():
        fresh(b"old")
        counted = folder / "count"
        run(arguments, out, shim, FAULT_CALL=call, FAULT_AT="0", FAULT_COUNT=str(counted))
        for number in range(1, int(counted.read_text()) + 1, every):
            for code in codes:
                fresh(b"old")
                fault = {"FAULT_CALL": call, "FAULT_AT": str(number), "FAULT_ERRNO": str(getattr(errno, code))}
                done = run(arguments, out, shim, **fault)
                tried += 1
                wrong += [f"{name}, {call} {number}, {code}: {what}" for what in _faults(done, out, result, whole)]
                if name == "train" and done.returncode and (out / "run" / "config.toml").exists():
                    again = run(["train", "--out", str(out / "run"), "--resume"], out, None)
                    if again.returncode or result.read_bytes() != whole:
                        wrong.append(f"{name}, {call} {number}, {code}: not resumed to the same cloud\n{again.stderr}")
    return tried, wrong


def _faults(done: subprocess.CompletedProcess, out: Path, result: Path, whole: bytes) -> list[str]:
    found = []
    if done.returncode not in (0, 2) or "Traceback" in done.stderr:
        found.append(f"exit code {done.returncode}\n{done.stderr[-1500:]}")
    if result.exists() and result.read_bytes() not in (b"old", whole):
        found.append("half a file")
    left = [str(path.relative_to(out)) for path in out.rglob(".*")]
    return found + ([f"left behind: {left}"] if left else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--every", type=int, default=1, help="try every K-th call only")
    parser.add_argument("--commands", nargs="+", default=list(COMMANDS), choices=list(COMMANDS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shim = compiled(folder)
        made = ["demo", "--out", str(folder / "demo"), "--views", "9", "--width", "64", "--steps", "20", "--no-browser"]
        assert run(made, folder, None).returncode == 0
        places = {"scene": folder / "demo" / "scene", "cloud": folder / "demo" / "run" / "cloud.ply"}
        bad = 0
        for command in options.commands:
            tried, wrong = faults_of(command, places | {"out": folder / "out"}, folder, shim, options.every)
            print(f"{command}: {tried} faults, {len(wrong)} wrong", *wrong, sep="\n", flush=True)
            bad += len(wrong)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
