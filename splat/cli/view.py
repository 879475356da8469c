"""``splat view``: clouds and runs on a web page."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import tyro

from splat.cli.console import parse, say
from splat.cli.inputs import on_device, open_cloud, open_scene
from splat.errors import InputError

if TYPE_CHECKING:
    from splat.viewer import Page


@dataclass(frozen=True)
class View:
    """Show runs and clouds on a web page, until Ctrl-C."""

    paths: tyro.conf.Positional[tuple[Path, ...]] = field(metadata={"name": "PATH …"})
    """Run folders, or cloud files of any format; several are shown together and can be switched on and off."""
    scene: Path | None = None
    """Scene whose photos and cameras are shown; by default that of the first run, if it is there."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines see the page, and save into its folder."""
    token: str | None = None
    """Secret of at least 8 characters that the printed address carries and the server asks for; "new" makes one up."""
    origin: str | None = None
    """Where browsers see the page behind a proxy, such as https://hub.example.org."""
    port: int = 8080
    """Port to listen on; if it is taken, the next free one."""
    up: tuple[float, float, float] | None = None
    """Up direction in world coordinates; by default that of the scene, or 0 -1 0 without one."""
    backend: Literal["auto", "cpu", "cuda"] = "auto"
    """Rendering backend of the server; auto is cuda where it works, else cpu."""


def run(arguments: Sequence[str]) -> None:
    """Run ``splat view``."""
    options = parse("view", View, arguments)
    if not options.paths:
        raise InputError("there is nothing to look at; name a run or a cloud: splat view PATH")
    check_port(options.port)
    from splat.viewer import Look, SceneCloud, first_view, open_page

    loaded = [open_cloud(path) for path in options.paths]
    place = loaded[0].cloud.georeference
    entries = [
        SceneCloud(_name(path), on_device(source.cloud.about(place), options.backend), _size(source.file))
        for path, source in zip(options.paths, loaded, strict=True)
    ]
    if not any(len(entry.cloud) for entry in entries):
        raise InputError(f"{options.paths[0]} holds no Gaussians; there is nothing to look at")
    first = loaded[0]
    scene = None
    if options.scene is not None or first.config is not None:
        try:
            scene = open_scene(first, options.scene, None, None)
        except InputError as error:
            if options.scene is not None:
                raise
            say(f"shown without its photos: {error}")
    filled = next(entry.cloud for entry in entries if len(entry.cloud))
    look = Look(background=first.background, antialiased=first.antialiased, near=first.render_options.near)
    folder = first.run or first.file.parent
    token = secret(options.token)
    view = first_view(filled, scene, options.up)
    page = open_page(entries, view, look, scene, folder, options.host, options.port, token, options.origin)
    port = page.server.get_port()
    if port != options.port:
        say(f"port {options.port} is taken")
    serve(page, token)


def check_port(port: int) -> int:
    """``port``. Raises InputError for one that cannot be."""
    if not 1 <= port <= 65535:
        raise InputError(f"--port is {port}, expected 1 to 65535")
    return port


def secret(token: str | None) -> str | None:
    """The token to ask for; "new" makes one up. Raises InputError for one that is easily guessed."""
    if token == "new":
        return secrets.token_urlsafe(12)
    if token is not None and len(token) < 8:
        raise InputError(f"--token has {len(token)} characters, expected at least 8; or say --token new")
    return token


def serve(page: "Page", token: str | None = None) -> None:
    """Print the address of ``page`` and serve it until Ctrl-C."""
    try:
        say(f"{address(page, token)}  (Ctrl-C ends it)")
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        page.close()
        say("closed")


def address(page: "Page", token: str | None) -> str:
    """What to type into a browser."""
    return page.url if token is None else f"{page.url}/?token={quote(token, safe='')}"


def _name(path: Path) -> str:
    return path.resolve().name


def _size(file: Path) -> int:
    """Bytes of a file, or of the files of an unbundled SOG."""
    files = [file] if file.is_file() else [part for part in file.iterdir() if part.is_file()]
    return sum(part.stat().st_size for part in files)
