"""Runs entries of the CVPR 2025 challenge on interactive 3D segmentation, as the challenge ran them."""

import io
import shutil
import subprocess
import tempfile
import uuid
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm_env.errors import SegmenterError, SegmenterTimeoutError
from synthfm_env.prompts import Box, Prompt
from synthfm_env.segmenters.base import Capabilities, Segmenter
from synthfm_env.segmenters.external_process import kill_process, split_command, start_process
from synthfm_env.segmenters.image_input import prepare_grey
from synthfm_env.segmenters.prompt_history import PromptHistorySession, Shape

TIME_LIMIT_S = 300.0
CASE = "case.npz"
_HEADER_BYTES = 1 << 16
_CONTAINERS = ("docker", "podman")


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
        with (folder / "log").open("w+b") as log:
            process = start_process(
                words, "cvpr25:", cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
            try:
                code = process.wait(self._limit_s)
            except subprocess.TimeoutExpired:
                kill_process(process)
                self._end_container(name)
                raise SegmenterTimeoutError(f"{self.name} took longer than {self._limit_s:g} s") from None
            except BaseException:
                kill_process(process)
                self._end_container(name)
                raise
            log.seek(0)
            output = " ".join(log.read()[-2000:].decode("utf-8", "replace").split())[-300:]
        if code:
            raise SegmenterError(f"{self.name} ended with exit code {code}{'; it wrote: ' + output if output else ''}")

    def _end_container(self, name: str) -> None:
        """Kill the container, which survives the program that started it."""
        if self._words[0] in _CONTAINERS and any("{name}" in word for word in self._words):
            subprocess.run([self._words[0], "kill", name], capture_output=True, timeout=60, check=False)

    def _read(self, path: Path, shape: Shape) -> NDArray[np.bool_]:
        """Read the mask of the answer, bool (D, H, W)."""
        try:
            with path.open("rb") as file, zipfile.ZipFile(file) as archive:
                # An archive that unpacks to more than the image's voxels is refused before memory is taken.
                largest = 8 * int(np.prod(shape)) + _HEADER_BYTES
                if archive.getinfo("segs.npy").file_size > largest:
                    raise SegmenterError(f"{self.name}: segs in outputs/{CASE} is larger than the image of {shape}")
                segs = np.lib.format.read_array(io.BytesIO(archive.read("segs.npy")), allow_pickle=False)
        except FileNotFoundError:
            raise SegmenterError(f"{self.name} wrote no outputs/{CASE}") from None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise SegmenterError(f"{self.name}: outputs/{CASE} holds no array 'segs': {error}") from None
        if segs.shape != shape or segs.dtype.kind not in "bui":
            raise SegmenterError(
                f"{self.name} answered with segs of {segs.dtype} {segs.shape}: expected integers of {shape}"
            )
        return np.asarray(segs == 1)


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
