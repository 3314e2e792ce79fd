"""Implements the Gymnasium environment of prompting; a subclass chooses the task of each episode."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import ArrayLike, NDArray

from synthfm_env.arguments import check_flag, check_name, is_number, is_whole
from synthfm_env.envs.actions import STOP, read_action
from synthfm_env.envs.display_window import Window
from synthfm_env.envs.episode import Episode, Observation, Outcome, SegmentationTask
from synthfm_env.envs.rendering import draw_frame
from synthfm_env.envs.rewards import make_reward
from synthfm_env.envs.start_prompt import Start
from synthfm_env.errors import InputError, unknown_name
from synthfm_env.memory_limit import check_memory
from synthfm_env.printable import shown
from synthfm_env.prompts import Click
from synthfm_env.segmenters.base import Prediction, Segmenter, Session
from synthfm_env.segmenters.shared import shared_segmenter
from synthfm_env.volumes import Volume, to_uint8

_log = logging.getLogger(__name__)

Step = tuple[Observation, float, bool, bool, dict[str, Any]]
"""Result of a step: observation, reward, terminated, truncated, info."""

GOALS = ("structure",)
_BYTES_PER_CLICK = 4 * 4  # four int32 in observations


class EpisodeOptions(TypedDict, total=False):
    """Arguments that every environment takes; ``PromptEnv`` documents them."""

    segmenter: str | Segmenter | Mapping[str, Any]
    protocol: str | None
    max_clicks: int
    reward: str | dict[str, Any]
    target_dice: float | None
    start: str
    start_protocol: str | None
    start_dice: float | None
    goal: str | None
    reveal_truth: bool
    render_mode: str | None


class _Opened(NamedTuple):
    """A volume, its image in 8 bits, and the segmenter's session on that image."""

    volume: Volume
    image: NDArray[np.uint8]
    session: Session


