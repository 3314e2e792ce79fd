"""Keeps the state of one viewer: image, prompts and mask, in the axis order of the viewer's array."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import InputError
from synthfm_env.geometry import bounding_box
from synthfm_env.prompts import Box, Click
from synthfm_env.segmenters import Capabilities, Session
from synthfm_env.volumes import to_uint8
from synthfm_env.volumes.axis_order import AxisOrder
from synthfm_env.volumes.intensity import check_intensities, guess_modality

Spans = list[list[int]]
"""A box as half-open intervals, one for each axis, in the protocol's form."""


class KnownImage(Protocol):
    """A recognised image, which opens its own session."""

    @property
    def order(self) -> AxisOrder:
        """Axis order of the recognised array relative to the image's (z, y, x)."""

    @property
    def open(self) -> Callable[[], Session]:
        """Opens the session."""


Recognise = Callable[[NDArray[np.float32]], KnownImage | None]


class Opener(Protocol):
    """Interface of a segmenter, as far as a viewer session needs it."""

    @property
    def capabilities(self) -> Capabilities:
        """Prompts that the segmenter takes."""

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> Session:
        """Open a session on a uint8 image; see ``Segmenter.start``."""


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """Change of the viewer's mask after a prompt.

    Attributes:
        ran: whether the mask was computed.
        spans: box of the changed voxels, None if no voxel changed or no target buffer was set.
        voxels: the mask in that box, in the target buffer's dtype.
    """

    ran: bool
    spans: Spans | None = None
    voxels: NDArray | None = None


@dataclass(slots=True)
class _Queue:
    """Prompts that wait for a prediction, in the volume's axis order."""

    clicks: list[Click] = field(default_factory=list)
    box: Box | None = None
    mask: NDArray[np.bool_] | None = None

    def __bool__(self) -> bool:
        return bool(self.clicks) or self.box is not None or self.mask is not None


@dataclass(eq=False, slots=True)
class _Opened:
    """The present image with its session.

    Attributes:
        shape: of the viewer's array.
        order: its axis order relative to the volume's (z, y, x).
        session: of the segmenter.
        prompts: number of answered prompts.
        queue: prompts that wait.
    """

    shape: tuple[int, ...]
    order: AxisOrder
    session: Session
    prompts: int = 0
    queue: _Queue = field(default_factory=_Queue)


