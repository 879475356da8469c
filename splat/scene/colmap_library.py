"""pycolmap, imported such that it leaves alone what is Python's: modules that need it take it from here.

Its logging library handles SIGTERM with a stack trace from the moment of the import on; and Pillow, imported after it,
aborts when a PNG is saved.
"""

import signal
import threading

import PIL.Image  # noqa: F401  (before pycolmap)
import pycolmap

__all__ = ["pycolmap"]

if threading.current_thread() is threading.main_thread():  # elsewhere Python lets nobody set handlers
    _handler = signal.getsignal(signal.SIGTERM)
    if _handler is not None:
        signal.signal(signal.SIGTERM, _handler)
