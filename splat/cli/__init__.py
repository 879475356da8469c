"""The command line: finds the command, runs it, and turns errors into one sentence and an exit code.

Exit codes: 0 done; 1 a defect of splat (traceback shown); 2 the input was wrong, or the machine refused (a full disk,
full memory); 130 interrupted, 143 by SIGTERM,
129 by SIGHUP, 131 by SIGQUIT.
Only the module of the command that was asked for is imported, so that ``splat --help`` needs no PyTorch.
"""

import errno
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

from splat import __version__, signals
from splat.errors import InputError, memory_ran_out
from splat.text import printable

COMMANDS = {
    "train": "turn photos or a COLMAP scene into a Gaussian cloud",
    "eval": "measure a run or a cloud on the held-out photos",
    "render": "render a run or a cloud: held-out views, an orbit, or a camera path",
    "view": "show runs and clouds on a web page",
    "info": "describe a cloud, a scene or a run",
    "convert": "write clouds in another file format",
    "mesh": "make a triangle mesh of a run or a cloud",
    "eval-mesh": "measure a mesh against a reference",
    "compress": "compress a cloud to a quality or a size",
    "demo": "make a small scene, train on it and show the result",
    "doctor": "check what this machine can do, and what to install for more",
}

_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EBADF, errno.EMFILE, errno.ENFILE, errno.EINTR)
"""What disks and limits of the machine answer: no defect, and nothing in the input."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command named by the first of ``arguments`` (by default those of the process); return the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _open_closed_streams()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"splat {__version__}")
        return 0
    command = arguments[0]
    if command not in COMMANDS:
        return _refuse(f"there is no command '{command}'; expected one of {', '.join(COMMANDS)}")
    with warnings.catch_warnings():
        warnings.showwarning = _note
        return _guarded(command, arguments[1:])


def usage() -> str:
    """The text of ``splat --help``."""
    width = max(map(len, COMMANDS))
    lines = [f"  {_bold(name.ljust(width))}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: splat COMMAND [OPTIONS]",
            "",
            "Turns photographs into 3D Gaussian clouds, and works on those clouds.",
            "",
            *lines,
            "",
            "splat COMMAND --help explains a command; splat --version prints the version.",
        ]
    )


def _guarded(command: str, arguments: list[str]) -> int:
    """Run ``command``; the only place where exceptions become exit codes."""
    try:
        with signals.ended_by_signals(), signals.threads_or_memory_error():
            import_module(f"splat.cli.{command.replace('-', '_')}").run(arguments)
        sys.stdout.flush()
    except InputError as error:
        return _refuse(str(error))
    except KeyboardInterrupt as interrupt:
        print(f"\nsplat: interrupted{f'; {interrupt}' if str(interrupt) else ''}", file=sys.stderr)
        return 128 + getattr(interrupt, "number", signal.SIGINT)
    except BrokenPipeError:
        # The reader of our output went away (`splat info x | head`); keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except Exception as error:
        return _unexpected(error)
    finally:
        if loaded := sys.modules.get("splat.cli.console"):
            loaded.console.stderr = False  # what --json - asked for ends with the command
    return 0


def _unexpected(error: Exception) -> int:
    """Say what the machine refused, or that splat has a defect; return the exit code."""
    if memory_ran_out(error):
        return _refuse("this machine's memory is full; end other programs, or take fewer Gaussians or smaller photos")
    if isinstance(error, OSError) and error.errno in _MACHINE:
        if error.filename is not None:
            return _refuse(f"cannot use {error.filename}: {error.strerror}; check the disk, or choose another folder")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _refuse(f"cannot write the output: {error.strerror}; free some space or send it elsewhere")
    return _defect()


def _open_closed_streams() -> None:
    """Give the process the standard streams it was started without: else the next file opened would become one."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                opened = os.open(os.devnull, os.O_WRONLY)
                if opened != number:
                    os.dup2(opened, number)
                    os.close(opened)
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115


def _defect() -> int:
    """Print the traceback of what is no fault of the user; return exit code 1."""
    import traceback

    traceback.print_exc()
    print(
        f"\nsplat {__version__} has met a defect of its own. Please report the lines above, with your command"
        " and the output of: splat doctor",
        file=sys.stderr,
    )
    return 1


def _refuse(sentence: str) -> int:
    """Print ``sentence`` on stderr in one piece; return exit code 2."""
    red, plain = ("\033[31m", "\033[0m") if _coloured(sys.stderr) else ("", "")
    print(f"{red}splat:{plain} {printable(sentence)}", file=sys.stderr)
    return 2


def _note(message: Warning | str, category: type[Warning], *_where) -> None:
    """Print what splat warns of as a note; what libraries tell their developers stays silent."""
    if issubclass(category, UserWarning):
        dim, plain = ("\033[2m", "\033[0m") if _coloured(sys.stderr) else ("", "")
        print(f"{dim}note: {printable(str(message))}{plain}", file=sys.stderr)


def _bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if _coloured(sys.stdout) else text


def _coloured(stream) -> bool:
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