class PromptEnv(gym.Env[Observation, NDArray[np.integer]], ABC):
    """Segment one structure of a 3D image by placing clicks.

    The base class of all environments: a subclass chooses the task of each episode (``draw_task``), this class plays
    it. A 2D image is a volume with one slice. Axes are always (z, y, x), spacing is in mm.

    ## Description

    The agent sees a grey image and places clicks: positive ones inside the structure, negative ones outside. After
    each click a promptable segmenter, for example SAM 2, answers all clicks so far with a mask. The segmenter encodes
    the image once; a click costs the propagation only. The agent does not draw: it learns where to click.

    ## Action Space

    `MultiDiscrete([D, H, W, 3])`, four integers:

    | Num | Action        | Values                         |
    |-----|---------------|--------------------------------|
    | 0   | z, the slice  | 0 to D - 1                     |
    | 1   | y, the row    | 0 to H - 1                     |
    | 2   | x, the column | 0 to W - 1                     |
    | 3   | what to do    | 0 negative, 1 positive, 2 stop |

    "Stop" ignores the other three. A voxel may be clicked again. An action outside the space raises `InputError`.

    ## Observation Space

    A `Dict` of arrays. All are copies, which later steps do not change:

    | Key       | Type and shape        | Content                                                           |
    |-----------|-----------------------|-------------------------------------------------------------------|
    | `image`   | uint8 (D, H, W)       | the image in 8 bits, the segmenter's input                        |
    | `mask`    | uint8 (D, H, W)       | the segmenter's mask, 0 or 1                                      |
    | `clicks`  | int32 (max_clicks, 4) | rows z, y, x, positive (1 or 0), oldest first; unused rows are -1 |
    | `spacing` | float32 (3,)          | voxel size (z, y, x) in mm                                        |

    Some arguments add to it:

    | Argument            | Key and type                                | Content                                  |
    |---------------------|---------------------------------------------|------------------------------------------|
    | `start="click"`     | `clicks` has one row more, (max_clicks+1, 4) | its first row is the start click         |
    | `start="box"`       | `box`, int32 (2, 3)                         | its first voxel, and one past its last   |
    | `start="mask"`      | `start_mask`, uint8 (D, H, W)               | the damaged mask, 0 or 1                 |
    | `goal="structure"`  | `goal`, an integer of a `Discrete` space    | the anatomy to segment, see `goal_names` |

    ## Rewards

    | `reward`           | Reward of a step                                                        |
    |--------------------|-------------------------------------------------------------------------|
    | `"dice_gain"`      | Dice after the step minus Dice before it                                |
    | `"nsd_gain"`       | the same with NSD, at a tolerance of 2 mm                               |
    | `"target_reached"` | 1 for the click that reaches `target_dice`, which it needs; otherwise 0 |

    The score before the first step is 0, or that of the answer to the start prompt. The rewards of an episode sum to
    the final score less that one. "Stop" gets 0.

    A dict sets prices, and the tolerance in mm: `reward={"name": "nsd_gain", "tolerance_mm": 1.0,
    "click_price": 0.01, "slice_price": 0.02}`. Every click then costs `click_price`. A click in another slice than the
    previous one also costs `slice_price`.

    ## Starting State

    With `start="empty"` there are no clicks, the mask is empty and Dice is 0, so nothing identifies the structure. The
    other starts give the segmenter a first prompt that is made from the truth. The mask is the segmenter's answer to
    it:

    | `start`   | `start_protocol`          | The prompt                                                             |
    |-----------|---------------------------|------------------------------------------------------------------------|
    | `"click"` | `"deepest-mm-v1"`         | the voxel farthest from the border in mm, as `synthfm-mm-v1` begins    |
    |           | `"deepest-voxels-v1"`     | the voxel farthest from the border in voxels, as `ritm-3d-v1` begins   |
    |           | `"uniform-v1"`            | a random voxel of the structure, all with the same probability         |
    | `"box"`   | `"tight-v1"`              | the smallest box that contains the structure                           |
    | `"mask"`  | `"damaged-v1"`            | the structure, its border moved until Dice is `start_dice`             |

    The first protocol of each kind is the default. A start prompt does not count towards `max_clicks`, cannot be taken
    back, and does not end the episode, whatever its Dice. If the segmenter fails on it, the first step terminates with
    `model_error`.

    `reset(options={"structure": ...})`, a label id or a name, chooses the structure of that episode. The same seed
    gives the same episode.

    ## Episode End

    The episode terminates when the agent stops, when Dice reaches `target_dice`, or when the segmenter fails. It is
    truncated after `max_clicks` clicks. A further step raises `gymnasium.error.ResetNeeded`.

    ## Information

    Every `reset` and `step` returns the same keys, with numbers and text but no times:

    | Key           | Content                                                               |
    |---------------|-----------------------------------------------------------------------|
    | `case_id`     | the volume's name                                                     |
    | `clicks_used` | clicks and undos so far                                               |
    | `dice`        | Dice of the mask against the truth                                    |
    | `error`       | message of the segmenter's exception, else empty                      |
    | `modality`    | `CT`, `MR`, `US` or `other`                                           |
    | `outcome`     | `running`, `stopped`, `target_reached`, `max_clicks` or `model_error` |
    | `protocol`    | the argument of that name, empty for `None`                           |
    | `start`       | kind and protocol of the start prompt, `empty` without one            |
    | `structure`   | the structure's name, or its label id as text                         |
    | `truth`       | bool (D, H, W), a copy; only with `reveal_truth=True`                 |

    After `model_error` the mask is empty and Dice is 0, so the reward takes back all gains: a segmenter that fails
    keeps no score. `env.unwrapped.prediction` is the segmenter's answer to the last prompt, with its logits and
    seconds; `None` before the first prompt.

    ## Arguments

    | Argument       | Default            | Meaning                                                          |
    |----------------|--------------------|------------------------------------------------------------------|
    | `segmenter`    | `"synthfm3d-nano"` | a name, a path, a suite's table of `use` and `params`, or a      |
    |                |                    | `Segmenter`; environments share one that is described            |
    | `protocol`     | `None`             | name of the click protocol being played; recorded, not executed  |
    | `max_clicks`   | `10`               | clicks before the episode is truncated                           |
    | `reward`       | `"dice_gain"`      | name of the reward, or a dict with its name and its prices       |
    | `target_dice`  | `None`             | Dice in (0, 1] that ends the episode                             |
    | `start`        | `"empty"`          | prompt that begins an episode: empty, click, box or mask         |
    | `start_protocol` | `None`           | rule that makes the start prompt; `None` for the kind's first one |
    | `start_dice`   | `None`             | Dice of the damaged mask of `start="mask"`; `None` for 0.7       |
    | `goal`         | `None`             | `"structure"` adds the anatomy to segment to the observation     |
    | `reveal_truth` | `False`            | adds the truth to `info`, for clickers that simulate a user      |
    | `render_mode`  | `None`             | `"rgb_array"`, `"ansi"` or `"human"`                             |

    `"rgb_array"` draws the planes through the last click with contours of the mask and of the truth, so it reveals the
    truth. `"ansi"` is one line for each step. `"human"` shows the picture of every step in a matplotlib window (extra
    `plot`). A wrong argument raises `InputError`.

    ## Vectorized environment

    `gym.make_vec(id, num_envs=8, ...)` plays many episodes side by side. They share one segmenter, which gets the
    clicks of a step as one batch. Each environment returns the same values as alone. With `wrappers=`, use
    `vectorization_mode="sync"`, which steps one environment after the other.

    The argument `autoreset_mode` names what follows the end of an episode: `"NextStep"` (Gymnasium's default),
    `"SameStep"` or `"Disabled"`; `metadata["autoreset_mode"]` contains it. Observations are written into arrays that
    are allocated once. `copy=False` returns these arrays themselves, which the next step overwrites.

    ## Version History

    - v0: first version.
    """

    action_space: spaces.MultiDiscrete
    observation_space: spaces.Dict
    metadata = {"render_modes": ["rgb_array", "ansi", "human"], "render_fps": 2}  # noqa: RUF012  as gym.Env has it

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        segmenter: str | Segmenter | Mapping[str, Any] = "synthfm3d-nano",
        protocol: str | None = None,
        max_clicks: int = 10,
        reward: str | dict[str, Any] = "dice_gain",
        target_dice: float | None = None,
        start: str = "empty",
        start_protocol: str | None = None,
        start_dice: float | None = None,
        goal: str | None = None,
        reveal_truth: bool = False,
        render_mode: str | None = None,
    ) -> None:
        # Check the arguments.
        if not is_whole(max_clicks) or max_clicks < 1:
            raise InputError(f"max_clicks is {shown(max_clicks)}: expected a whole number of clicks, at least 1")
        if not isinstance(segmenter, str | Segmenter | Mapping):
            raise InputError(f"segmenter is {shown(segmenter)}: expected a name, a path, a table or a Segmenter")
        check_memory(max_clicks * _BYTES_PER_CLICK, f"max_clicks={shown(max_clicks)}: the list of clicks")
        if target_dice is not None and not (is_number(target_dice) and 0 < target_dice <= 1):
            raise InputError(f"target_dice is {shown(target_dice)}: expected None or a Dice above 0 and up to 1")
        if render_mode is not None:
            check_name("render mode", render_mode, self.metadata["render_modes"])
        if goal is not None:
            check_name("goal", goal, GOALS)
        if not isinstance(protocol, str | None):
            raise InputError(f"protocol is {shown(protocol)}: expected a name, or None")
        check_flag(reveal_truth, "reveal_truth")
        # Keep them. A segmenter that is described is shared, and is found again by its description after unpickling.
        self.protocol = protocol
        self.max_clicks = max_clicks
        self.target_dice = target_dice
        self.reveal_truth = reveal_truth
        self.render_mode = render_mode
        self._shape = shape
        self._reward = make_reward(reward, target_dice)
        self._described_segmenter = None if isinstance(segmenter, Segmenter) else segmenter
        self.segmenter = segmenter if isinstance(segmenter, Segmenter) else shared_segmenter(segmenter)
        self.start = Start(start, start_protocol, start_dice)
        self.start.check(self.segmenter)
        self.goal = goal
        self._goals = {name: number for number, name in enumerate(self.goal_names())} if goal else {}
        # Define the spaces. A vector environment gives each of its environments a row of its arrays as the buffer.
        self.action_space = spaces.MultiDiscrete([*shape, STOP + 1])
        self.observation_space = _observation_space(shape, max_clicks, self.start, len(self._goals))
        self.observation_buffer: Observation | None = None
        # The state of the episode.
        self._opened: _Opened | None = None
        self._episode: Episode | None = None
        self._ended = False
        self._window = self._make_window()

    @abstractmethod
    def draw_task(self, structure: int | str | None) -> SegmentationTask:
        """Return the task of the next episode, with random numbers from ``self.np_random`` alone.

        Args:
            structure: from ``reset(options={"structure": ...})``, or None for a random one.

        Raises:
            InputError: no volume has the structure.
        """

    def goal_names(self) -> list[str]:
        """Return the anatomies that ``observation["goal"]`` numbers.

        Raises:
            InputError: the environment's cases share no anatomy.
        """
        raise InputError(
            f"goal='structure': the cases of {type(self).__name__} share no anatomy; make the environment without goal"
        )

    def goal_of(self, task: SegmentationTask) -> str:
        """Return the one of ``goal_names`` that a task segments."""
        return task.structure_name

    def more_info(self, episode: Episode) -> dict[str, Any]:
        """Return the entries that a subclass adds to ``info``: always the same keys, with numbers and text."""
        return {}

    @property
    def prediction(self) -> Prediction | None:
        """The segmenter's answer to the newest prompt, with its logits and seconds; None before the first."""
        return self._episode.prediction if self._episode else None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: seeds the random generator; None continues with its present state.
            options: ``{"structure": label id or name}``, or None.

        Raises:
            InputError: an unknown option, or a structure that is not in the volume.
        """
        super().reset(seed=seed)
        # Check the options.
        if not isinstance(options, dict | None):
            raise InputError(f"reset(options={shown(options)}): expected a dict, for example {{'structure': 1}}")
        options = options or {}
        for name in options.keys() - {"structure"}:
            raise unknown_name("reset option", name, ["structure"])
        # Draw a structure and its start prompt, and open a session on its image.
        if self._episode is not None and self._episode.outcome is Outcome.MODEL_ERROR:
            self._close_session()  # a session that raised may be broken
        self._episode = None
        task = self.draw_task(options.get("structure"))
        truth = task.volume.truth(task.structure)
        opened = self._open(task.volume)
        start = self.start.draw(truth, task.volume.spacing, self.np_random)
        episode = Episode(task, opened.image, self.max_clicks, self.target_dice, truth, start)
        # Give the start prompt to the segmenter.
        try:
            answer = start.give(opened.session)
            if answer is not None:
                episode.begin(answer)
        except Exception as error:  # a failure is an outcome; the first step returns it
            _log.debug("the segmenter failed on the start prompt", exc_info=True)
            episode.fail(error)
        self._episode, self._ended = episode, False
        self._reward.reset(episode)
        self._show(episode)
        return self._observe(episode), self._info(episode)

    def step(self, action: ArrayLike) -> Step:
        """Place one click, or stop.

        Args:
            action: z, y, x and 0 negative, 1 positive, 2 stop.

        Raises:
            InputError: the action is not in the action space.
            gymnasium.error.ResetNeeded: no episode is running.
        """
        return self.finish_step(self.pending_click(action))

    def pending_click(self, action: ArrayLike) -> Click | None:
        """Return the click that ``step(action)`` would give to the session; None if it would stop.

        This is the first half of ``step`` and changes nothing. A vector environment calls it for each environment,
        gives all clicks to the segmenter as one batch, and calls ``finish_step`` with each answer.

        Raises:
            InputError: the action is not in the action space.
            gymnasium.error.ResetNeeded: no episode is running.
        """
        episode, _ = self._running("step")
        click = read_action(action, self._shape)
        return click if episode.running else None

    def observe(self) -> tuple[Observation, dict[str, Any]]:
        """Return the present observation and info again, as ``reset`` or ``step`` last returned them.

        Raises:
            gymnasium.error.ResetNeeded: no episode began.
        """
        if self._episode is None:
            raise ResetNeeded("no episode began: call env.reset() before env.observe()")
        return self._observe(self._episode), self._info(self._episode)

    def finish_step(self, click: Click | None, prediction: Prediction | None = None) -> Step:
        """Finish a step after ``pending_click``, and return the same as ``step``.

        Args:
            click: from ``pending_click``; None stops.
            prediction: the session's answer, if it got the click already; None gives it the click now.

        Raises:
            gymnasium.error.ResetNeeded: no episode is running.
        """
        episode, session = self._running("step")
        if not episode.running:  # the segmenter failed on the start prompt
            return self._step(episode, None)
        if click is None:
            episode.stop()
        else:
            episode.place(click)
            _take_answer(episode, lambda: prediction or session.add(click))
        return self._step(episode, click)

    def step_together(self, clicks: Sequence[Click]) -> Step:
        """Place several clicks as one prompt, which the segmenter answers once; see ``Session.prompt``.

        Args:
            clicks: inside the image; at least one, at most as many as ``max_clicks`` still allows.

        Raises:
            InputError: no click, too many, or one outside the image.
            gymnasium.error.ResetNeeded: no episode is running.
        """
        episode, session = self._running("step")
        left = self.max_clicks - episode.clicks_used
        if not 0 < len(clicks) <= left:
            raise InputError(f"step_together got {len(clicks)} clicks: expected 1 to {left}, the rest of max_clicks")
        for click in clicks:
            click.check_inside(self._shape)
        if not episode.running:  # the segmenter failed on the start prompt
            return self._step(episode, None)
        for click in clicks:
            episode.place(click)
        _take_answer(episode, lambda: session.prompt(clicks))
        return self._step(episode, clicks[-1])

    @property
    def is_running(self) -> bool:
        """Whether an episode is running, so that a click may be placed."""
        return self._episode is not None and self._episode.running and self._opened is not None

    @property
    def truth(self) -> NDArray[np.bool_]:
        """The structure of the episode, bool (D, H, W), for oracles. Do not write to it.

        Raises:
            InputError: the environment was made without ``reveal_truth``.
            gymnasium.error.ResetNeeded: no episode began.
        """
        if not self.reveal_truth:
            raise InputError("the truth is not revealed: make the environment with reveal_truth=True")
        if self._episode is None:
            raise ResetNeeded("no episode began: call env.reset() before env.truth")
        return self._episode.truth

    @property
    def session(self) -> Session:
        """The session of the episode that is running.

        Raises:
            gymnasium.error.ResetNeeded: no episode is running.
        """
        return self._running("session")[1]

    def undo(self) -> Step:
        """Take back the newest click. It counts towards ``max_clicks``, even if there is no click to undo.

        The action space has no undo; the wrapper ``UndoAction`` adds one.

        Raises:
            gymnasium.error.ResetNeeded: no episode is running.
        """
        episode, session = self._running("undo")
        if episode.running and episode.take_back():
            _take_answer(episode, session.undo)
        return self._step(episode, None)

    def render(self) -> NDArray[np.uint8] | str | None:
        """Return a picture of the present step, uint8 RGB (h, w, 3), or a line of text.

        In the mode "human" every step is shown without this call, which shows it again and returns None.
        """
        if self.render_mode is None:
            gym.logger.warn(
                "env.render() was called without a render mode: make the environment with "
                f"render_mode= one of {self.metadata['render_modes']}"
            )
            return None
        if self._episode is None:
            raise ResetNeeded("there is nothing to draw yet: call env.reset() before env.render()")
        if self.render_mode == "human":
            self._show(self._episode)
            return None
        return str(self._episode) if self.render_mode == "ansi" else _picture(self._episode)

    def close(self) -> None:
        """Close the session and the window. May be called twice; ``reset`` opens new ones."""
        self._close_session()
        if self._window is not None:
            self._window.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return the pickled state: arguments and random state, without the running episode."""
        state = {**self.__dict__, "_opened": None, "_episode": None, "_window": None, "observation_buffer": None}
        if self._described_segmenter is not None:
            del state["segmenter"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._window = self._make_window()
        if self._described_segmenter is not None:
            self.segmenter = shared_segmenter(self._described_segmenter)

    def _open(self, volume: Volume) -> _Opened:
        """Open a session on a volume; reuse the previous episode's session if it had the same volume."""
        if self._opened is not None and self._opened.volume is volume:
            self._opened.session.reset()
            return self._opened
        if volume.image.shape != self._shape:
            raise InputError(
                f"{volume.case_id} has the grid {volume.image.shape}, but this environment's is {self._shape} (z, y, x)"
            )
        self._close_session()
        image = np.ascontiguousarray(to_uint8(volume.image, volume.modality))
        # Segmenters of this package only read the image. Others get a copy, which they may change.
        own = type(self.segmenter).__module__.startswith("synthfm_env.")
        session = self.segmenter.start(image if own else image.copy(), volume.spacing)
        self._opened = _Opened(volume, image, session)
        return self._opened

    def _close_session(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.session.close()

    def _make_window(self) -> Window | None:
        return Window(1 / self.metadata["render_fps"]) if self.render_mode == "human" else None

    def _show(self, episode: Episode) -> None:
        if self._window is not None:
            self._window.show(_picture(episode), str(episode))

    def _running(self, verb: str) -> tuple[Episode, Session]:
        episode, opened = self._episode, self._opened
        if episode is None or opened is None or self._ended:
            raise ResetNeeded(f"no episode is running (none began, or it ended): call env.reset() before env.{verb}()")
        return episode, opened.session

    def _step(self, episode: Episode, click: Click | None) -> Step:
        truncated = episode.outcome is Outcome.MAX_CLICKS
        terminated = not episode.running and not truncated
        self._ended = not episode.running
        self._show(episode)
        return self._observe(episode), self._reward(episode, click), terminated, truncated, self._info(episode)

    def _observe(self, episode: Episode) -> Observation:
        """Return the observation, written into ``observation_buffer`` or, if that is None, into new arrays."""
        buffer = self.observation_buffer
        out = buffer or {key: np.empty(space.shape, space.dtype) for key, space in self.observation_space.items()}
        episode.write_observation(out)
        if self.goal:
            out["goal"][...] = self._goals[self.goal_of(episode.task)]
        if self.goal and buffer is None:
            out["goal"] = np.int64(out["goal"])
        return out

    def _info(self, episode: Episode) -> dict[str, Any]:
        labels = {"protocol": self.protocol or "", "start": str(self.start)}
        info = {**episode.info(), **labels, **self.more_info(episode)}
        if self.reveal_truth:
            info["truth"] = episode.truth.copy()
        return info


def _take_answer(episode: Episode, ask: Callable[[], Prediction]) -> None:
    """Ask the segmenter and score its answer; an exception ends the episode with the outcome ``model_error``."""
    try:
        episode.take(ask())
    except Exception as error:  # a failure is an outcome with a score, not a missing row
        _log.debug("the segmenter failed after %s", episode.clicks, exc_info=True)
        episode.fail(error)


def _picture(episode: Episode) -> NDArray[np.uint8]:
    """Return the picture of an episode, uint8 (H, W, 3)."""
    volume = episode.task.volume
    return draw_frame(
        episode.image,
        episode.mask,
        episode.truth,
        episode.clicks,
        volume.spacing,
        caption=f"Dice {episode.dice:.3f}  click {episode.clicks_used}",
        anterior_up=volume.affine is not None,
    )


def _observation_space(shape: tuple[int, int, int], max_clicks: int, start: Start, goals: int) -> spaces.Dict:
    """Return the space of observations; ``goals`` is 0 without a goal."""
    last = np.array([*(n - 1 for n in shape), 1], dtype=np.int32)
    rows = max_clicks + (start.kind == "click")
    return spaces.Dict(
        {
            "image": spaces.Box(0, 255, shape, np.uint8),
            "mask": spaces.Box(0, 1, shape, np.uint8),
            "clicks": spaces.Box(np.int32(-1), np.tile(last, (rows, 1)), (rows, 4), np.int32),
            "spacing": spaces.Box(0.0, float(np.finfo(np.float32).max), (3,), np.float32),
            **start.spaces(shape),
            **({"goal": spaces.Discrete(goals)} if goals else {}),
        }
    )
