"""Serves any segmenter by nnInteractive's remote protocol, as a Starlette application."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from synthfm_bench.serve import messages
from synthfm_bench.serve.exchange import ERROR_HANDLERS, PlainJson, answer_with, read_body, read_json
from synthfm_bench.serve.guard import Guard
from synthfm_bench.serve.leases import FullError, LeaseGoneError, Leases
from synthfm_bench.serve.viewer_session import Change, Opener, Recognise, ViewerSession
from synthfm_bench.serve.wire import MIB, check_size, read_array, write_array
from synthfm_env.errors import InputError

LEASE_HEADER = "X-Lease-Token"
META_HEADER = "X-Meta"
_SWEEP_S = 5.0
_PACKED_OVERHEAD = MIB  # headers, and the growth of data that cannot be compressed

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a server's clients.

    Attributes:
        sessions: most leases at a time.
        mib: largest image in MiB; a voxel counts as at least 4 bytes.
        idle_s: seconds after which a lease without an action ends.
        liveness_s: seconds after which a lease without any request ends, heartbeats included.
    """

    sessions: int = 4
    mib: int = 1024
    idle_s: float = 600.0
    liveness_s: float = 60.0


def make_app(
    opener: Opener,
    *,
    limits: Limits | None = None,
    token: str | None = None,
    recognise: Recognise = lambda image: None,
    clock: Callable[[], float] = time.monotonic,
) -> Starlette:
    """Return the application; ``app.state.leases`` holds its sessions.

    All sessions share the segmenter, which answers one prompt at a time.

    Args:
        opener: the segmenter.
        limits: of the clients.
        token: a bearer token that clients must send, or None.
        recognise: returns an image that opens its own session, or None.
        clock: monotonic seconds.

    Example:
        >>> from starlette.testclient import TestClient
        >>> from synthfm_env import make_segmenter
        >>> app = make_app(make_segmenter("geodesic"))
        >>> TestClient(app, base_url="http://localhost").get("/healthz").json()
        {'ok': True}
    """
    limits = limits or Limits()
    running = threading.Lock()
    leases = Leases(
        lambda: ViewerSession(opener, running, recognise),
        most=limits.sessions,
        idle_s=limits.idle_s,
        liveness_s=limits.liveness_s,
        clock=clock,
    )
    # A task that ends expired leases runs as long as the server.
    routes = _Routes(opener, leases, limits).routes()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(_sweep(leases))
        try:
            yield
        finally:
            sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweeper
            await run_in_threadpool(leases.close)

    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, token=token)],
        exception_handlers={
            **ERROR_HANDLERS,
            LeaseGoneError: answer_with(410, "lease expired, was released, or is missing; claim another"),
            FullError: answer_with(503, f"all {limits.sessions} sessions of this server are taken; try later"),
        },
        lifespan=lifespan,
    )
    app.state.leases = leases
    return app


