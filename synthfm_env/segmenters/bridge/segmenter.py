"""Makes a bridged model a ``Segmenter``."""

import contextlib
import itertools
import shutil
import tempfile
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm_env.arguments import is_number
from synthfm_env.errors import InputError, SegmenterError
from synthfm_env.printable import printable, shown
from synthfm_env.prompts import Prompt
from synthfm_env.segmenters.base import Capabilities, Segmenter
from synthfm_env.segmenters.bridge.process import BridgeProcess
from synthfm_env.segmenters.bridge.protocol import describe_array, prompt_message, read_capabilities, write_array
from synthfm_env.segmenters.external_process import split_command
from synthfm_env.segmenters.foreign_file import ForeignFileError, open_regular_file
from synthfm_env.segmenters.image_input import prepare_image
from synthfm_env.segmenters.orphan_guard import guard
from synthfm_env.segmenters.prompt_history import PromptHistorySession

TIME_LIMIT_S = 300.0
_LONGEST_NAME = 120  # characters
_MEMORY_FOLDER = Path("/dev/shm")  # files there are memory; elsewhere the system's cache serves nearly as well


class BridgeSegmenter(Segmenter):
    """A model in a process of its own, as ``bridge.protocol`` describes it.

    The process is started once and serves all sessions. If it dies, hangs or writes garbage, the click raises
    ``SegmenterError``; the next click starts the process again, with all prompts in force.

    Args:
        command: the command that serves the model, split as a shell does, for example
            ``"/envs/other/bin/python my_model.py"`` or ``"python -m synthfm_env.segmenters.bridge geodesic"``.
        time_limit_s: longest time for any answer, loading the model included.

    Raises:
        InputError: the command cannot be started, or does not speak the protocol.

    Example:
        >>> from synthfm_env import make_segmenter
        >>> import sys
        >>> segmenter = make_segmenter(f"bridge:{sys.executable} -m synthfm_env.segmenters.bridge geodesic")
        >>> segmenter.name
        'bridge:geodesic'
    """

    def __init__(self, command: str, time_limit_s: float = TIME_LIMIT_S) -> None:
        """Start the process and read its capabilities."""
        self._process = BridgeProcess(split_command(command, "bridge:"), time_limit_s)
        self._ids = itertools.count(1)
        try:
            self._process.ensure_running()
            self.capabilities = read_capabilities(self._process.hello.get("capabilities", {}), self._process.label)
        except SegmenterError as error:
            raise InputError(str(error)) from error
        name = self._process.hello.get("name")
        self.name = (
            f"bridge:{printable(name, _LONGEST_NAME)}" if isinstance(name, str) and name else f"bridge:{command}"
        )

    @property
    def process_id(self) -> int | None:
        """The id of the process; None while none runs."""
        return self._process.process_id

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> "BridgeSession":
        """Open a session in the process; see ``Segmenter.start``.

        Raises:
            SegmenterError: the process failed.
            InputError: as ``Segmenter.start``, or the model takes no such image.
        """
        began = time.perf_counter()
        grey_or_rgb = prepare_image(image, spacing)
        one_slice = grey_or_rgb.shape[0] == 1
        if not (self.capabilities.images if one_slice else self.capabilities.volumes):
            raise InputError(f"{self.name} takes no {'images of one slice' if one_slice else 'volumes'}")
        files = _SharedFiles(grey_or_rgb)
        try:
            session = BridgeSession(self.name, self.capabilities, self._process, self._ids, files, spacing)
        except BaseException:
            files.remove()
            raise
        session.opened_in(time.perf_counter() - began)
        return session


