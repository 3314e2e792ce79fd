"""Uses nnInteractive, or any server of its protocol, through the official client (extra ``nninteractive``)."""

import contextlib
import re
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError, SegmenterError, SegmenterTimeoutError
from synthfm_env.printable import shown
from synthfm_env.prompts import Box, Prompt
from synthfm_env.segmenters.base import Capabilities, Segmenter
from synthfm_env.segmenters.extras import import_extra
from synthfm_env.segmenters.image_input import prepare_grey
from synthfm_env.segmenters.prompt_history import PromptHistorySession

TIME_LIMIT_S = 300.0
_USER_INFO = re.compile(r"//[^/?#]*@")
_CLIENT = "nnInteractive.inference.remote"


class NnInteractive(Segmenter):
    """A server that speaks nnInteractive's protocol (Isensee et al., 2025), used as a viewer uses it.

    ``synthfm serve`` is such a server, and so is ``nninteractive-server``. The image is sent as (1, D, H, W) in 8 bits,
    so coordinates on the wire are (z, y, x) as here; an RGB image is sent as grey. A session holds a lease; after
    ``close`` the next session uses it.

    - A click is a point, a box a bounding box, an initial mask an initial segmentation; several prompts at once are
      predicted once, after the last of them.
    - ``undo`` asks the server, which can take back one interaction. Beyond that all prompts in force are given again.
    - ``synthfm serve`` takes the 8 bits as they are; a server that scales intensities itself does so.
    - An API key is taken from ``NN_INTERACTIVE_API_KEY``, as by the client.

    Args:
        url: of the server, for example ``"http://127.0.0.1:1527"``.
        time_limit_s: longest time for an answer.

    Raises:
        InputError: the extra is not installed, the address has a user or password, the server cannot be reached, is
            full, wants a key, or takes no points.
    """

    def __init__(self, url: str, time_limit_s: float = TIME_LIMIT_S) -> None:
        """Claim a first lease and read which prompts the server takes."""
        if _USER_INFO.search(url):  # names and messages, and so records, would show the password
            raise InputError(
                f"nninteractive:{_USER_INFO.sub('//...@', url)}: an address with a user or password is not taken; "
                "give the key in NN_INTERACTIVE_API_KEY"
            )
        if not url.startswith(("http://", "https://")):
            raise InputError(f"nninteractive:{url}: expected a server's address, for example http://127.0.0.1:1527")
        import_extra(_CLIENT, "nninteractive", "nninteractive")
        self._url = url
        self._limit_s = time_limit_s
        self._free: list[Any] = []
        self._lock = threading.Lock()
        try:
            client = self.claim()
        except SegmenterError as error:
            raise InputError(str(error)) from error
        supported = client.supported_interactions
        if not supported.get("points"):
            client.close()
            raise InputError(f"the server at {url} takes no points; it supports {supported}")
        self._free.append(client)
        self.thick_boxes = bool(supported.get("bbox3d"))
        self.name = f"nninteractive:{url}"
        self.capabilities = Capabilities(
            boxes=self.thick_boxes or bool(supported.get("bbox2d")), initial_mask=bool(client.supports_initial_label)
        )

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> "NnInteractiveSession":
        """Open a session on the server; see ``Segmenter.start``.

        Raises:
            SegmenterError: the server is lost or full, or its answer cannot be read.
        """
        began = time.perf_counter()
        grey = prepare_grey(image, spacing)
        client, buffer = self._ready_client(grey, spacing)
        return NnInteractiveSession(self, client, buffer, time.perf_counter() - began)

    def claim(self) -> Any:
        """Return a client with a new lease."""
        remote = import_extra(_CLIENT, "nninteractive", "nninteractive")
        with self.translated_errors():
            return remote.nnInteractiveRemoteInferenceSession(
                self._url, read_timeout=self._limit_s, set_image_read_timeout=self._limit_s
            )

    def hand_back(self, client: Any) -> None:
        """Keep a client and its lease for the next session."""
        with self._lock:
            self._free.append(client)

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Raise this package's errors instead of the client's in the block."""
        httpx = import_extra("httpx", "nninteractive", "nninteractive")
        remote = import_extra(_CLIENT, "nninteractive", "nninteractive")
        where = f"nninteractive:{self._url}"
        try:
            yield
        except remote.SessionExpiredError as error:
            raise LeaseGoneError(f"{where}: the lease is gone ({error}); open another session") from error
        except remote.ServerAtCapacityError as error:
            raise SegmenterError(f"{where}: the server is full ({error}); close a session or ask for more") from error
        except httpx.HTTPStatusError as error:
            raise _of_status(where, error) from error
        except httpx.TimeoutException as error:
            raise SegmenterTimeoutError(f"{where} gave no answer within {self._limit_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SegmenterError(f"{where} cannot be reached: {error or type(error).__name__}") from error
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, struct.error) as error:
            # The client does not check answers, so an answer of another form ends in any of these.
            raise SegmenterError(f"{where} gave an answer that cannot be read: {error!r}") from error

    def _ready_client(
        self, image: NDArray[np.uint8], spacing: tuple[float, float, float]
    ) -> tuple[Any, NDArray[np.uint8]]:
        """Return a client that has the image, with the buffer that it writes masks to."""
        with self._lock:
            kept = self._free.pop() if self._free else None
        if kept is not None:
            with contextlib.suppress(LeaseGoneError):  # it ran out while it was kept
                return kept, self._send(kept, image, spacing)
        client = self.claim()
        return client, self._send(client, image, spacing)

    def _send(self, client: Any, image: NDArray[np.uint8], spacing: tuple[float, float, float]) -> NDArray[np.uint8]:
        """Send the image, and return the buffer for masks. If that fails, the next session uses the client's lease."""
        buffer = np.zeros(image.shape, dtype=np.uint8)
        try:
            with self.translated_errors():
                # Our own server takes 8 bits as they are if it is told so; others ignore the word.
                properties = {"spacing": [float(mm) for mm in spacing], "windowed": True}
                client.set_image(image[np.newaxis], properties)
                client.set_target_buffer(buffer)
                taken = tuple(client.original_image_shape)
            if taken[-3:] != image.shape:
                raise SegmenterError(f"{self.name} took an image of shape {shown(taken)}, not {image.shape}")
        except LeaseGoneError:
            client.close()
            raise
        except BaseException:
            self.hand_back(client)
            raise
        return buffer


