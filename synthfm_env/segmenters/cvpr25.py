"""Runs entries of the CVPR 2025 challenge on interactive 3D segmentation, as the challenge ran them."""

import contextlib
import shlex
import shutil
import subprocess
import tempfile
import uuid
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import SegmenterError, SegmenterTimeoutError
from synthfm_env.printable import error_line
from synthfm_env.prompts import Box, Prompt
from synthfm_env.segmenters.base import Capabilities, Segmenter
from synthfm_env.segmenters.external_process import kill_process, split_command, start_process
from synthfm_env.segmenters.foreign_file import open_regular_file
from synthfm_env.segmenters.image_input import prepare_grey
from synthfm_env.segmenters.orphan_guard import guard
from synthfm_env.segmenters.output_tail import OutputTail
from synthfm_env.segmenters.prompt_history import PromptHistorySession, Shape

TIME_LIMIT_S = 300.0
CASE = "case.npz"
_HEADER_BYTES = 1 << 16
_MOST_ARRAYS = 16  # of the image's size that the file of an answer may hold
_CONTAINERS = ("docker", "podman")
_KILL_S = 20.0  # for ending a container
_PIPE_S = 2.0  # for the end of the output, which a process that left the group may hold open
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Cvpr25Container(Segmenter):
    """A command that reads ``inputs/case.npz`` and writes ``outputs/case.npz``, started anew for every answer.

    SAM-Med3D, VISTA3D, SegVol, nnInteractive and the challenge's entries are published in this form. In the command
    ``{inputs}`` and ``{outputs}`` stand for the two folders, and ``{name}`` for a unique name of the container. The
    command runs in the folder that holds both, so a script that uses ``./inputs`` and ``./outputs`` needs no such word.

    The file holds what the challenge's script writes: ``imgs`` uint8 (D, H, W), ``spacing`` (z, y, x) in mm, ``boxes``
    if there is one, and from the first click on ``clicks`` ([{"fg": [[z, y, x], ...], "bg": [...]}]), ``clicks_order``
    ([["fg", "bg", ...]]) and ``prev_pred``. One structure is played at a time, as class 1. The answer is ``segs``.

    A command that fails, or that writes no ``segs`` on the image's grid, is an error. The challenge's script then takes
    the file of an earlier click as the answer.

    Args:
        command: split as a shell does, without running one.
        time_limit_s: for one answer, start of the container included. The challenge allowed 90 s a class in all.

    Raises:
        InputError: the command is empty or cannot be split.
    """

    capabilities = Capabilities(boxes=True)

    def __init__(self, command: str, time_limit_s: float = TIME_LIMIT_S) -> None:
        """Check the command's words; nothing is run before the first click."""
        self._words = split_command(command, "cvpr25:")
        self._limit_s = time_limit_s
        self.name = f"cvpr25:{command}"

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> "Cvpr25Session":
        """Open a session; the command runs at the first prompt. See ``Segmenter.start``."""
        grey = prepare_grey(image, spacing)
        return Cvpr25Session(self, grey, spacing)

    def predict(self, case: dict[str, Any], shape: Shape) -> NDArray[np.bool_]:
        """Run the command on one case and return its mask.

        Raises:
            SegmenterError: it fails, or its answer is missing or on another grid.
            SegmenterTimeoutError: it takes longer than the time limit.
        """
        folder = Path(tempfile.mkdtemp(prefix="synthfm-cvpr25-"))
        with guard.holding("folder", str(folder)):
            try:
                for name in ("inputs", "outputs"):
                    (folder / name).mkdir()
                    (folder / name).chmod(0o777)  # a container may run as another user
                np.savez_compressed(folder / "inputs" / CASE, **case)
                self._run(folder)
                return self._read(folder / "outputs" / CASE, shape)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _run(self, folder: Path) -> None:
        """Run the command on the case in a folder, and end its container if it takes too long."""
        name = f"synthfm-{uuid.uuid4().hex[:12]}"
        places = {"inputs": folder / "inputs", "outputs": folder / "outputs", "name": name}
        words = [_filled(word, places) for word in self._words]
        with ExitStack() as stack:
            # If this process is killed, the guard ends the container, which survives the program that started it.
            commands = kill_commands(self._words, name)
            for command in commands:
                stack.enter_context(guard.holding("command", command))
            process = start_process(
                words, "cvpr25:", cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            assert process.stdout is not None, "a pipe"
            output = OutputTail(process.stdout)
            try:
                code = process.wait(self._limit_s)
            except BaseException as error:
                kill_process(process)
                _run_briefly(commands)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                raise SegmenterTimeoutError(f"{self.name} took longer than {self._limit_s:g} s") from None
            kill_process(process)  # what it left running in the background
        output.join(_PIPE_S)
        if code:
            text = output.text()
            raise SegmenterError(f"{self.name} ended with exit code {code}{'; it wrote: ' + text if text else ''}")

    def _read(self, path: Path, shape: Shape) -> NDArray[np.bool_]:
        """Read the mask of the answer, bool (D, H, W)."""
        largest = _MOST_ARRAYS * (8 * int(np.prod(shape)) + _HEADER_BYTES)
        what = f"{self.name}: outputs/{CASE}"
        try:
            with open_regular_file(path, largest, what) as file:
                return _read_segs(file, self.name, shape)
        except FileNotFoundError:
            raise SegmenterError(f"{self.name} wrote no outputs/{CASE}") from None
        except SegmenterError:
            raise
        except Exception as error:  # a forged archive or header makes zipfile and NumPy raise nearly anything
            raise SegmenterError(f"{what} holds no array 'segs': {error_line(error)}") from None


def _read_segs(file: BinaryIO, name: str, shape: Shape) -> NDArray[np.bool_]:
    """Read the array ``segs`` of an archive: True where it is 1.

    Dtype and shape are checked before its voxels are read, so that a header cannot ask for memory.

    Raises:
        SegmenterError: no integers, or another grid than ``shape``.
        Exception: anything, if the file is damaged or forged.
    """
    with zipfile.ZipFile(file) as archive, archive.open("segs.npy") as array:
        found, in_fortran_order, dtype = _HEADERS[np.lib.format.read_magic(array)](array)
        if found != shape or dtype.kind not in "bui":
            raise SegmenterError(f"{name} answered with segs of {dtype} {found}: expected integers of {shape}")
        size = dtype.itemsize * int(np.prod(shape))
        voxels = array.read(size + 1)
    if len(voxels) != size:
        raise SegmenterError(f"{name} answered with segs of another length than {shape}")
    segs = np.frombuffer(voxels, dtype=dtype).reshape(shape, order="F" if in_fortran_order else "C")
    return np.ascontiguousarray(segs == 1)


def kill_commands(words: Sequence[str], name: str) -> list[list[str]]:
    """Return commands of which one kills the container that a command starts; empty if the command names none.

    Args:
        words: of the command, with ``{name}`` for the container. The container's program can be any of them, or a word
            of a script in one of them; if it is in a file, any program that is installed may have been used.
        name: of the container.

    Example:
        >>> kill_commands(["sh", "-c", "/usr/bin/docker run --name {name} model"], "synthfm-1")
        [['/usr/bin/docker', 'kill', 'synthfm-1']]
    """
    if not any("{name}" in word for word in words):
        return []
    parts = [part for word in words for part in _split(word)]
    programs = [part for part in parts if Path(part).name in _CONTAINERS]
    programs = programs or [program for program in _CONTAINERS if shutil.which(program)]
    return [[program, "kill", name] for program in dict.fromkeys(programs)]


def _split(word: str) -> list[str]:
    """Return the words of a script, or the word itself."""
    with contextlib.suppress(ValueError):  # quotes that do not match
        return shlex.split(word)
    return word.split()


def _run_briefly(commands: Sequence[Sequence[str]]) -> None:
    """Run commands one after another; one that fails or hangs changes nothing."""
    silent = subprocess.DEVNULL
    for command in commands:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(command, stdin=silent, stdout=silent, stderr=silent, timeout=_KILL_S, check=False)


class Cvpr25Session(PromptHistorySession):
    """Writes all prompts in force into a new case file for every answer."""

    def __init__(
        self, segmenter: Cvpr25Container, image: NDArray[np.uint8], spacing: tuple[float, float, float]
    ) -> None:
        """Run nothing yet.

        Args:
            segmenter: the command.
            image: uint8 (D, H, W).
            spacing: (z, y, x) in mm.
        """
        depth, height, width = image.shape
        super().__init__(segmenter.name, segmenter.capabilities, (depth, height, width))
        self._segmenter = segmenter
        self._image = image
        self._spacing = np.array(spacing, dtype=np.float64)

    def _answer(self, prompts: Prompt) -> NDArray[np.bool_]:
        case: dict[str, Any] = {"imgs": self._image, "spacing": self._spacing}
        if prompts.clicks:
            sides: dict[str, list[list[int]]] = {"fg": [], "bg": []}
            order = ["fg" if click.positive else "bg" for click in prompts.clicks]
            for click, side in zip(prompts.clicks, order, strict=True):
                sides[side].append(list(click.zyx))
            case["clicks"] = np.array([sides], dtype=object)
            case["clicks_order"] = np.array([order], dtype=object)
            case["prev_pred"] = self._mask.astype(np.uint8)
        if prompts.box is not None:
            case["boxes"] = np.array([box_fields(prompts.box)], dtype=object)
        return self._segmenter.predict(case, self._shape)


def box_fields(box: Box) -> dict[str, int]:
    """Return a box as the challenge writes it: a range of slices, and a rectangle on the middle one, ends included."""
    (z0, y0, x0), (z1, y1, x1) = box.start, box.stop
    return {
        "z_min": z0,
        "z_max": z1 - 1,
        "z_mid": (z0 + z1 - 1) // 2,
        "z_mid_x_min": x0,
        "z_mid_y_min": y0,
        "z_mid_x_max": x1 - 1,
        "z_mid_y_max": y1 - 1,
    }


def _filled(word: str, places: dict[str, Any]) -> str:
    """Replace ``{inputs}``, ``{outputs}`` and ``{name}`` in a word of the command; keep other braces."""
    for key, value in places.items():
        word = word.replace(f"{{{key}}}", str(value))
    return word
