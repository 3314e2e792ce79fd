"""Provides small segmenters and clickers that suites name as ``toys:Class``, also in worker processes."""

import os
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthfm_agents import Clicker
from synthfm_env.envs.actions import click_action
from synthfm_env.prompts import Click, Prompt
from synthfm_env.segmenters import Capabilities, Prediction, Seconds, Segmenter, Session


class BallSession(Session):
    """Paints a ball of 4 voxels around each click, later clicks over earlier ones."""

    def __init__(self, segmenter: "Ball", image: NDArray) -> None:
        self._segmenter = segmenter
        self._shape = image.shape[:3]
        self._clicks: list[Click] = []

    @property
    def clicks(self) -> tuple[Click, ...]:
        return tuple(self._clicks)

    def add(self, click: Click) -> Prediction:
        self._segmenter.before_click(len(self._clicks) + 1)
        self._clicks.append(click)
        return self._answer()

    def undo(self) -> Prediction:
        self._clicks.pop()
        return self._answer()

    def reset(self) -> None:
        self._clicks.clear()

    def close(self) -> None:
        pass

    def _answer(self) -> Prediction:
        mask = np.zeros(self._shape, dtype=bool)
        grid = np.ogrid[tuple(slice(n) for n in self._shape)]
        for click in self._clicks:
            near = sum((axis - i) ** 2 for axis, i in zip(grid, click.zyx, strict=True)) <= 16
            mask[near] = click.positive
        return Prediction(mask, None, Seconds(encode=0.5, predict=0.25))


class Ball(Segmenter):
    name = "ball"
    capabilities = Capabilities()

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> Session:
        return BallSession(self, image)

    def before_click(self, number: int) -> None:
        """For subclasses that fail."""


class MoodySession(BallSession):
    """Paints more where there is a file ``larger``."""

    def _answer(self) -> Prediction:
        answer = super()._answer()
        if os.path.exists("larger"):
            answer.mask[:, :12] = True
        return answer


class Moody(Ball):
    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> Session:
        return MoodySession(self, image)


class FailsAtThirdClick(Ball):
    def before_click(self, number: int) -> None:
        if number == 3:
            raise RuntimeError("out of\nideas")


class FailsAtStart(Ball):
    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> Session:
        raise MemoryError("too large")


class Blind(Clicker):
    """Clicks the middle, and fails if it is shown anything that comes from the truth."""

    name: ClassVar[str] = "toys:Blind"

    def act(self, observation: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> NDArray[np.int64]:
        assert not {"truth", "dice"} & info.keys()
        z, y, x = (n // 2 for n in observation["image"].shape)
        return click_action(Click((z, y, x)))


class Outside(Blind):
    """Clicks outside the volume."""

    def act(self, observation: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> NDArray[np.int64]:
        return np.array([0, 0, 10_000, 1])


class Speechless(Blind):
    """Has no click to offer."""

    def act(self, observation: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> NDArray[np.int64]:
        raise LookupError("nowhere to click")


class Dies(Ball):
    def before_click(self, number: int) -> None:
        os._exit(9)


class Waits(Ball):
    """Opens the pipe ``waiting`` at its first click, and never answers."""

    def before_click(self, number: int) -> None:
        with open("waiting", "w") as pipe:
            pipe.write("x")
            pipe.flush()
            time.sleep(3600)


class Hangs(Ball):
    """Answers the first click only."""

    def before_click(self, number: int) -> None:
        if number == 2:
            time.sleep(3600)


class DiesOnce(Ball):
    """Ends its process at a second click where there is a file ``may_die``, which it takes away."""

    def before_click(self, number: int) -> None:
        if number == 2 and os.path.exists("may_die"):
            os.remove("may_die")
            os._exit(9)


class Asking(Blind):
    """Takes a segmenter, as clickers do that look ahead."""

    def __init__(self, segmenter: str | Segmenter = "synthfm3d-nano") -> None:
        self.segmenter = segmenter


class BoxesSession(BallSession):
    """Takes boxes and masks too, and answers a box or a mask with itself."""

    region: NDArray[np.bool_] | None = None

    def prompt(self, clicks=(), *, box=None, mask=None) -> Prediction:
        Prompt(tuple(clicks), box, mask).check(self._shape)
        self._clicks += clicks
        if box is not None:
            self.region = np.zeros(self._shape, dtype=bool)
            self.region[box.slices] = True
        self.region = mask if mask is not None else self.region
        return self._answer()

    def reset(self) -> None:
        super().reset()
        self.region = None

    def _answer(self) -> Prediction:
        answer = super()._answer()
        return answer if self.region is None else Prediction(answer.mask | self.region, None, answer.seconds)


class Boxes(Ball):
    capabilities = Capabilities(boxes=True, initial_mask=True)

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> Session:
        return BoxesSession(self, image)