class ViewerSession:
    """State of one lease. Methods may be called from any thread; one runs at a time.

    The viewer's array may have any axis order. With an ``affine`` (4x4, from the array's index to RAS+ mm) among the
    image's properties, the image is reoriented as ``synthfm segment`` reorients a file, so that both give the same
    mask. Without one the array's axes are (z, y, x).

    Args:
        opener: the segmenter.
        running: lock around the segmenter, shared by all sessions.
        recognise: returns an image that opens its own session, or None.

    Attributes:
        upload: lock while an array is read, so that each client has at most one in memory.
    """

    def __init__(
        self,
        opener: Opener,
        running: threading.Lock,
        recognise: Recognise = lambda image: None,
    ) -> None:
        self._opener = opener
        self._running = running
        self._recognise = recognise
        self.upload = asyncio.Lock()
        self._own = threading.Lock()
        self._opened: _Opened | None = None
        self._buffer: tuple[tuple[int, int, int], np.dtype] | None = None
        self._shown: NDArray[np.bool_] | None = None
        self._closed = False

    def set_image(
        self,
        array: NDArray,
        spacing: tuple[float, float, float],
        affine: NDArray[np.float64] | None,
        windowed: bool = False,
    ) -> tuple[int, ...]:
        """Open an image in place of the previous one.

        Args:
            array: (1, A, B, C), any real dtype, in the scanner's units; the protocol's leading axis is the channel.
            spacing: in mm along A, B and C; ``affine`` takes precedence.
            affine: 4x4, or None.
            windowed: whether the array is in 8 bits already, as the segmenter shall get it. A viewer's uint8 image is
                scaled all the same, as `synthfm segment` scales a file of that type.

        Returns:
            The array's shape.

        Raises:
            InputError: the number of axes or channels is wrong, the voxels are invalid, or they are stated to be
                windowed and are not uint8.
        """
        # Check the array, and turn it to the axes of volumes.
        if array.ndim != 4 or array.shape[0] != 1:
            raise InputError(f"image has shape {list(array.shape)}; expected one channel and three axes: [1, A, B, C]")
        grid = array[0]
        order, lengths = AxisOrder(), spacing
        if affine is not None:
            order = AxisOrder.from_affine(affine, grid.shape)
            a, b, c = np.linalg.norm(affine[:3, :3], axis=0).tolist()
            lengths = (a, b, c)
        check_intensities(grid, "image")
        # Scale to 8 bits, unless the image is one of a suite.
        known, image = None, None
        if windowed:
            if grid.dtype != np.uint8:
                raise InputError(f"image of {grid.dtype} is stated to be windowed; expected uint8")
            image = np.ascontiguousarray(order.to_volume(grid))
        else:
            with np.errstate(over="ignore"):  # values beyond float32 become infinite and are refused
                voxels = np.ascontiguousarray(order.to_volume(grid), dtype=np.float32)
            check_intensities(voxels, "image")
            known = self._recognise(voxels)
            image = to_uint8(voxels, guess_modality(voxels)) if known is None else None
        # Open a session in place of the one before.
        with self._own:
            self._check_open()
            self._drop_image()
            with self._running:
                if known is not None:
                    order, session = known.order.after(order), known.open()
                else:
                    assert image is not None, "made above"
                    session = self._opener.start(image, order.lengths_to_volume(lengths))
            self._opened = _Opened(grid.shape, order, session)
        return array.shape

    def set_target_buffer(self, shape: tuple[int, int, int], dtype: np.dtype) -> None:
        """Set the shape and dtype of the viewer's mask, which is empty.

        Raises:
            InputError: the image has another shape.
        """
        with self._own:
            self._check_open()
            if self._opened is not None and shape != self._opened.shape:
                raise InputError(f"target buffer has shape {list(shape)}, the image {list(self._opened.shape)}")
            self._buffer, self._shown = (shape, dtype), None

    def add_point(self, voxel: tuple[int, int, int], positive: bool, run: bool) -> Change:
        """Add a click, given in voxels of the viewer's array."""
        with self._own:
            opened = self._image()
            if not positive and not self._opener.capabilities.negative_clicks:
                raise InputError("this segmenter takes no negative clicks")
            Click(voxel).check_inside(opened.shape)
            opened.queue.clicks.append(Click(opened.order.voxel_to_volume(voxel, opened.shape), positive))
            return self._answer(opened, run)

    def add_box(self, spans: Sequence[tuple[int, int]], positive: bool, run: bool) -> Change:
        """Add a box, given in voxels of the viewer's array and clipped to it."""
        with self._own:
            opened = self._image()
            if not self._opener.capabilities.boxes:
                raise InputError("this segmenter takes no boxes; give points")
            if not positive:
                raise InputError("this segmenter takes no negative boxes; give negative points")
            clipped = [(max(a, 0), min(b, n)) for (a, b), n in zip(spans, opened.shape, strict=True)]
            if any(a >= b for a, b in clipped):
                raise InputError(f"box {[list(span) for span in spans]} is outside the image {list(opened.shape)}")
            corners = [
                opened.order.voxel_to_volume([span[0] for span in clipped], opened.shape),
                opened.order.voxel_to_volume([span[1] - 1 for span in clipped], opened.shape),
            ]
            (z0, z1), (y0, y1), (x0, x1) = (sorted(pair) for pair in zip(*corners, strict=True))
            opened.queue.box = Box((z0, y0, x0), (z1 + 1, y1 + 1, x1 + 1))
            return self._answer(opened, run)

    def add_initial_mask(self, mask: NDArray, run: bool) -> Change:
        """Replace all prompts by an initial mask, which the viewer shows at once."""
        with self._own:
            opened = self._image()
            if not self._opener.capabilities.initial_mask:
                raise InputError("this segmenter takes no initial mask; give points")
            if mask.shape != opened.shape:
                raise InputError(f"initial mask has shape {list(mask.shape)}, the image {list(opened.shape)}")
            if not mask.any():
                raise InputError("initial mask is empty; give one with at least one voxel")
            self._forget_prompts(opened)
            inside = mask != 0
            opened.queue.mask = np.ascontiguousarray(opened.order.to_volume(inside))
            self._shown = inside
            return self._answer(opened, run)

    def predict(self) -> Change:
        """Answer the waiting prompts."""
        with self._own:
            return self._answer(self._image(), run=True)

    def undo(self) -> Change:
        """Take back the waiting prompts or, if there are none, the prompt answered last."""
        with self._own:
            opened = self._image()
            if opened.queue:
                opened.queue = _Queue()
                return Change(ran=True)
            if not opened.prompts:
                return Change(ran=False)
            with self._running:
                answer = opened.session.undo()
            opened.prompts -= 1
            return self._change(opened, answer.mask)

    def reset(self) -> None:
        """Remove all prompts and keep the image."""
        with self._own:
            self._check_open()
            if self._opened is not None:
                self._forget_prompts(self._opened)
            self._shown = None

    def close(self) -> None:
        """Close the image, after a running answer. May be called twice."""
        with self._own:
            self._drop_image()
            self._closed = True

    def _answer(self, opened: _Opened, run: bool) -> Change:
        queue = opened.queue
        if not run or not queue:
            return Change(ran=False)
        opened.queue = _Queue()
        with self._running:
            answer = opened.session.prompt(queue.clicks, box=queue.box, mask=queue.mask)
        opened.prompts += 1
        return self._change(opened, answer.mask)

    def _change(self, opened: _Opened, mask: NDArray[np.bool_]) -> Change:
        """Return the difference to the mask that the viewer shows, and record the new one as shown."""
        if self._buffer is None:
            return Change(ran=True)
        new = opened.order.from_volume(mask)
        differs = new if self._shown is None else new != self._shown
        self._shown = np.array(new)
        box = bounding_box(differs)
        if box is None:
            return Change(ran=True)
        return Change(True, [[side.start, side.stop] for side in box], new[box].astype(self._buffer[1]))

    def _forget_prompts(self, opened: _Opened) -> None:
        opened.queue, opened.prompts = _Queue(), 0
        with self._running:
            opened.session.reset()

    def _image(self) -> _Opened:
        self._check_open()
        if self._opened is None:
            raise InputError("no image was set; send one to /set_image first")
        return self._opened

    def _check_open(self) -> None:
        if self._closed:
            raise InputError("this session was closed; claim another")

    def _drop_image(self) -> None:
        opened, self._opened = self._opened, None
        self._buffer = self._shown = None
        if opened is not None:
            with self._running:
                opened.session.close()
