"""Offers a few candidate clicks as discrete actions."""

import logging
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from synthfm_env.candidates import (
    FEATURES,
    LIMIT,
    Candidates,
    PromptState,
    blind_candidates,
    oracle_candidates,
    try_candidates,
    with_answers,
)
from synthfm_env.envs.actions import click_action, stop_action
from synthfm_env.envs.prompt_env import PromptEnv
from synthfm_env.envs.vector_env import PromptVectorEnv
from synthfm_env.errors import InputError
from synthfm_env.prompts import Click

_log = logging.getLogger(__name__)


class CandidateClicks(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Pick one of `k` proposed clicks, each described by features; for learners of discrete actions.

    The action space is `Discrete(k + 1)`: the number of a candidate, and `k` to stop. The observation gets two more
    keys: `candidates`, float32 (k, 44), the features that `synthfm_env.candidates.Candidates` documents, and
    `candidate_clicks`, int32 (k, 4), z, y, x and sign; rows without a candidate are 0 and -1. `action_masks()` tells
    which numbers have a candidate, as sb3-contrib's MaskablePPO expects it; a number without one stops.

    Blind candidates come from mask, logits and image: peaks of the segmenter's uncertainty with either sign, deep
    points of the mask and points beside its border. Without a mask (`start="empty"`) there is one, the image's middle.
    Oracle candidates are the deepest points of the largest errors; they need `reveal_truth=True`.

    With `look_ahead`, the segmenter answers every candidate beforehand, and the clicks are taken back: further features
    describe the answers. A step then costs `k` answers more. Blind agents learn little without them.

    `gym.wrappers.FilterObservation(env, ["candidates"])` leaves the features alone.

    Args:
        env: the environment, its actions z, y, x, kind.
        k: how many candidates at most, 1 or more.
        oracle: whether candidates come from the errors of the mask.
        look_ahead: candidates are tried while fewer clicks than this are in force, a start click among them; 0 for
            never.

    Raises:
        InputError: `k` below 1, `look_ahead` below 0, actions of another form, or no truth for an oracle.

    Example:
        >>> env = gym.make(
        ...     "synthfm_env:SynthFM/Synthetic3D-v0", shape=[8, 32, 32], segmenter="geodesic", start="click"
        ... )
        >>> env = CandidateClicks(env, k=4)
        >>> observation, info = env.reset(seed=0)
        >>> observation["candidates"].shape, env.action_masks().shape
        ((4, 44), (5,))
    """

    def __init__(self, env: gym.Env[Any, Any], k: int = 8, oracle: bool = False, look_ahead: int = 0) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, k=k, oracle=oracle, look_ahead=look_ahead)
        super().__init__(env)
        inner = env.unwrapped
        if not isinstance(inner, PromptEnv) or env.action_space.shape != inner.action_space.shape:
            raise InputError(
                f"CandidateClicks needs the actions z, y, x, kind of a SynthFM environment, but this one takes "
                f"{env.action_space}: wrap gym.make's environment first"
            )
        self._inner = inner
        self._proposer = Proposer(k, oracle, look_ahead, inner)
        self.k, self.oracle, self.look_ahead = k, oracle, look_ahead
        self.action_space = spaces.Discrete(k + 1)
        assert isinstance(env.observation_space, spaces.Dict)
        self.observation_space = spaces.Dict({**env.observation_space.spaces, **self._proposer.spaces()})
        self._candidates = Candidates((), np.zeros((0, len(FEATURES)), np.float32))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode and propose the first candidates."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._propose(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Place the candidate of a number, or stop."""
        observation, reward, terminated, truncated, info = self.env.step(chosen(self._candidates, action, self.k))
        return self._propose(observation), reward, terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions there are, bool (k + 1,); the last, to stop, always is."""
        return action_mask(self._candidates, self.k)

    def _propose(self, observation: dict[str, Any]) -> dict[str, Any]:
        (self._candidates,), _ = self._proposer.propose([self._inner], [observation])
        return {**observation, **self._proposer.observation(self._candidates)}


class VectorCandidateClicks(gym.vector.VectorWrapper, gym.utils.RecordConstructorArgs):
    """`CandidateClicks` around `gym.make_vec`'s environments, whose segmenter still gets a step's clicks as one batch.

    Actions are integers (num_envs,), `candidates` float32 (num_envs, k, 44), `action_masks()` bool (num_envs, k + 1).
    The action of an environment that begins anew (`NextStep`) is not read.

    Attributes:
        tried: of each environment, the masks that the segmenter answered to its candidates; none if not tried.

    Args:
        env: a vector environment of this project's.
        k: how many candidates at most, 1 or more.
        oracle: whether candidates come from the errors of the mask.
        look_ahead: as `CandidateClicks`; the candidates of all environments are tried in batches.

    Raises:
        InputError: as `CandidateClicks`.

    Example:
        >>> import gymnasium as gym
        >>> import synthfm_env
        >>> small = {"shape": [8, 32, 32], "recipe": "clear", "segmenter": "geodesic"}
        >>> envs = VectorCandidateClicks(gym.make_vec("SynthFM/Synthetic3D-v0", num_envs=2, **small), k=4)
        >>> envs.reset(seed=0)[0]["candidates"].shape
        (2, 4, 44)
        >>> envs.close()
    """

    def __init__(self, env: gym.vector.VectorEnv, k: int = 8, oracle: bool = False, look_ahead: int = 0) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, k=k, oracle=oracle, look_ahead=look_ahead)
        super().__init__(env)
        if not isinstance(env, PromptVectorEnv):
            raise InputError("VectorCandidateClicks needs a vector environment that gym.make_vec made of a SynthFM id")
        self._inner = env
        self._proposer = Proposer(k, oracle, look_ahead, env.envs[0])
        self.k, self.oracle, self.look_ahead = k, oracle, look_ahead
        self.single_action_space = spaces.Discrete(k + 1)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        single = env.single_observation_space
        assert isinstance(single, spaces.Dict)
        self.single_observation_space = spaces.Dict({**single.spaces, **self._proposer.spaces()})
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._candidates: list[Candidates] = []
        self.tried: list[list[NDArray[np.bool_]]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start episodes and propose the first candidates."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return self._propose(observations), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Place a candidate, or stop, in every environment."""
        begins = self._inner.begins_next()
        clicks = [
            stop_action() if begin else chosen(candidates, action, self.k)
            for candidates, action, begin in zip(self._candidates, actions, begins, strict=True)
        ]
        observations, rewards, terminations, truncations, infos = self.env.step(np.array(clicks))
        return self._propose(observations), rewards, terminations, truncations, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions there are, bool (num_envs, k + 1)."""
        return np.array([action_mask(candidates, self.k) for candidates in self._candidates])

    def _propose(self, observations: dict[str, Any]) -> dict[str, Any]:
        rows = [{key: array[i] for key, array in observations.items()} for i in range(self.num_envs)]
        self._candidates, self.tried = self._proposer.propose(self._inner.envs, rows)
        added = [self._proposer.observation(candidates) for candidates in self._candidates]
        return {**observations, **{key: np.array([row[key] for row in added]) for key in added[0]}}


class Proposer:
    """Proposes candidates to environments that share their spaces.

    Args:
        k: how many at most.
        oracle: whether from the truth.
        look_ahead: number of clicks in force below which they are tried.
        env: one of the environments.

    Raises:
        InputError: `k` below 1, `look_ahead` below 0, or no truth for an oracle.
    """

    def __init__(self, k: int, oracle: bool, look_ahead: int, env: PromptEnv) -> None:
        if k < 1:
            raise InputError(f"k is {k}: expected 1 candidate or more")
        if look_ahead < 0:
            raise InputError(f"look_ahead is {look_ahead}: expected a number of clicks, 0 or more")
        if oracle and not env.reveal_truth:
            raise InputError("oracle=True needs the truth: make the environment with reveal_truth=True")
        self._k, self._oracle, self._look_ahead = k, oracle, look_ahead
        self._shape = tuple(int(n) for n in env.action_space.nvec[:3])

    def spaces(self) -> dict[str, spaces.Space[Any]]:
        """Return the spaces of what is added to the observation."""
        last = np.array([*(n - 1 for n in self._shape), 1], dtype=np.int32)
        rows = np.tile(last, (self._k, 1))
        return {
            "candidates": spaces.Box(-LIMIT, LIMIT, (self._k, len(FEATURES)), np.float32),
            "candidate_clicks": spaces.Box(np.int32(-1), rows, (self._k, 4), np.int32),
        }

    def observation(self, candidates: Candidates) -> dict[str, NDArray[Any]]:
        """Return what is added to the observation."""
        n = len(candidates.clicks)
        features = np.zeros((self._k, len(FEATURES)), np.float32)
        features[:n] = candidates.features
        clicks = np.full((self._k, 4), -1, np.int32)
        if n:
            clicks[:n] = [(*click.zyx, click.positive) for click in candidates.clicks]
        return {"candidates": features, "candidate_clicks": clicks}

    def propose(
        self, envs: Sequence[PromptEnv], observations: Sequence[dict[str, Any]]
    ) -> tuple[list[Candidates], list[list[NDArray[np.bool_]]]]:
        """Return the candidates for environments as they stand, and the answers to those that were tried.

        Args:
            envs: they share their segmenter.
            observations: of each one.
        """
        states = [self._state(env, observation) for env, observation in zip(envs, observations, strict=True)]
        found = [self._candidates(state) for state in states]
        answers: list[list[NDArray[np.bool_]]] = [[] for _ in envs]
        looking = [i for i, env in enumerate(envs) if env.is_running and len(states[i].clicks) < self._look_ahead]
        try:
            sessions = [envs[i].session for i in looking]
            tried = try_candidates(envs[0].segmenter, sessions, [found[i] for i in looking])
        except Exception:  # the step that places a click will record the failure
            _log.debug("the segmenter failed on a candidate", exc_info=True)
            return found, answers
        for i, masks in zip(looking, tried, strict=True):
            found[i], answers[i] = with_answers(states[i], found[i], masks), masks
        return found, answers

    def _state(self, env: PromptEnv, observation: dict[str, Any]) -> PromptState:
        rows = observation["clicks"]
        clicks = tuple(Click((z, y, x), bool(sign)) for z, y, x, sign in rows.tolist() if z >= 0)
        mask = observation["mask"].view(bool)
        z, y, x = (float(mm) for mm in observation["spacing"])
        return PromptState(
            observation["image"],
            mask,
            clicks,
            (z, y, x),
            env.prediction.logits if env.prediction is not None and not self._oracle else None,
            float((rows[:, 0] < 0).mean()),
            env.truth if self._oracle else None,
        )

    def _candidates(self, state: PromptState) -> Candidates:
        if self._oracle:
            return oracle_candidates(state, self._k)
        found = blind_candidates(state, self._k)
        if found.clicks:
            return found
        depth, height, width = state.mask.shape
        middle = Click((depth // 2, height // 2, width // 2))
        return Candidates((middle,), np.array([[1.0, *[0.0] * (len(FEATURES) - 1)]], np.float32))


def chosen(candidates: Candidates, action: Any, k: int) -> NDArray[np.int64]:
    """Return the environment's action of a number.

    Raises:
        InputError: the number is not from 0 to ``k``.
    """
    number = int(action) if np.ndim(action) == 0 and np.issubdtype(np.asarray(action).dtype, np.integer) else -1
    if not 0 <= number <= k:
        raise InputError(f"env.step() got action {action!r}: expected the number of a candidate, or {k} to stop")
    return click_action(candidates.clicks[number]) if number < len(candidates.clicks) else stop_action()


def action_mask(candidates: Candidates, k: int) -> NDArray[np.bool_]:
    """Return which actions there are, bool (k + 1,)."""
    mask = np.arange(k + 1) < len(candidates.clicks)
    mask[k] = True
    return mask
