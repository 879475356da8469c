"""Errors a user can act on. The command line prints their one sentence and exits with 2."""

import errno
import re

_MEMORY = re.compile(r"not enough memory|can(no|')t allocate memory|bad_alloc|insufficient memory", re.IGNORECASE)


class InputError(Exception):
    """User input is wrong: the message names the file, what was found, what was expected, what to do."""


class BackendError(InputError):
    """A rendering backend cannot run on this machine; the message says what to install or choose instead."""


class OutOfMemory(BackendError):
    """A GPU's memory is full; the message says how to need less. What was trained so far is intact."""


class NonFiniteError(InputError):
    """A NaN or infinity appeared in training; the message names the tensor and the step."""


class Interrupted(KeyboardInterrupt):
    """A signal asked to end: Ctrl-C, or one that schedulers, terminals and `kill` send.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message)
        self.number = number

    def __str__(self) -> str:
        return str(self.args[0])


def memory_ran_out(error: BaseException) -> bool:
    """Whether ``error`` says that this machine's memory is full, in PyTorch's, OpenCV's or zstandard's words too."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, SystemError) and error.__cause__ is not None:  # of a library in C that went on after it
        return memory_ran_out(error.__cause__)
    return isinstance(error, MemoryError) or bool(_MEMORY.search(str(error)))
