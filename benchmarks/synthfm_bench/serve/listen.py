"""Sockets and tokens of the servers, and running an application on them until Ctrl-C."""

import socket
from importlib.util import find_spec
from typing import TYPE_CHECKING

from synthfm_env.errors import InputError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_NEEDED = ("starlette", "uvicorn", "nnInteractive", "blosc2")
_FEWEST = 8  # characters of a token


def check_extra(command: str) -> None:
    """Raise InputError unless the packages of the extra ``serve`` are installed."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(f"{command} needs {', '.join(missing)}: pip install 'synthfm_env[serve]'")


def check_token(host: str, token: str | None) -> None:
    """Raise InputError if other machines could connect without a token.

    Args:
        host: the address to bind to.
        token: what clients must send, or None.
    """
    from synthfm_bench.serve.guard import is_loopback

    if token is None and not is_loopback(host):
        raise InputError(
            f"--host {host}: other machines can connect there, so a token is needed: "
            "set SYNTHFM_TOKEN (or --token) to one of at least 8 characters, and give clients the same"
        )
    if token is not None and (len(token) < _FEWEST or not token.isascii() or not token.isprintable()):
        raise InputError(f"--token: expected at least {_FEWEST} printable ASCII characters")


def listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address; port 0 takes a free one.

    Raises:
        InputError: the address is taken or is none of this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, OverflowError, UnicodeError) as error:
        raise InputError(f"--host {host} --port {port}: no such address ({error})") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise InputError(f"--host {host} --port {port}: cannot be bound ({error}); name another --port") from None
    return bound


def url_of(bound: socket.socket) -> str:
    """Return the address of a server that listens on a socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: "ASGIApp", bound: socket.socket) -> None:
    """Serve an application until the process is interrupted."""
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=5
    )
    uvicorn.Server(config).run([bound])
