"""Serves the page of ``synthfm play``: its files, and a JSON interface to the game."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from synthfm_bench.play.game import Answer, Game
from synthfm_bench.play.person_episode import Thought
from synthfm_bench.play.saved_mask import dicom_bytes, mask_name, nifti_bytes
from synthfm_bench.serve import messages
from synthfm_bench.serve.exchange import ERROR_HANDLERS, PlainJson, read_json
from synthfm_bench.serve.guard import Guard
from synthfm_env.errors import InputError
from synthfm_env.prompts import Click
from synthfm_env.volumes.nifti import image_as_nifti

PAGE = Path(__file__).parent / "page"
"""The built page; `make play` builds it from ``web/``."""

_LONGEST_S = 86_400.0
# The page loads nothing from anywhere else; NiiVue's fonts are data URLs, its workers blobs.
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def make_app(game: Game, *, token: str | None = None, page: Path = PAGE) -> Starlette:
    """Return the application of one game for one person.

    Args:
        game: the game.
        token: a bearer token that the page must send, or None.
        page: folder of the built page.

    Raises:
        InputError: the page was not built.
    """
    check_page(page)
    routes = _Routes(game)
    return Starlette(
        routes=[*routes.routes(), Mount("/", StaticFiles(directory=page, html=True))],
        middleware=[
            Middleware(_AddHeaders),
            Middleware(Guard, token=token, open_to_all=lambda path: not path.startswith("/api/")),
        ],
        exception_handlers=ERROR_HANDLERS,
    )


def check_page(page: Path) -> None:
    """Raise InputError if the page was not built."""
    if not (page / "index.html").is_file():
        raise InputError(f"{page}: the page is not built; run `make play`, which needs Node 20.19 or newer and npm")


class _Routes:
    """The routes of the JSON interface. One request at a time reaches the game."""

    def __init__(self, game: Game) -> None:
        self._game = game
        self._lock = threading.Lock()

    def routes(self) -> list[Route]:
        """Return the addresses of the page's requests."""
        return [
            Route("/api/study", self.study),
            Route("/api/open", self.open, methods=["POST"]),
            Route("/api/image", self.image),
            Route("/api/target", self.target),
            Route("/api/click", self.click, methods=["POST"]),
            Route("/api/undo", self.undo, methods=["POST"]),
            Route("/api/finish", self.finish, methods=["POST"]),
            Route("/api/curves", self.curves),
            Route("/api/mask", self.mask),
            Route("/api/end", self.end, methods=["POST"]),
        ]

    async def study(self, request: Request) -> Response:
        """Answer with the structures to segment and their state."""
        return PlainJson(await self._locked(self._game.describe))

    async def open(self, request: Request) -> Response:
        """Open a structure."""
        message = await read_json(request)
        index = message.get("task")
        if not isinstance(index, int) or isinstance(index, bool):
            raise InputError(f"task is {messages.shown(index)}; expected a whole number")
        return PlainJson(await self._locked(lambda: self._game.open(index)))

    async def image(self, request: Request) -> Response:
        """Answer with the image as NIfTI."""

        def read() -> bytes:
            return image_as_nifti(self._opened().volume)

        return Response(await self._locked(read), media_type="application/octet-stream")

    async def target(self, request: Request) -> Response:
        """Answer with the target's voxels, one byte each; allowed in practice only."""

        def read() -> bytes:
            return self._game.target().tobytes()

        return Response(await self._locked(read), media_type="application/octet-stream")

    async def click(self, request: Request) -> Response:
        """Place a click."""
        message = await read_json(request)
        click = Click(messages.voxel(message, "zyx"), messages.flag(message, "positive"))
        thought = _thought(message)
        return await self._answered(lambda: self._game.click(click, thought))

    async def undo(self, request: Request) -> Response:
        """Take the newest click back."""
        thought = _thought(await read_json(request))
        return await self._answered(lambda: self._game.undo(thought))

    async def finish(self, request: Request) -> Response:
        """End the structure."""
        thought = _thought(await read_json(request))
        return await self._answered(lambda: self._game.finish(thought))

    async def curves(self, request: Request) -> Response:
        """Answer with the Dice curves of finished structures, beside the protocols'."""
        return PlainJson(await self._locked(self._game.curves))

    async def mask(self, request: Request) -> Response:
        """Answer with the mask as NIfTI or DICOM SEG."""
        as_dicom = request.query_params.get("format") == "dicom"

        def read() -> tuple[bytes, str]:
            opened = self._opened()
            write = dicom_bytes if as_dicom else nifti_bytes
            name = mask_name(opened.volume, self._game.structure, ".dcm" if as_dicom else ".nii.gz")
            return write(self._game.mask, opened.volume, self._game.structure), name

        body, name = await self._locked(read)
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(body, media_type="application/octet-stream", headers=headers)

    async def end(self, request: Request) -> Response:
        """End the game."""
        return PlainJson(await self._locked(self._game.end))

    def _opened(self) -> Any:
        if self._game.volume is None:
            raise InputError("no structure is open; open one first")
        return self._game

    async def _locked(self, read: Callable[[], Any]) -> Any:
        def run() -> Any:
            with self._lock:
                return read()

        return await run_in_threadpool(run)

    async def _answered(self, step: Callable[[], Answer]) -> Response:
        answer: Answer = await self._locked(step)
        facts = answer.facts | {"spans": answer.spans}
        body = b"" if answer.voxels is None else answer.voxels.tobytes()
        headers = {"X-Meta": json.dumps(facts)}
        return Response(body, media_type="application/octet-stream", headers=headers)


class _AddHeaders:
    """Middleware that adds security headers, which forbid other origins."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _thought(message: dict[str, Any]) -> Thought:
    return Thought(_seconds(message, "thought_s"), _seconds(message, "pause_s"))


def _seconds(message: dict[str, Any], key: str) -> float:
    value = message.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LONGEST_S:  # nor NaN
        raise InputError(f"{key} is {messages.shown(value)}; expected seconds, at most a day")
    return float(value)
