"""Provides segmenters and clickers that fail in many ways, as ``hostile_players:Class`` in suites.

``EXPECTED`` gives the outcome of an episode with each of them; None where the episode is played to its end.
"""

import ctypes
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthfm_agents import Clicker
from synthfm_env.prompts import Click
from synthfm_env.segmenters import Capabilities, Prediction, Seconds, Segmenter, Session


class CubeSession(Session):
    """Answers with a cube around each positive click, as its segmenter decides."""

    def __init__(self, segmenter: "Cube", image: NDArray) -> None:
        self._segmenter, self._image, self._clicks = segmenter, image, list[Click]()

    @property
    def clicks(self) -> tuple[Click, ...]:
        return tuple(self._clicks)

    def add(self, click: Click) -> Prediction:
        self._clicks.append(click)
        return self._segmenter.answer(self._image, self._clicks)

    def undo(self) -> Prediction:
        self._clicks.pop()
        return self._segmenter.answer(self._image, self._clicks)

    def reset(self) -> None:
        self._clicks.clear()

    def close(self) -> None:
        self._segmenter.closing()


class Cube(Segmenter):
    name = "cube"
    capabilities = Capabilities()

    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> Session:
        return CubeSession(self, image)

    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        mask = np.zeros(image.shape[:3], dtype=bool)
        for click in clicks:
            if click.positive:
                mask[tuple(slice(max(0, i - 3), i + 4) for i in click.zyx)] = True
        return Prediction(mask, None, self.seconds())

    def seconds(self) -> Any:
        return Seconds(0.0, 0.0)

    def closing(self) -> None:
        """For subclasses that fail."""


class RaisesInInit(Cube):
    def __init__(self) -> None:
        raise RuntimeError("boom")


class ExitsInInit(Cube):
    def __init__(self) -> None:
        sys.exit(0)


class DiesInInit(Cube):
    def __init__(self) -> None:
        os._exit(7)


class NanSeconds(Cube):
    def seconds(self) -> Any:
        return Seconds(float("nan"), float("inf"))


class TextSeconds(Cube):
    def seconds(self) -> Any:
        return Seconds("a", None)  # type: ignore[arg-type]


class NoSeconds(Cube):
    def seconds(self) -> Any:
        return None


class NegativeSeconds(Cube):
    def seconds(self) -> Any:
        return Seconds(-1.0, 0.0)


class RaisesSecretly(Cube):
    """Raises an exception whose text raises too."""

    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        class Secret(Exception):
            def __str__(self) -> str:
                raise ValueError("no text")

        raise Secret


class RaisesUnprintable(Cube):
    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        raise RuntimeError("bad \ud800 surrogate <script>alert(1)</script> \x00" + "long " * 10_000)


class Exits(Cube):
    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        sys.exit(3)


class Interrupts(Cube):
    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        raise KeyboardInterrupt


class EndsGenerator(Cube):
    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        raise GeneratorExit


class Crashes(Cube):
    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        ctypes.string_at(0)


class WritesIntoItsPipes(Cube):
    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        for number in range(3, 40):
            try:
                os.write(number, b"\xff" * 64)
            except OSError:
                continue
        return super().answer(image, clicks)


class EatsMemory(Cube):
    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        held = []
        while True:
            held.append(bytearray(50_000_000))


class ChangesTheImage(Cube):
    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        image[:] = 0
        return super().answer(image, clicks)


class FortranMask(Cube):
    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        given = super().answer(image, clicks)
        return Prediction(np.asfortranarray(given.mask), None, given.seconds)


class OddMask(Cube):
    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        return Prediction([[1, 0]], None, Seconds(0.0, 0.0))  # type: ignore[arg-type]


class MaskedMask(Cube):
    """Hides half of its mask."""

    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        given = super().answer(image, clicks)
        return Prediction(np.ma.array(given.mask, mask=given.mask), None, given.seconds)


class OtherGrid(Cube):
    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        given = super().answer(image, clicks)
        return Prediction(given.mask[:, ::2], None, given.seconds)


class GeneratedMask(Cube):
    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        given = super().answer(image, clicks)
        return Prediction((part for part in given.mask), None, given.seconds)  # type: ignore[arg-type]


class HostileMask(np.ndarray):
    """Raises wherever it is compared, reduced, shown or deleted."""

    def __array_ufunc__(self, *args: Any, **kwargs: Any) -> Any:
        raise SystemExit(4)

    def __array_function__(self, *args: Any, **kwargs: Any) -> Any:
        raise SystemExit(4)

    def __eq__(self, other: object) -> Any:
        raise RuntimeError("no comparison")

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __del__(self) -> None:
        raise SystemExit(5)


class SubclassedMask(Cube):
    """Answers with a subclass of an array; its voxels count."""

    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        given = super().answer(image, clicks)
        return Prediction(given.mask.view(HostileMask), None, given.seconds)


class RaisesInDel(Cube):
    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        raise _Undeletable()


