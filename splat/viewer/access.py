"""Who may talk to the page's server: those who know the token, if there is one, and no other web site's scripts.

viser has no hook for it, so the function that viser starts its server with is exchanged while it starts, and a request
that must fail is tried before the address is told to anybody: should viser change, the viewer refuses to start.
"""

import hmac
import http
import http.cookies
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from splat.errors import InputError

COOKIE = "splat_token"


def refusal(
    headers: Any, path: str, token: str | None, origin: str | None = None
) -> tuple[int, dict[str, str], str] | None:
    """None when a request may pass, else the status, headers and text to answer with.

    Args:
        headers: of the request, a mapping without regard to case.
        path: with its query.
        token: the secret; it comes as ?token= once, and as a cookie from then on. None asks for none.
        origin: where browsers see the page behind a proxy that changes Host, such as https://hub.example.org.
    """
    asking = headers.get("Origin")
    if asking is not None and asking != origin and _netloc(asking) != headers.get("Host"):
        return http.HTTPStatus.FORBIDDEN, {}, "Scripts of other sites may not use this page.\n"
    if token is None:
        return None
    given = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query).get("token", [""])[0]
    if _same(given, token):
        # SameSite keeps the cookie from requests that other sites start.
        # Behind a proxy the page has a path that only the browser knows: the address is relative, and a cookie without
        # a path is sent back below the one where it was set, not to the neighbours on the same host.
        cookie = f"{COOKIE}={urllib.parse.quote(token, safe='')}; HttpOnly; SameSite=Strict"
        return http.HTTPStatus.SEE_OTHER, {"Location": "./", "Set-Cookie": cookie}, ""
    try:
        cookies = http.cookies.SimpleCookie(headers.get("Cookie", ""))
    except http.cookies.CookieError:
        cookies = {}
    if COOKIE in cookies and _same(urllib.parse.unquote(cookies[COOKIE].value), token):
        return None
    return http.HTTPStatus.FORBIDDEN, {}, "This page asks for a token: add ?token=… to its address.\n"


def origin_of(url: str) -> str:
    """``url`` as browsers write an origin: scheme, host, and the port if it is no usual one. Raises InputError."""
    try:
        parts = urllib.parse.urlsplit(url.strip())
        usual = {"http": 80, "https": 443}
        if parts.scheme not in usual or not parts.hostname or parts.query or parts.username is not None:
            raise ValueError("it is no http or https address")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = "" if parts.port in (None, usual[parts.scheme]) else f":{parts.port}"
    except ValueError as error:
        raise InputError(
            f"--origin is '{url}' ({error}), expected an address such as https://hub.example.org"
        ) from error
    return f"{parts.scheme}://{host}{port}"


def _netloc(origin: str) -> str | None:
    try:
        return urllib.parse.urlsplit(origin).netloc
    except ValueError:  # such as http://[
        return None


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


@contextmanager
def guarding(token: str | None, origin: str | None = None) -> Iterator[None]:
    """Servers that viser starts inside the block ask `refusal` first."""
    import websockets.asyncio.server as sockets
    from websockets.datastructures import Headers
    from websockets.http11 import Response

    original: Callable[..., Any] = sockets.serve

    def serve(*arguments: Any, process_request: Callable[..., Any] | None = None, **options: Any) -> Any:
        def checked(connection: Any, request: Any) -> Any:
            refused = refusal(request.headers, request.path, token, origin)
            if refused is None:
                return None if process_request is None else process_request(connection, request)
            status, headers, text = refused
            body = text.encode()
            headers = {"Content-Length": str(len(body)), "Content-Type": "text/plain; charset=utf-8", **headers}
            return Response(int(status), http.HTTPStatus(status).phrase, Headers(**headers), body)

        return original(*arguments, process_request=checked, **options)

    sockets.serve = serve
    try:
        yield
    finally:
        sockets.serve = original


def check(url: str) -> None:
    """Raise InputError unless the server at ``url`` turns away what another site's script would ask."""
    request = urllib.request.Request(url, headers={"Origin": "http://another.example"})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10):
            pass
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.FORBIDDEN:
            return
    except OSError as error:
        raise InputError(f"the viewer's server does not answer at {url} ({error}); choose another --port") from error
    raise InputError(
        "this version of viser lets the viewer's server be used by other sites; install another: pip install 'viser<2'"
    )
