"""The environment that plays one episode after another; a subclass says what each is about."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypedDict

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import ArrayLike, NDArray

from synthfm_env.envs.actions import STOP, read_action
from synthfm_env.envs.display_window import Window
from synthfm_env.envs.episode import Episode, Observation, Outcome, Task
from synthfm_env.envs.rendering import draw_frame
from synthfm_env.envs.rewards import make_reward
from synthfm_env.envs.start_prompt import Start
from synthfm_env.errors import InputError, unknown_name
from synthfm_env.printable import printable
from synthfm_env.prompts import Click
from synthfm_env.segmenters import make_segmenter
from synthfm_env.segmenters.base import Prediction, Segmenter, Session
from synthfm_env.volumes import Volume, to_uint8

_log = logging.getLogger(__name__)

Step = tuple[Observation, float, bool, bool, dict[str, Any]]
"""What a step returns: observation, reward, terminated, truncated, info."""

GOALS = ("structure",)


class EpisodeOptions(TypedDict, total=False):
    """Arguments that every environment takes; ``PromptEnv`` documents them."""

    segmenter: str | Segmenter
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
    """A volume that a session is open on, and the image that the session was given."""

    volume: Volume
    image: NDArray[np.uint8]
    session: Session


@lru_cache(maxsize=4)
def _shared_segmenter(name: str) -> Segmenter:
    """Build a segmenter once a process, so that all environments of that name share one model."""
    return make_segmenter(name)


class PromptEnv(gym.Env[Observation, NDArray[np.integer]], ABC):
    """Segment one structure of a 3D image by placing clicks.

    The base of all environments here: a subclass says which task comes next (``draw_task``), this class plays
    the episode. A 2D image is a volume with one slice. Axes are always (z, y, x), spacing is in mm.

    ## Description

    The agent sees a grey image and places positive ("this belongs to the structure") and negative ("this
    does not") clicks. After each click a promptable segmenter, for example SAM 2, answers with a mask that
    follows from all clicks so far. The image is encoded once; a click costs the propagation only. The agent
    never draws: what is learned or compared is where to click.

    ## Action Space

    `MultiDiscrete([D, H, W, 3])`, four integers:

    | Num | Action        | Values                         |
    |-----|---------------|--------------------------------|
    | 0   | z, the slice  | 0 to D - 1                     |
    | 1   | y, the row    | 0 to H - 1                     |
    | 2   | x, the column | 0 to W - 1                     |
    | 3   | what to do    | 0 negative, 1 positive, 2 stop |

    With "stop" the other three do not matter. A voxel may be clicked again. An action outside the space
    raises `InputError`.

    ## Observation Space

    A `Dict` of arrays, every one a copy that stays as it is:

    | Key       | Type and shape        | Content                                                           |
    |-----------|-----------------------|-------------------------------------------------------------------|
    | `image`   | uint8 (D, H, W)       | the image in 8 bits, as the segmenter is given it                 |
    | `mask`    | uint8 (D, H, W)       | the segmenter's mask, 0 or 1                                      |
    | `clicks`  | int32 (max_clicks, 4) | rows z, y, x, positive (1 or 0), oldest first; unused rows are -1 |
    | `spacing` | float32 (3,)          | voxel size (z, y, x) in mm                                        |

    What the episode starts with adds to it:

    | Argument            | Key and type                                | Content                                  |
    |---------------------|---------------------------------------------|------------------------------------------|
    | `start="click"`     | `clicks` has one row more, (max_clicks+1, 4) | its first row is the start click         |
    | `start="box"`       | `box`, int32 (2, 3)                         | rows first voxel and one past the last   |
    | `start="mask"`      | `start_mask`, uint8 (D, H, W)               | the damaged mask, 0 or 1                 |
    | `goal="structure"`  | `goal`, an integer of a `Discrete` space    | which anatomy is meant, see `goal_names` |

    ## Rewards

    | `reward`           | Worth of a step                                                         |
    |--------------------|-------------------------------------------------------------------------|
    | `"dice_gain"`      | Dice after the step minus Dice before it                                |
    | `"nsd_gain"`       | the same with NSD, at a tolerance of 2 mm                               |
    | `"target_reached"` | 1 for the click that reaches `target_dice`, which it needs; otherwise 0 |

    Scores begin at 0, or at that of the answer to the start prompt: the rewards of an episode sum to what its final
    score is above that. "Stop" is worth 0.

    A dict sets prices, and the tolerance in mm: `reward={"name": "nsd_gain", "tolerance_mm": 1.0,
    "click_price": 0.01, "slice_price": 0.02}`. Every click then costs `click_price`, and one in another slice
    than the click before costs `slice_price` besides.

    ## Starting State

    `start="empty"`: no clicks and an empty mask, so Dice is 0 and nothing tells which structure is meant. The other
    starts give the segmenter a first prompt that is made from the truth; the mask is the segmenter's answer to it:

    | `start`   | `start_protocol`          | The prompt                                                             |
    |-----------|---------------------------|------------------------------------------------------------------------|
    | `"click"` | `"deepest-mm-v1"`         | the voxel farthest from the border in mm, as `synthfm-mm-v1` begins    |
    |           | `"deepest-voxels-v1"`     | the voxel farthest from the border in voxels, as `ritm-3d-v1` begins   |
    |           | `"uniform-v1"`            | a voxel of the structure, each with the same probability               |
    | `"box"`   | `"tight-v1"`              | the smallest box that contains the structure                           |
    | `"mask"`  | `"damaged-v1"`            | the structure, its border moved until Dice is `start_dice`             |

    The first protocol of each is the default. A start prompt uses up none of `max_clicks`, cannot be taken back, and
    ends no episode, whatever its Dice. If the segmenter fails on it, the first step terminates with `model_error`.

    `reset(options={"structure": ...})`, a label id or a name, picks the structure of that episode. A repeated seed
    gives the same episode again.

    ## Episode End

    Terminated when the agent stops, when Dice reaches `target_dice`, or when the segmenter fails; truncated
    when `max_clicks` clicks are used. Stepping on raises `gymnasium.error.ResetNeeded`.

    ## Information

    The same keys from every `reset` and `step`; numbers and text, no times:

    | Key           | Content                                                               |
    |---------------|-----------------------------------------------------------------------|
    | `case_id`     | the volume's name                                                     |
    | `clicks_used` | clicks so far, those taken back by `UndoAction` and undos included     |
    | `dice`        | Dice of the mask against the truth                                    |
    | `error`       | what the segmenter raised, else empty                                 |
    | `modality`    | `CT`, `MR`, `US` or `other`                                           |
    | `outcome`     | `running`, `stopped`, `target_reached`, `max_clicks` or `model_error` |
    | `protocol`    | the argument of that name, empty for `None`                           |
    | `start`       | kind and protocol of the start prompt, `empty` without one            |
    | `structure`   | the structure's name, or its label id as text                         |
    | `truth`       | bool (D, H, W), a copy; only with `reveal_truth=True`                 |

    After `model_error` the mask is empty and Dice is 0: what was gained is taken back, so a segmenter that fails
    never keeps a score. `env.unwrapped.prediction` is the segmenter's answer to the last click, with its logits
    and seconds; `None` before the first prompt.

    ## Arguments

    | Argument       | Default            | Meaning                                                          |
    |----------------|--------------------|------------------------------------------------------------------|
    | `segmenter`    | `"synthfm3d-nano"` | a name, a path, or a `Segmenter`; environments share one by name |
    | `protocol`     | `None`             | name of the click protocol being played; recorded, not executed  |
    | `max_clicks`   | `10`               | clicks before the episode is truncated                           |
    | `reward`       | `"dice_gain"`      | name of the reward, or a dict with its name and its prices       |
    | `target_dice`  | `None`             | Dice in (0, 1] that ends the episode                             |
    | `start`        | `"empty"`          | prompt that begins an episode: empty, click, box or mask         |
    | `start_protocol` | `None`           | rule that makes the start prompt; `None` for the kind's first one |
    | `start_dice`   | `None`             | Dice of the damaged mask of `start="mask"`; `None` for 0.7       |
    | `goal`         | `None`             | `"structure"` adds to the observation which anatomy is meant     |
    | `reveal_truth` | `False`            | puts the truth into `info`, for clickers that simulate a user    |
    | `render_mode`  | `None`             | `"rgb_array"`, `"ansi"` or `"human"`                             |

    `"rgb_array"` draws the planes through the last click with mask and truth as contours, so it shows the
    truth; `"ansi"` is one line a step; `"human"` shows the picture of every step in a window of matplotlib's
    (extra `plot`). A wrong argument raises `InputError`.

    ## Vectorized environment

    `gym.make_vec(id, num_envs=8, ...)` plays many episodes side by side. They share one segmenter, which is given
    the clicks of a step as one batch; each environment returns what it would return alone. Without wrappers: with
    `wrappers=`, take `vectorization_mode="sync"`, which asks one after another.

    `metadata["autoreset_mode"]` is what follows the end of an episode: `NextStep`, as is Gymnasium's default, or
    what the argument `autoreset_mode` names (`"SameStep"`, `"Disabled"`). Observations are written into arrays that
    are allocated once; `copy=False` returns these arrays themselves, which the next step overwrites.

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
        segmenter: str | Segmenter = "synthfm3d-nano",
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
        if isinstance(max_clicks, bool) or not isinstance(max_clicks, int | np.integer) or max_clicks < 1:
            raise InputError(f"max_clicks is {max_clicks!r}: an episode needs a whole number of clicks, at least 1")
        if not isinstance(segmenter, str | Segmenter):
            raise InputError(f"segmenter is {printable(repr(segmenter), 80)}: expected a name, a path or a Segmenter")
        if target_dice is not None and not 0 < target_dice <= 1:
            raise InputError(f"target_dice is {target_dice}: expected None or a Dice above 0 and up to 1")
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise unknown_name("render mode", render_mode, self.metadata["render_modes"])
        if goal is not None and goal not in GOALS:
            raise unknown_name("goal", goal, GOALS)
        self.protocol = protocol
        self.max_clicks = max_clicks
        self.target_dice = target_dice
        self.reveal_truth = reveal_truth
        self.render_mode = render_mode
        self._shape = shape
        self._reward = make_reward(reward, target_dice)
        self._segmenter_name = None if isinstance(segmenter, Segmenter) else segmenter
        self.segmenter = segmenter if isinstance(segmenter, Segmenter) else _shared_segmenter(segmenter)
        self.start = Start(start, start_protocol, start_dice)
        self.start.check(self.segmenter)
        self.goal = goal
        self._goals = {name: number for number, name in enumerate(self.goal_names())} if goal else {}
        self.action_space = spaces.MultiDiscrete([*shape, STOP + 1])
        self.observation_space = _observation_space(shape, max_clicks, self.start, len(self._goals))
        self.observation_buffer: Observation | None = None
        self._opened: _Opened | None = None
        self._episode: Episode | None = None
        self._ended = False
        self._window = self._make_window()

    @abstractmethod
    def draw_task(self, structure: int | str | None) -> Task:
        """Return the task of the next episode, all chance taken from ``self.np_random``.

        Args:
            structure: what ``reset(options={"structure": ...})`` asks for, or None for a free choice.

        Raises:
            InputError: the structure is not there.
        """

    def goal_names(self) -> list[str]:
        """Return the anatomies that ``observation["goal"]`` numbers.

        Raises:
            InputError: the environment's cases share no anatomy.
        """
        raise InputError(
            f"goal='structure': the cases of {type(self).__name__} share no anatomy; make the environment without goal"
        )

    def goal_of(self, task: Task) -> str:
        """Return which of ``goal_names`` a task is about."""
        return task.structure_name

    def more_info(self, episode: Episode) -> dict[str, Any]:
        """Return what a subclass adds to ``info``: the same keys every time, numbers and text."""
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
            seed: restarts all chance; None goes on from where it is.
            options: ``{"structure": label id or name}``, or nothing.

        Raises:
            InputError: an unknown option, or a structure that is not in the volume.
        """
        super().reset(seed=seed)
        options = options or {}
        for name in options.keys() - {"structure"}:
            raise unknown_name("reset option", name, ["structure"])
        if self._episode is not None and self._episode.outcome is Outcome.MODEL_ERROR:
            self._close_session()  # what the session holds is in doubt
        self._episode = None
        task = self.draw_task(options.get("structure"))
        truth = task.volume.truth(task.structure)
        opened = self._open(task.volume)
        start = self.start.draw(truth, task.volume.spacing, self.np_random)
        episode = Episode(task, opened.image, self.max_clicks, self.target_dice, truth, start)
        try:
            answer = start.give(opened.session)
            if answer is not None:
                episode.begin(answer)
        except Exception as error:  # a model's failure is an outcome, which the first step returns
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
        """Return the click that ``step(action)`` would give the session; None if it would stop.

        The first half of ``step``; it changes nothing. A vector environment calls it for all its environments, has
        their ``session``s answered as one batch, and calls ``finish_step`` with each answer.

        Raises:
            InputError: the action is not in the action space.
            gymnasium.error.ResetNeeded: no episode is running.
        """
        episode, _ = self._running("step")
        click = read_action(action, self._shape)
        return click if episode.running else None

    def observe(self) -> tuple[Observation, dict[str, Any]]:
        """Return observation and info of the episode as it stands, as ``reset`` and ``step`` last did.

        Raises:
            gymnasium.error.ResetNeeded: no episode began.
        """
        if self._episode is None:
            raise ResetNeeded("no episode began: call env.reset() before env.observe()")
        return self._observe(self._episode), self._info(self._episode)

    def finish_step(self, click: Click | None, prediction: Prediction | None = None) -> Step:
        """Return what ``step`` returns, after a click or, for None, after a stop.

        The second half of ``step``.

        Args:
            click: from ``pending_click``.
            prediction: the answer of ``session`` to the click, if it has been given the click already; None to ask it.

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
            _answer(episode, lambda: prediction or session.add(click))
        return self._step(episode, click)

    def step_together(self, clicks: Sequence[Click]) -> Step:
        """Place several clicks as one prompt: the segmenter answers once, see ``Session.prompt``.

        Args:
            clicks: at least one, inside the image, as many as are left of ``max_clicks`` at most.

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
        _answer(episode, lambda: session.prompt(clicks))
        return self._step(episode, clicks[-1])

    @property
    def truth(self) -> NDArray[np.bool_]:
        """The structure of the episode, bool (D, H, W), for oracles; not to be written to.

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
        """Take back the newest click; that uses up one of ``max_clicks`` too, also where there is none left.

        No action of the environment's own does this: the wrapper ``UndoAction`` adds it.

        Raises:
            gymnasium.error.ResetNeeded: no episode is running.
        """
        episode, session = self._running("undo")
        if episode.running and episode.take_back():
            _answer(episode, session.undo)
        return self._step(episode, None)

    def render(self) -> NDArray[np.uint8] | str | None:
        """Return the episode as it stands: an RGB picture, uint8 (h, w, 3), or a line of text.

        In the mode "human" every step shows itself; this shows it once more and returns None.
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
        """Free the session and close the window. May be called twice; ``reset`` opens new ones."""
        self._close_session()
        if self._window is not None:
            self._window.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle carries: arguments and random state. An episode under way stays behind."""
        state = {**self.__dict__, "_opened": None, "_episode": None, "_window": None, "observation_buffer": None}
        if self._segmenter_name is not None:
            del state["segmenter"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._window = self._make_window()
        if self._segmenter_name is not None:
            self.segmenter = _shared_segmenter(self._segmenter_name)

    def _open(self, volume: Volume) -> _Opened:
        """Return a session without clicks; a volume that is encoded already is not encoded again."""
        if self._opened is not None and self._opened.volume is volume:
            self._opened.session.reset()
            return self._opened
        if volume.image.shape != self._shape:
            raise InputError(
                f"{volume.case_id} has the grid {volume.image.shape}, but this environment's is {self._shape} (z, y, x)"
            )
        self._close_session()
        image = np.ascontiguousarray(to_uint8(volume.image, volume.modality))
        # A segmenter of this package only reads the image. Another one gets its own, so that it cannot change ours.
        given = image if type(self.segmenter).__module__.startswith("synthfm_env.") else image.copy()
        self._opened = _Opened(volume, image, self.segmenter.start(given, volume.spacing))
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
        """Write the observation into ``observation_buffer`` and return that, or into fresh arrays if it is None."""
        buffer = self.observation_buffer
        out = buffer or {key: np.empty(space.shape, space.dtype) for key, space in self.observation_space.items()}
        episode.write_observation(out)
        if self.goal:
            out["goal"][...] = self._goals[self.goal_of(episode.task)]
        if self.goal and buffer is None:
            out["goal"] = np.int64(out["goal"])
        return out

    def _info(self, episode: Episode) -> dict[str, Any]:
        named = {"protocol": self.protocol or "", "start": str(self.start)}
        info = {**episode.info(), **named, **self.more_info(episode)}
        if self.reveal_truth:
            info["truth"] = episode.truth.copy()
        return info


def _answer(episode: Episode, ask: Callable[[], Prediction]) -> None:
    try:
        episode.take(ask())
    except Exception as error:  # a model's failure is an outcome with a score, never a lost row
        _log.debug("the segmenter failed after %s", episode.clicks, exc_info=True)
        episode.fail(error)


def _picture(episode: Episode) -> NDArray[np.uint8]:
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