class LeaseGoneError(SegmenterError):
    """The server no longer knows the lease of a client."""


class NnInteractiveSession(PromptHistorySession):
    """Prompts the server with one lease. The server keeps the interactions, this session the answers."""

    def __init__(self, segmenter: NnInteractive, client: Any, buffer: NDArray[np.uint8], encode_seconds: float) -> None:
        """Take a client that has the image.

        Args:
            segmenter: that the client belongs to.
            client: with a lease.
            buffer: uint8 (D, H, W), into which the client writes each answer.
            encode_seconds: cost of sending the image.
        """
        depth, height, width = buffer.shape
        super().__init__(segmenter.name, segmenter.capabilities, (depth, height, width), encode_seconds)
        self._segmenter = segmenter
        self._client = client
        self._buffer = buffer
        self._out_of_step = False  # whether the server's interactions may differ from the history

    def _answer(self, prompts: Prompt) -> NDArray[np.bool_]:
        newest = _difference(self._prompts, prompts)
        box = newest.box
        if box is not None and box.thickness > 1 and not self._segmenter.thick_boxes:
            raise InputError(f"box {box}: {self._name} takes boxes of one slice alone")
        if self._out_of_step:
            self._replay()
        # If the prompt fails, the server may have kept a part of it.
        self._out_of_step = True
        self._give(newest)
        mask = self._buffer > 0
        self._out_of_step = False
        return mask

    def _give(self, prompt: Prompt) -> None:
        """Send the interactions of one prompt; the last of them runs the prediction."""
        client = self._client
        with self._segmenter.translated_errors():
            left = len(prompt.clicks) + (prompt.box is not None)
            if prompt.mask is not None:
                client.add_initial_seg_interaction(prompt.mask.astype(np.uint8), run_prediction=left == 0)
            if prompt.box is not None:
                left -= 1
                client.add_bbox_interaction(_bounds(prompt.box), include_interaction=True, run_prediction=left == 0)
            for click in prompt.clicks:
                left -= 1
                client.add_point_interaction(
                    list(click.zyx), include_interaction=click.positive, run_prediction=left == 0
                )
        if self._buffer.shape != self._shape:
            raise SegmenterError(f"{self._name} answered on the grid {self._buffer.shape}: expected {self._shape}")

    def _take_back(self) -> None:
        """Undo on the server if the newest prompt is one interaction and the server then shows the earlier mask.

        Otherwise all prompts in force are given again before the next one.
        """
        known, before = self._history[-2] if len(self._history) > 1 else (Prompt(), None)
        newest = _difference(known, self._prompts)
        in_step = not self._out_of_step
        self._out_of_step = True  # also if the server undoes and its answer is lost
        alone = len(newest.clicks) + (newest.box is not None) + (newest.mask is not None) == 1
        if alone and in_step and self._client.supports_undo:
            with self._segmenter.translated_errors():
                undone = self._client.undo()
            left = self._buffer > 0
            if undone and (np.array_equal(np.packbits(left), before) if before is not None else not left.any()):
                self._out_of_step = False

    def _forget(self) -> None:
        self._out_of_step = True  # also if the server resets and its answer is lost
        with self._segmenter.translated_errors():
            self._client.reset_interactions()
        self._out_of_step = False

    def _release(self) -> None:
        self._segmenter.hand_back(self._client)

    def _replay(self) -> None:
        """Give all prompts of the history again."""
        with self._segmenter.translated_errors():
            self._client.reset_interactions()
        known = Prompt()
        for prompts, _ in self._history:
            self._give(_difference(known, prompts))
            known = prompts


def _difference(known: Prompt, prompts: Prompt) -> Prompt:
    """Return the part of ``prompts`` that was added to ``known``."""
    return Prompt(
        prompts.clicks[len(known.clicks) :],
        prompts.box if prompts.box is not known.box else None,
        prompts.mask if prompts.mask is not known.mask else None,
    )


def _bounds(box: Box) -> list[list[int]]:
    return [[first, last] for first, last in zip(box.start, box.stop, strict=True)]


def _of_status(where: str, error: Any) -> Exception:
    """Return this package's error for an HTTP status that is no success."""
    status = error.response.status_code
    if status in (401, 403):
        return InputError(f"{where} wants an API key: set NN_INTERACTIVE_API_KEY")
    detail = " ".join(error.response.text.split())[:200]
    if status in (400, 422):
        return InputError(f"{where} refused the prompt: {detail}")
    return SegmenterError(f"{where} answered with status {status}: {detail}")
