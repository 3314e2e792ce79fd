"""Bodies in and answers out: bounded reading, JSON, and one answer for each kind of error."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from synthfm_bench.serve.messages import read_object
from synthfm_env.errors import InputError

_JSON_BYTES = 1 << 16


class TooLargeError(InputError):
    """Something exceeds the server's limit; answered with 413."""


class PlainJson(JSONResponse):
    """JSON in ASCII, so that any text of a client can be sent back, lone surrogates too."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


async def read_json(request: Request) -> dict[str, Any]:
    """Read a JSON object of at most 64 KiB; an empty body is an empty object.

    Raises:
        TooLargeError: it is larger.
        InputError: it is no JSON object.
    """
    return read_object(await read_body(request, _JSON_BYTES, "64 KiB"), "body")


async def read_body(request: Request, limit: int, shown: str) -> bytes:
    """Read a body, and stop as soon as it exceeds the limit.

    Args:
        request: whose body is read.
        limit: in bytes.
        shown: the limit as a message names it.

    Raises:
        TooLargeError: it exceeds the limit.
        InputError: the client closed the connection.
    """
    claimed = request.headers.get("content-length", "0")
    read = bytearray()
    if not claimed.isascii() or not claimed.isdigit() or int(claimed[:20]) <= limit:
        try:
            async for part in request.stream():
                read += part
                if len(read) > limit:
                    break
            else:
                return bytes(read)
        except ClientDisconnect:
            raise InputError("body ended early") from None
    raise TooLargeError(f"body exceeds this server's limit of {shown}; send less, or start it with a larger limit")


def answer_with(status: int, detail: str | None = None) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return a handler that answers an error with a status; ``detail`` takes the place of the error's message."""

    async def answer(request: Request, error: Exception) -> Response:
        headers = {"Retry-After": "10"} if status == 503 else None
        return PlainJson({"detail": detail or f"{error or type(error).__name__}"}, status, headers)

    return answer


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainJson({"detail": error.detail}, error.status_code, error.headers)


ERROR_HANDLERS: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    TooLargeError: answer_with(413),
    InputError: answer_with(400),
    HTTPException: _http_error,
    Exception: answer_with(500),
}
