"""A browser's side of viser's socket, without a browser: it says what it is told to."""

import threading
from typing import Any

import msgspec.msgpack
import viser
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect


class RawBrowser:
    """Connected inside the block; what the server sends is read and thrown away."""

    def __init__(self, port: int) -> None:
        self.socket = connect(
            f"ws://127.0.0.1:{port}", subprotocols=[f"viser-v{viser.__version__}"], max_size=None, compression=None
        )
        self._leaving = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "RawBrowser":
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving = True
        self.socket.close()
        self._reader.join(timeout=10)

    def _read(self) -> None:
        try:
            for _ in self.socket:
                pass
        except ConnectionClosedError:
            if not self._leaving:  # else a busy server did not say goodbye in time
                raise

    def camera(self, **changes: Any) -> None:
        """Say where the camera is."""
        message = {
            "type": "ViewerCameraMessage", "wxyz": (1.0, 0.0, 0.0, 0.0), "position": (0.0, 0.0, -3.0), "fov": 0.8,
            "near": 0.01, "far": 1000.0, "image_height": 48, "image_width": 64, "look_at": (0.0, 0.0, 0.0),
            "up_direction": (0.0, -1.0, 0.0),
        }  # fmt: skip
        self.socket.send(msgspec.msgpack.encode({**message, **changes}))
