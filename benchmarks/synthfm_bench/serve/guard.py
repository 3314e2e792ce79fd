"""Refuses requests from pages of other sites and from clients without the token."""

import ipaddress
import secrets
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from synthfm_bench.serve.exchange import PlainJson


class Guard:
    """Middleware that passes on requests from allowed origins.

    - Without a token the server is on loopback, and the ``Host`` header must name it: a page of another site whose name
      was made to resolve to this machine (DNS rebinding) is refused with 403.
    - An ``Origin`` header must name this server: no page of another site may post here. No CORS header is ever sent.
    - With a token every other request needs ``Authorization: Bearer TOKEN``, or gets 401.

    Args:
        app: what is guarded.
        token: None to ask for none.
        open_to_all: tells the paths that need no token.
    """

    def __init__(
        self, app: ASGIApp, token: str | None, open_to_all: Callable[[str], bool] = lambda path: path == "/healthz"
    ) -> None:
        self._app = app
        self._token = token
        self._open_to_all = open_to_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope["path"], Headers(scope=scope))
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, path: str, headers: Headers) -> PlainJson | None:
        """Return the answer that refuses a request; None if it may pass."""
        host = headers.get("host", "")
        if self._token is None and not is_loopback(_name(host)):
            return PlainJson({"detail": f"host {host!a} is not this machine; use 127.0.0.1 or localhost"}, 403)
        origin = headers.get("origin")
        if origin is not None and _netloc(origin) != host.lower():
            return PlainJson({"detail": "pages of other sites may not use this server"}, 403)
        if self._token is None or self._open_to_all(path):
            return None
        given = headers.get("authorization", "").encode("utf-8", "surrogateescape")
        if secrets.compare_digest(given, f"Bearer {self._token}".encode()):
            return None
        return PlainJson({"detail": "bearer token is missing or wrong"}, 401, {"WWW-Authenticate": "Bearer"})


def is_loopback(host: str) -> bool:
    """Return whether a host name or address names this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