class BridgeSession(PromptHistorySession):
    """Sends all prompts in force with every call, so that the model need not keep a state."""

    def __init__(
        self,
        name: str,
        capabilities: Capabilities,
        process: BridgeProcess,
        ids: "itertools.count[int]",
        files: "_SharedFiles",
        spacing: tuple[float, float, float],
    ) -> None:
        """Open the session in the process."""
        super().__init__(name, capabilities, files.shape)
        self._process = process
        self._ids = ids
        self._files = files
        self._spacing = [float(mm) for mm in spacing]
        self._generation = 0
        self._id = 0
        self._messages: list[dict[str, Any]] = []  # of the prompts in force
        self._open()

    def opened_in(self, seconds: float) -> None:
        """Count the time of opening as encoding."""
        self._encode_seconds += seconds

    def _answer(self, prompts: Prompt) -> NDArray[np.bool_]:
        if self._process.ensure_running() != self._generation:
            self._open()
        count = len(self._history)
        try:
            messages = [*self._messages[:count], self._message(self._prompts, prompts, count)]
            answer = self._process.call({"call": "prompt", "session": self._id, "prompts": messages})
            mask = self._files.read_mask(answer.get("shape"), self._process.label)
        except ForeignFileError:
            self._process.end()  # the next prompt starts it again, with new files
            raise
        self._messages = messages
        self._count_encoding(answer.get("seconds"))
        return mask

    def _message(self, known: Prompt, prompts: Prompt, index: int) -> dict[str, Any]:
        """Return the part of ``prompts`` that is not in ``known``, as a message's field; it is the prompt ``index``."""
        box = prompts.box if prompts.box is not known.box else None
        mask = prompts.mask if prompts.mask is not known.mask else None
        shared = None if mask is None else self._files.write_prompt_mask(mask, index)
        return prompt_message(Prompt(prompts.clicks[len(known.clicks) :], box, mask), shared)

    def _open(self) -> None:
        """Open the session in a process that does not know it."""
        generation = self._process.ensure_running()
        self._id = next(self._ids)
        # An earlier process may have removed or changed the files.
        if not self._files.are_new:
            self._files.renew()
            known = Prompt()
            self._messages = []
            for index, (prompts, _) in enumerate(self._history):
                self._messages.append(self._message(known, prompts, index))
                known = prompts
        self._files.are_new = False
        image, mask = self._files.image, self._files.mask
        self._process.call(
            {"call": "start", "session": self._id, "image": image, "mask": mask, "spacing": self._spacing}
        )
        self._generation = generation  # after a failed start the next prompt tries again

    def _count_encoding(self, seconds: Any) -> None:
        """Count the seconds of encoding that the model reports with this answer, if they are two numbers."""
        if isinstance(seconds, list) and len(seconds) == 2 and all(map(is_number, seconds)):
            self._encode_seconds += float(min(max(0, seconds[0]), TIME_LIMIT_S))  # an int may exceed every float

    def _release(self) -> None:
        if self._process.generation == self._generation:
            with contextlib.suppress(SegmenterError, InputError):  # the process may have ended
                self._process.call({"call": "close", "session": self._id})
        self._files.remove()


class _SharedFiles:
    """The image and the mask of a session as files, in memory if there is room.

    The folder is deleted by ``remove``, else when this object or the process ends, even if the process is killed.

    Attributes:
        shape: (D, H, W) of the image.
        image: description of the image's file.
        mask: description of the mask's file.
        are_new: whether no model knows the files.
    """

    def __init__(self, image: NDArray[np.uint8]) -> None:
        depth, height, width = image.shape[:3]
        self.shape = (depth, height, width)
        self._voxels = image
        self._create()

    def renew(self) -> None:
        """Delete the files and write them again in another folder, without masks of prompts."""
        self.remove()
        self._create()

    def write_prompt_mask(self, mask: NDArray[np.bool_], index: int) -> dict[str, Any]:
        """Write the initial mask of a prompt.

        Raises:
            ForeignFileError: the folder is gone or full.
        """
        try:
            return write_array(self._folder / f"prompt-{index}", mask.view(np.uint8))
        except OSError as error:
            raise ForeignFileError(f"the bridge's folder {self._folder} cannot be written: {error.strerror}") from None

    def read_mask(self, shape: Any, what: str) -> NDArray[np.bool_]:
        """Return a copy of the answer. It is read, not mapped: a mapped file that is cut short ends this process.

        Raises:
            ForeignFileError: no regular file, another grid than the image's, or values other than 0 and 1.
        """
        if shape != list(self.shape):
            raise ForeignFileError(f"{what} answered with a mask of shape {shown(shape)}: expected {list(self.shape)}")
        count = int(np.prod(self.shape))
        voxels = np.empty(count, dtype=np.uint8)
        try:
            with open_regular_file(self._mask_file, count, f"{what}: the mask") as file:
                voxels = voxels[: file.readinto(voxels.data)]
        except OSError as error:
            raise ForeignFileError(f"{what}: the mask cannot be read: {error.strerror}") from None
        if voxels.size != count or voxels.max(initial=0) > 1:
            raise ForeignFileError(
                f"{what} wrote {voxels.size} voxels of up to {voxels.max(initial=0)} into the mask: "
                f"expected {count} of 0 or 1"
            )
        return voxels.reshape(self.shape).view(bool)

    def remove(self) -> None:
        """Delete the files."""
        self._finalizer()

    def _create(self) -> None:
        needed = 2 * (self._voxels.nbytes + int(np.prod(self.shape)))
        fits = _MEMORY_FOLDER.is_dir() and shutil.disk_usage(_MEMORY_FOLDER).free > needed
        self._folder = Path(tempfile.mkdtemp(prefix="synthfm-bridge-", dir=_MEMORY_FOLDER if fits else None))
        guard.add("folder", str(self._folder))
        self._finalizer = weakref.finalize(self, _remove_folder, str(self._folder))
        self._mask_file = self._folder / "mask"
        self.image = write_array(self._folder / "image", self._voxels)
        np.zeros(self.shape, dtype=np.uint8).tofile(self._mask_file)
        self.mask = describe_array(self._mask_file, np.uint8, self.shape)
        self.are_new = True


def _remove_folder(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    guard.drop("folder", folder)
