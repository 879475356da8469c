"""Commands run in forked children of a process that has imported everything, under the shim fault_shim.c.

A fault costs what the command itself takes, not Python's start. `Server` starts the process and asks it; run as a
script, this file is the process: one request a line on standard input (JSON), one answer a line on standard output.
"""

import ctypes
import faulthandler
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHORT, KILL = -1, -2  # as in fault_shim.c
_ERRORS = 20_000  # characters of standard error that an answer holds, at most


@dataclass(frozen=True)
class Fault:
    """Attributes:
    kind: of calls: write, fsync, rename, open, mmap, malloc, core or files.
    number: of the call that fails, from 1; 0 only counts.
    code: an errno, SHORT (a write takes half) or KILL (the process dies at the call).
    """

    kind: str
    number: int
    code: int


@dataclass(frozen=True)
class Answer:
    """Attributes:
    code: exit code, or minus the signal that ended the process.
    calls: how many calls of the fault's kind there were; 0 where the process was killed.
    stderr: the end of what was printed there.
    """

    code: int
    calls: int
    stderr: str


def compiled(folder: Path) -> Path:
    """The shim as a shared library in ``folder``."""
    library = folder / "shim.so"
    source = Path(__file__).with_name("fault_shim.c")
    flags = ["-O1", "-fexceptions", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, "-o", str(library), str(source), "-ldl"], check=True)
    return library


class Server:
    """Runs commands in children of one process.

    Args:
        shim: see `compiled`.
        modules: imported once, a package with all its modules; "module:function" is imported and called.
        seconds: after so many a child is ended, and its code is minus SIGXCPU.
    """

    def __init__(self, shim: Path, modules: list[str], seconds: int = 60) -> None:
        self._folder = tempfile.TemporaryDirectory()
        environment = os.environ | {
            "LD_PRELOAD": f"{shim} libstdc++.so.6",  # the shim's operators new look for the next one in there
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, __file__, str(shim), str(seconds), self._folder.name, *modules]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.stdin.close()
        self._process.wait(60)
        self._folder.cleanup()

    def run(self, entry: str, arguments: list[str], under: Path, fault: Fault | None = None) -> Answer:
        """``entry`` ("module:function", which returns an exit code) with ``arguments``; files below ``under`` fail."""
        asked = fault or Fault("none", 0, 0)
        request = {"entry": entry, "arguments": arguments, "under": str(under), "fault": vars(asked)}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return Answer(**json.loads(self._process.stdout.readline()))


# ---- the process ----


def _serve(shim: str, seconds: int, folder: Path, modules: list[str]) -> None:
    for name in modules:
        _import_all(name)
    library = ctypes.CDLL(shim)
    library.fault_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_char_p]
    library.fault_disarm.restype = ctypes.c_long
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what modules print
    for line in sys.stdin:
        counted = folder / "calls"
        counted.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            _child(json.loads(line), library, seconds, folder)
        watch = threading.Timer(seconds, os.kill, (child, signal.SIGXCPU))
        watch.start()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        watch.cancel()
        watch.join()
        errors = (folder / "stderr").read_text(errors="replace")[-_ERRORS:]
        calls = int(counted.read_text()) if counted.exists() else 0
        print(json.dumps({"code": code, "calls": calls, "stderr": errors}), file=answers, flush=True)


def _import_all(name: str) -> None:
    name, _, function = name.partition(":")
    module = importlib.import_module(name)
    if function:
        getattr(module, function)()
        return
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), name + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)


def _child(request: dict[str, Any], library: ctypes.CDLL, seconds: int, folder: Path) -> None:
    """Run what was asked for; never returns."""
    for number, path in ((0, os.devnull), (1, folder / "stdout"), (2, folder / "stderr")):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(file, number)
        os.close(file)
    faulthandler.dump_traceback_later(0.9 * seconds)  # where it hangs, if it does
    module, function = request["entry"].split(":")
    main = getattr(importlib.import_module(module), function)
    fault = request["fault"]
    if fault["kind"] != "core":  # whose threads are part of what is tried; otherwise one is faster for so little work
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
    library.fault_arm(fault["kind"].encode(), fault["number"], fault["code"], request["under"].encode())
    try:
        code = main(request["arguments"])
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        library.fault_disarm()
        import traceback

        traceback.print_exc()
        code = 1
    (folder / "calls").write_text(str(library.fault_disarm()))
    os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
