"""Opening a viewer's page on a free port."""

import contextlib
import io
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from splat.errors import InputError
from splat.scene import Scene
from splat.viewer import access
from splat.viewer.initial_view import FirstView
from splat.viewer.page import Page, SceneCloud
from splat.viewer.render_modes import Look

TRIES = 100  # ports looked at when the wanted one is taken


def open_page(
    clouds: Sequence[SceneCloud],
    first: FirstView,
    look: Look,
    scene: Scene | None = None,
    folder: Path = Path(),
    host: str = "127.0.0.1",
    port: int = 8080,
    token: str | None = None,
    origin: str | None = None,
    panels: "Callable[[Page], None] | None" = None,
) -> Page:
    """Serve ``clouds`` and return at once.

    Args:
        folder: where the page may save files.
        port: the next free one is taken where this one is not.
        token: secret that browsers must bring; None asks for none.
        origin: where browsers see the page, if a proxy stands between.
        panels: adds the panels; by default all of them.
    Raises InputError when viser is not installed or no port is free.
    """
    try:
        import viser
    except ImportError as error:
        raise InputError("the viewer needs viser, which is not installed: pip install viser") from error
    from splat.viewer.panels import add_panels

    # Browsers open connections that they never use; that is no news for the terminal.
    logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
    with (
        contextlib.redirect_stdout(io.StringIO()),
        access.guarding(token, None if origin is None else access.origin_of(origin)),
    ):
        server = viser.ViserServer(host=host, port=free_port(host, port), label="splat", verbose=False)
    page = Page(server, clouds, first, look, scene, folder)
    try:
        near = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
        access.check(f"http://{near}:{server.get_port()}/")
    except InputError:
        page.close()
        raise
    (panels or add_panels)(page)
    return page


def free_port(host: str, port: int) -> int:
    """``port``, or the next one on which ``host`` does not listen yet. Raises InputError when none is free."""
    for candidate in range(port, min(port + TRIES, 65536)):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError:
                continue
            return candidate
    raise InputError(f"no port from {port} on is free on {host}; choose one with --port, or the address with --host")