class _Routes:
    """The routes of the protocol."""

    def __init__(self, opener: Opener, leases: Leases, limits: Limits) -> None:
        self._opener = opener
        self._leases = leases
        self._limits = limits

    def routes(self) -> list[Route]:
        """Return the addresses of the protocol's requests."""
        get: dict[str, Handler] = {
            "/healthz": self.healthz,
            "/capabilities": self.capabilities,
            "/lease_status": self.lease_status,
        }
        post: dict[str, Handler] = {
            "/claim": self.claim,
            "/release": self.release,
            "/heartbeat": self.heartbeat,
            "/set_image": self.set_image,
            "/set_target_buffer": self.set_target_buffer,
            "/set_do_autozoom": self.set_do_autozoom,
            "/reset_interactions": self.reset_interactions,
            "/undo": self.undo,
            "/predict": self.predict,
            "/add_point_interaction": self.add_point,
            "/add_bbox_interaction": self.add_box,
            "/add_initial_seg_interaction": self.add_initial_mask,
            "/add_scribble_interaction": self.refuse_drawing,
            "/add_lasso_interaction": self.refuse_drawing,
        }
        return [Route(path, handler, methods=["GET"]) for path, handler in get.items()] + [
            Route(path, handler, methods=["POST"]) for path, handler in post.items()
        ]

    # Verbs that need no lease

    async def healthz(self, request: Request) -> Response:
        """Answer that the server runs."""
        return PlainJson({"ok": True})

    async def capabilities(self, request: Request) -> Response:
        """Answer with the prompts that the segmenter takes, in the protocol's form."""
        takes = self._opener.capabilities
        return PlainJson(
            {
                "supported_interactions": {
                    "points": True,
                    "bbox2d": takes.boxes,
                    "bbox3d": takes.boxes and takes.volumes,
                    "scribble": False,
                    "lasso": False,
                },
                # Channels describe nnInteractive's network; its client requires them.
                "channel_mapping": {"prev_seg": 0, "bbox2d": [1, 2], "bbox3d": [1, 2], "points": [3, 4]},
                "num_interaction_channels": 5,
                "supports_initial_label": takes.initial_mask,
                "supports_zero_shot_label_refinement": False,
                "preferred_scribble_thickness": [1, 1, 1],  # napari indexes it by axis
                "interaction_decay": None,
                "patch_size": None,
                "do_autozoom": False,
                "inference_session_version": f"synthfm_env {metadata.version('synthfm_env')}",
                "license": getattr(self._opener, "license", None),
                "supports_undo": True,
            }
        )

    async def claim(self, request: Request) -> Response:
        """Give a client a lease."""
        return PlainJson(
            {
                "lease_token": self._leases.claim(),
                "idle_timeout_seconds": self._limits.idle_s,
                "liveness_timeout_seconds": self._limits.liveness_s,
                "max_sessions": self._limits.sessions,
            }
        )

    async def release(self, request: Request) -> Response:
        """Take a lease back."""
        await run_in_threadpool(self._leases.release, _token(request))
        return PlainJson({"released": True})

    # The lease itself

    async def heartbeat(self, request: Request) -> Response:
        """Keep a lease alive."""
        return PlainJson({"remaining_seconds": self._leases.beat(_token(request))})

    async def lease_status(self, request: Request) -> Response:
        """Answer with the seconds that a lease has left."""
        remaining = self._leases.remaining(_token(request))
        return PlainJson({"remaining_seconds": remaining, "idle_timeout_seconds": self._limits.idle_s})

    # Image and mask

    async def set_image(self, request: Request) -> Response:
        """Take an image, and open a session on it."""
        session = self._session(request)
        meta = _meta(request)
        properties = meta.get("image_properties") or {}
        if not isinstance(properties, dict):
            raise InputError(f"image_properties is {messages.shown(properties)}; expected an object")
        spacing, affine = messages.spacing(properties), messages.affine(properties)
        windowed = messages.windowed(properties)
        async with session.upload:
            body = await self._packed(request)
            shape = await run_in_threadpool(
                lambda: session.set_image(read_array(body, self._limits.mib), spacing, affine, windowed)
            )
        return PlainJson({"original_image_shape": list(shape)})

    async def set_target_buffer(self, request: Request) -> Response:
        """Set shape and type of the masks that the client expects."""
        session = self._session(request)
        message = await read_json(request)
        shape, dtype = messages.shape(message), messages.mask_dtype(message)
        check_size(shape, dtype, self._limits.mib)
        await run_in_threadpool(session.set_target_buffer, shape, dtype)
        return PlainJson({})

    async def set_do_autozoom(self, request: Request) -> Response:
        """Accept the client's choice of a crop, which has no effect here."""
        self._session(request)  # without effect, because a segmenter chooses its own crop; all viewers send it
        messages.flag(await read_json(request), "do_autozoom")
        return PlainJson({})

    # Prompts

    async def add_point(self, request: Request) -> Response:
        """Take a click."""
        session = self._session(request)
        message = await read_json(request)
        voxel = messages.voxel(message, "coordinates")
        positive, run = messages.flag(message, "include_interaction"), messages.flag(message, "run_prediction", True)
        return await _changed(lambda: session.add_point(voxel, positive, run))

    async def add_box(self, request: Request) -> Response:
        """Take a box."""
        session = self._session(request)
        message = await read_json(request)
        spans = messages.intervals(message, "bbox_coords")
        positive, run = messages.flag(message, "include_interaction"), messages.flag(message, "run_prediction", True)
        return await _changed(lambda: session.add_box(spans, positive, run))

    async def add_initial_mask(self, request: Request) -> Response:
        """Take a first mask."""
        session = self._session(request)
        run = messages.flag(_meta(request), "run_prediction", False)
        async with session.upload:
            body = await self._packed(request)
            return await _changed(lambda: session.add_initial_mask(read_array(body, self._limits.mib), run))

    async def refuse_drawing(self, request: Request) -> Response:
        """Refuse scribbles and lassos."""
        self._session(request)
        raise InputError("this segmenter takes no scribbles and no lassos; give points")

    async def predict(self, request: Request) -> Response:
        """Answer the prompts that have not been answered."""
        session = self._session(request)
        await read_json(request)
        return await _changed(session.predict)

    async def undo(self, request: Request) -> Response:
        """Take the newest prompt back."""
        session = self._session(request)
        return await _changed(session.undo)

    async def reset_interactions(self, request: Request) -> Response:
        """Remove all prompts."""
        session = self._session(request)
        await run_in_threadpool(session.reset)
        return PlainJson({})

    def _session(self, request: Request) -> ViewerSession:
        return self._leases.act(_token(request))

    async def _packed(self, request: Request) -> bytes:
        return await read_body(request, self._limits.mib * MIB + _PACKED_OVERHEAD, f"{self._limits.mib} MiB")


def _token(request: Request) -> str | None:
    return request.headers.get(LEASE_HEADER)


def _meta(request: Request) -> dict[str, Any]:
    return messages.read_object(request.headers.get(META_HEADER, ""), META_HEADER)


async def _changed(verb: Callable[[], Change]) -> Response:
    """Run a method in a thread, and pack its change in the same thread."""

    def run() -> tuple[Change, bytes]:
        change = verb()
        return change, b"" if change.voxels is None else write_array(change.voxels)

    change, body = await run_in_threadpool(run)
    meta: dict[str, Any] = {"ran_prediction": change.ran, "bbox": change.spans}
    if change.voxels is not None:
        meta |= {"dtype": str(change.voxels.dtype), "shape": list(change.voxels.shape)}
    headers = {META_HEADER: json.dumps(meta, separators=(",", ":"))}
    return Response(body, media_type="application/octet-stream", headers=headers)


async def _sweep(leases: Leases) -> None:
    while True:
        await asyncio.sleep(_SWEEP_S)
        await run_in_threadpool(leases.sweep)