class _Undeletable(RuntimeError):
    """Raises if it is shown, compared or deleted."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise SystemExit(4)

    __hash__ = None  # type: ignore[assignment]

    def __del__(self) -> None:
        raise SystemExit(5)


class HostileSeconds(Cube):
    def seconds(self) -> Any:
        return Seconds(_Number(0.0), _Number(0.0))


class _Number(float):
    def __float__(self) -> float:
        raise SystemExit(4)

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class RenamesItself(Cube):
    """Changes its name and its limits while it plays."""

    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        self.name = "\u202e<b>\ud800"  # type: ignore[misc]
        self.capabilities = None  # type: ignore[assignment]
        return super().answer(image, clicks)


class LeavesTheFolder(Cube):
    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        os.chdir("/")
        return super().answer(image, clicks)


class RaisesInClose(Cube):
    def closing(self) -> None:
        raise ZeroDivisionError


class HangsInStart(Cube):
    def start(self, image: NDArray, spacing: tuple[float, float, float]) -> Session:
        time.sleep(3600)
        raise AssertionError


class HangsInClose(Cube):
    def closing(self) -> None:
        time.sleep(3600)


class Waits(Cube):
    """Opens the pipe ``waiting`` at its first click, and never answers."""

    def answer(self, image: NDArray, clicks: list[Click]) -> Any:
        with open("waiting", "w") as pipe:
            pipe.write("x")
            pipe.flush()
            time.sleep(3600)


class Middle(Clicker):
    """Clicks the middle."""

    name: ClassVar[str] = "middle"

    def act(self, observation: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> Any:
        return np.array([*(n // 2 for n in observation["image"].shape), 1])


class Ragged(Middle):
    def act(self, observation: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> Any:
        return [1, [2, 3]]


class HostileArray:
    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise SystemExit(4)

    def __repr__(self) -> str:
        raise ValueError("no text")


class OddAction(Middle):
    def act(self, observation: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> Any:
        return HostileArray()


class GeneratedAction(Middle):
    def act(self, observation: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> Any:
        return (i for i in (1, 1, 1, 1))


class MaskedAction(Middle):
    def act(self, observation: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> Any:
        return np.ma.array([1, 1, 1, 1], mask=[True, False, False, False])


class RaisesInReset(Middle):
    def reset(self, seed: int) -> None:
        raise RuntimeError("boom")


class HangsInReset(Middle):
    def reset(self, seed: int) -> None:
        time.sleep(3600)


class ClickerDies(Middle):
    def act(self, observation: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> Any:
        os._exit(0)


class ClickerRaisesInInit(Middle):
    def __init__(self) -> None:
        raise RuntimeError("boom")


class OddOracle(Middle):
    @property
    def oracle(self) -> bool:  # type: ignore[override]
        raise RuntimeError("oracle?")


class ChangesWhatItSees(Middle):
    def act(self, observation: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> Any:
        observation["image"][:] = 0
        observation["mask"][:] = 1
        return super().act(observation, info)


EXPECTED: dict[str, str | None] = {
    "RaisesInInit": "model_error",
    "ExitsInInit": "model_error",
    "DiesInInit": "model_error",
    "NanSeconds": "model_error",
    "TextSeconds": "model_error",
    "NoSeconds": "model_error",
    "NegativeSeconds": "model_error",
    "RaisesSecretly": "model_error",
    "RaisesUnprintable": "model_error",
    "Exits": "model_error",
    "Interrupts": "model_error",
    "EndsGenerator": "model_error",
    "Crashes": "model_error",
    "EatsMemory": "out_of_memory",
    "ChangesTheImage": None,
    "FortranMask": None,
    "OddMask": "model_error",
    "MaskedMask": "model_error",
    "OtherGrid": "model_error",
    "GeneratedMask": "model_error",
    "SubclassedMask": None,
    "RaisesInDel": "model_error",
    "HostileSeconds": "model_error",
    "RenamesItself": None,
    "LeavesTheFolder": None,
    "RaisesInClose": None,
    "HangsInStart": "timeout",
    "HangsInClose": None,
}
EXPECTED_OF_CLICKERS: dict[str, str | None] = {
    "Ragged": "invalid_prompt",
    "OddAction": "clicker_error",
    "GeneratedAction": "invalid_prompt",
    "MaskedAction": "invalid_prompt",
    "RaisesInReset": "clicker_error",
    "HangsInReset": "timeout",
    "ClickerDies": "clicker_error",
    "ClickerRaisesInInit": "clicker_error",
    "OddOracle": "clicker_error",
    "ChangesWhatItSees": None,
}
QUICK = (
    "OtherGrid",
    "MaskedMask",
    "RaisesInDel",
    "NanSeconds",
    "RaisesUnprintable",
    "Interrupts",
    "FortranMask",
    "RaisesInClose",
    "ChangesTheImage",
)
QUICK_CLICKERS = ("MaskedAction", "Ragged", "OddAction", "RaisesInReset", "ChangesWhatItSees")
