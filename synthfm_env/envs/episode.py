"""Keeps the state of one episode: task, clicks, mask, Dice and outcome."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm_env.envs.start_prompt import StartPrompt
from synthfm_env.metrics import dice
from synthfm_env.printable import error_line
from synthfm_env.prompts import Click
from synthfm_env.segmenters.base import Prediction
from synthfm_env.volumes import Volume

Observation = dict[str, Any]


class Outcome(StrEnum):
    """State of an episode, in ``info["outcome"]``."""

    RUNNING = "running"
    STOPPED = "stopped"
    TARGET_REACHED = "target_reached"
    MAX_CLICKS = "max_clicks"
    MODEL_ERROR = "model_error"


@dataclass(frozen=True, eq=False, slots=True)
class SegmentationTask:
    """A volume and the label id or name of the structure to segment in it."""

    volume: Volume
    structure: int | str

    @property
    def structure_name(self) -> str:
        """The structure's name, or its label id as text if it has no name."""
        key = str(self.structure)
        return self.volume.structures.get(int(key), key) if key.isdecimal() else key


@dataclass(eq=False, slots=True)
class Episode:
    """State of one episode.

    ``begin`` takes the segmenter's answer to the start prompt. In each step ``place`` or ``take_back`` takes the
    agent's action, then ``take`` the segmenter's answer or ``fail`` its error.

    Attributes:
        task: the volume and the structure.
        image: uint8 (D, H, W), the segmenter's input.
        max_clicks: the episode ends after this many clicks and undos; a start click does not count.
        target_dice: the episode ends at this Dice, or None.
        start: the prompt that the episode begins with.
        truth: bool (D, H, W).
        mask: bool (D, H, W), empty at the start.
        clicks: the clicks in force, oldest first; a start click is the first one.
        clicks_used: number of clicks and undos.
        dice: Dice of ``mask`` against ``truth``.
        gain: change of Dice in the newest step.
        outcome: whether the episode runs, or why it ended.
        prediction: the answer to the newest prompt, or None.
        error: message of the segmenter's exception, else empty.
    """

    task: SegmentationTask
    image: NDArray[np.uint8]
    max_clicks: int
    target_dice: float | None
    truth: NDArray[np.bool_]
    start: StartPrompt = field(default_factory=StartPrompt)
    mask: NDArray[np.bool_] = field(init=False)
    clicks: list[Click] = field(default_factory=list)
    clicks_used: int = 0
    dice: float = 0.0
    gain: float = 0.0
    outcome: Outcome = Outcome.RUNNING
    prediction: Prediction | None = None
    error: str = ""

    def __post_init__(self) -> None:
        self.mask = np.zeros(self.truth.shape, dtype=bool)
        if self.start.click is not None:
            self.clicks.append(self.start.click)

    @property
    def running(self) -> bool:
        """Whether another click may be placed."""
        return self.outcome is Outcome.RUNNING

    def begin(self, prediction: Prediction) -> None:
        """Score the answer to the start prompt. It does not end the episode, whatever its Dice.

        Raises:
            TypeError: as ``take``.
        """
        self._score(prediction)

    def place(self, click: Click) -> None:
        """Add a click to those in force."""
        self.clicks.append(click)
        self.clicks_used += 1

    def take_back(self) -> bool:
        """Remove the newest click, and return whether there was one other than the start click.

        This counts as a click either way.
        """
        self.clicks_used += 1
        if len(self.clicks) > (self.start.click is not None):
            self.clicks.pop()
            return True
        self.gain = 0.0
        self._end_if_due()
        return False

    def stop(self) -> None:
        """End the episode, because the agent chose to stop."""
        self.gain, self.outcome = 0.0, Outcome.STOPPED

    def take(self, prediction: Prediction) -> None:
        """Score the answer to the clicks in force, and end the episode at the target or after the last click.

        Raises:
            TypeError: the mask is not bool, or not on the image's grid.
        """
        self._score(prediction)
        self._end_if_due()

    def _score(self, prediction: Prediction) -> None:
        """Keep a prediction, its Dice and the gain over the mask before; raise TypeError if its mask is malformed."""
        mask = prediction.mask
        if not isinstance(mask, np.ndarray):
            raise TypeError(f"the mask must be a numpy array, got {type(mask).__name__}")
        if isinstance(mask, np.ma.MaskedArray):
            raise TypeError("the mask is a masked array, which hides voxels; give mask.filled(False)")
        mask = np.ascontiguousarray(mask)
        if mask.dtype != np.bool_ or mask.shape != self.truth.shape:
            raise TypeError(f"the mask must be bool {self.truth.shape}, got {mask.dtype} {mask.shape}")
        before = self.dice
        self.prediction, self.mask, self.dice = prediction, mask, dice(mask, self.truth)
        self.gain = self.dice - before

    def fail(self, error: Exception) -> None:
        """End the episode, because the segmenter failed. The mask is empty and Dice 0, so that failing never pays."""
        self.prediction, self.outcome = None, Outcome.MODEL_ERROR
        self.mask = np.zeros_like(self.truth)
        self.gain, self.dice = -self.dice, 0.0
        self.error = error_line(error)

    def write_observation(self, out: Observation) -> None:
        """Write the observation into arrays of the observation space's shapes and dtypes."""
        out["image"][...] = self.image
        out["mask"][...] = self.mask
        out["clicks"][...] = -1
        if self.clicks:
            out["clicks"][: len(self.clicks)] = [(*click.zyx, click.positive) for click in self.clicks]
        out["spacing"][...] = self.task.volume.spacing
        for key, value in self.start.observation().items():
            out[key][...] = value

    def info(self) -> dict[str, Any]:
        """Return ``info``, with the same keys in every state."""
        return {
            "case_id": self.task.volume.case_id,
            "clicks_used": self.clicks_used,
            "dice": self.dice,
            "error": self.error,
            "modality": self.task.volume.modality,
            "outcome": self.outcome.value,
            "structure": self.task.structure_name,
        }

    def __str__(self) -> str:
        newest = f" {self.clicks[-1]}" if self.clicks else ""
        line = (
            f"{self.task.volume.case_id} {self.task.structure_name} | "
            f"click {self.clicks_used}/{self.max_clicks}{newest} | "
            f"Dice {self.dice:.3f} ({self.gain:+.3f}) | {self.outcome}"
        )
        return f"{line}: {self.error}" if self.error else line

    def _end_if_due(self) -> None:
        if self.target_dice is not None and self.dice >= self.target_dice:
            self.outcome = Outcome.TARGET_REACHED
        elif self.clicks_used == self.max_clicks:
            self.outcome = Outcome.MAX_CLICKS
