"""Checks that a clicker keeps the contract of ``Clicker``."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm_agents.base import Clicker, Observation
from synthfm_env.envs.actions import click_action, read_action
from synthfm_env.errors import InputError
from synthfm_env.metrics import dice
from synthfm_env.printable import error_line
from synthfm_env.testing.harness import global_random_state

SHAPES = ((6, 18, 20), (1, 24, 16))  # a volume whose axes differ, and an image
CLICKS = 5
SEED = 3
CUBE = 3  # the toy segmenter corrects the mask up to this many voxels from a click


def check_clicker(clicker: Clicker) -> None:
    """Play short episodes with a clicker against a toy segmenter, and check that it keeps the contract.

    - ``name``, ``oracle`` and the first line of the docstring have the form that ``synthfm list`` and boards need.
    - Every action is one of ``MultiDiscrete([D, H, W, 3])``, in volumes and in images of one slice.
    - The same seed gives the same actions, and no global random state changes.
    - Observation and truth are not changed in place.
    - A blind clicker works without "truth" and "dice" in ``info``, which boards do not give it. An oracle reads the
      truth through ``self.truth(info)``.

    Raises:
        InputError: the contract is broken; the message has one line for each fault.

    Example:
        >>> from synthfm_agents import make_clicker
        >>> check_clicker(make_clicker("random"))
    """
    problems = _problems_of_class(clicker)
    if isinstance(clicker, Clicker):
        for shape in SHAPES:
            problems += [p for p in _problems_of_play(clicker, shape) if p not in problems]
    if problems:
        lines = "\n".join(f"- {problem}" for problem in problems)
        raise InputError(f"check_clicker({type(clicker).__name__}): the following must be fixed:\n{lines}")


def _problems_of_class(clicker: Any) -> list[str]:
    """Return the faults of a clicker's class: its type, name, oracle and docstring."""
    if not isinstance(clicker, Clicker):
        return [f"expected an instance of a subclass of synthfm_agents.Clicker, got {clicker!r}"]
    problems = []
    name = getattr(clicker, "name", None)
    if not (isinstance(name, str) and name):
        problems.append(f"the class attribute name is {name!r}: expected a text to record it under")
    if not isinstance(clicker.oracle, bool):
        problems.append(f"the class attribute oracle is {clicker.oracle!r}: expected True or False")
    begin = "Oracle: " if clicker.oracle else "Blind: "
    if not (type(clicker).__doc__ or "").startswith(begin):
        problems.append(f"the docstring of the class does not begin with {begin!r} and a line on what it does")
    return problems


def _problems_of_play(clicker: Clicker, shape: tuple[int, int, int]) -> list[str]:
    """Return the faults of a clicker in two equal episodes on a grid."""
    before = global_random_state()
    first, problems = _play(clicker, shape)
    second, _ = _play(clicker, shape)
    if global_random_state() != before:
        problems.append("it draws from a global random state: use self.rng, which reset(seed) seeds")
    if first != second:
        problems.append("the same seed gave other actions the second time: take all random numbers from self.rng")
    if clicker.oracle and not problems:
        problems += _problems_without_truth(clicker, shape)
    return problems


def _play(clicker: Clicker, shape: tuple[int, int, int]) -> tuple[list[list[int]], list[str]]:
    """Return the actions of one episode, and its faults."""
    actions: list[list[int]] = []
    # Reset
    try:
        clicker.reset(SEED)
    except Exception as error:
        return actions, [f"reset(seed) raised {error_line(error)}"]
    if not hasattr(clicker, "rng"):
        return actions, ["after reset(seed) there is no self.rng: let reset call super().reset(seed)"]
    # Act on copies, as far as the clicker may see
    observation, info = _first_state(shape)
    for step in range(CLICKS):
        kept = _copy(observation), _copy(info)
        visible = info if clicker.oracle else {key: info[key] for key in info if key not in ("truth", "dice")}
        try:
            action = clicker.act(observation, visible)
        except Exception as error:
            return actions, [f"act raised {error_line(error)}, with {step} clicks so far, on a grid of {shape}"]
        if not (_same(observation, kept[0]) and _same(info, kept[1])):
            return actions, ["act changed the observation or the truth in place: work on copies"]
        try:
            click = read_action(action, shape)
        except (InputError, ValueError, TypeError) as error:
            return actions, [f"act returned no action: {error}"]
        actions.append(np.asarray(action).tolist())
        if click is None:
            break
        observation, info = _answered(observation, info, click_action(click), step)
    return actions, []


def _problems_without_truth(clicker: Clicker, shape: tuple[int, int, int]) -> list[str]:
    """Return the faults of an oracle that gets no truth; it should raise an InputError."""
    observation, info = _first_state(shape)
    clicker.reset(SEED)
    try:
        clicker.act(observation, {key: info[key] for key in info if key != "truth"})
    except InputError:
        return []
    except Exception as error:
        return [f"without a truth in info, act raised {error_line(error)}: take it from self.truth(info)"]
    return ["it is an oracle, but acts without a truth in info: set oracle = False, or use self.truth(info)"]


def _first_state(shape: tuple[int, int, int]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    rng = np.random.default_rng(SEED)
    truth = np.zeros(shape, dtype=bool)
    truth[tuple(slice(n // 4, n - n // 4) for n in shape)] = True
    observation = {
        "image": np.where(truth, 150, 90).astype(np.uint8) + rng.integers(0, 30, shape, dtype=np.uint8),
        "mask": np.zeros(shape, dtype=np.uint8),
        "clicks": np.full((CLICKS, 4), -1, dtype=np.int32),
        "spacing": np.array([2.0, 1.0, 0.5], dtype=np.float32),
    }
    info = {
        "case_id": "check",
        "clicks_used": 0,
        "dice": 0.0,
        "error": "",
        "modality": "other",
        "outcome": "running",
        "protocol": "",
        "structure": "box",
        "truth": truth,
    }
    return observation, info


def _answered(
    observation: dict[str, NDArray[Any]], info: dict[str, Any], action: NDArray[np.int64], step: int
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return observation and info after a click, which corrects the mask in the cube around it."""
    observation, info = _copy(observation), _copy(info)
    around = tuple(slice(max(0, i - CUBE), i + CUBE + 1) for i in action[:3].tolist())
    observation["mask"][around] = info["truth"][around]
    observation["clicks"][step] = action
    info["clicks_used"], info["dice"] = step + 1, dice(observation["mask"], info["truth"])
    return observation, info


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in values.items()}


def _same(a: Observation | Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)
