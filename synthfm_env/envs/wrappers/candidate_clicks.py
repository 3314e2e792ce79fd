"""Offers a few candidate clicks as discrete actions."""

from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from synthfm_env.candidates import Candidates
from synthfm_env.envs.actions import stop_action
from synthfm_env.envs.prompt_env import PromptEnv
from synthfm_env.envs.vector_env import PromptVectorEnv
from synthfm_env.envs.wrappers.candidate_proposer import CandidateProposer, action_mask, action_of
from synthfm_env.envs.wrappers.seen_parts import check_seen_parts
from synthfm_env.errors import InputError
from synthfm_env.printable import shown

_Proposed = TypeVar("_Proposed")


class CandidateClicks(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Pick one of `k` proposed clicks, each described by features; for learners of discrete actions.

    The action space is `Discrete(k + 1)`: the number of a candidate, and `k` to stop. The observation gets two more
    keys: `candidates`, float32 (k, 44), the features that `synthfm_env.candidates.Candidates` documents, and
    `candidate_clicks`, int32 (k, 4), z, y, x and sign; rows without a candidate are 0 and -1. `action_masks()` tells
    which numbers have a candidate, in the form of sb3-contrib's MaskablePPO; a number without one stops.

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
        InputError: `k` below 1, `look_ahead` below 0, an argument of another type, actions or observations of another
            form, no truth for an oracle, or a vector environment, which `VectorCandidateClicks` takes.

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
        if isinstance(env, gym.vector.VectorEnv):
            raise InputError(
                f"CandidateClicks got {type(env).__name__}, a vector environment: use VectorCandidateClicks, "
                f"or make a single environment with gym.make"
            )
        if not isinstance(env, gym.Env):
            raise InputError(f"CandidateClicks got {shown(env)}: expected an environment that gym.make made")
        gym.utils.RecordConstructorArgs.__init__(self, k=k, oracle=oracle, look_ahead=look_ahead)
        super().__init__(env)
        inner = env.unwrapped
        if not isinstance(inner, PromptEnv) or env.action_space.shape != inner.action_space.shape:
            raise InputError(
                f"CandidateClicks needs the actions z, y, x, kind of a SynthFM environment, but this one takes "
                f"{env.action_space}: wrap gym.make's environment first"
            )
        check_seen_parts("CandidateClicks", env, inner, ("image", "mask", "clicks", "spacing"))
        self._inner = inner
        self._proposer = CandidateProposer(k, oracle, look_ahead, inner)
        self.k, self.oracle, self.look_ahead = k, oracle, look_ahead
        self.action_space = spaces.Discrete(k + 1)
        assert isinstance(env.observation_space, spaces.Dict)
        self.observation_space = spaces.Dict({**env.observation_space.spaces, **self._proposer.spaces()})
        self._candidates: Candidates | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode and propose the first candidates."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._propose(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Place the candidate with the number ``action``, or stop.

        Raises:
            InputError: the action is not a number from 0 to ``k``.
            gymnasium.error.ResetNeeded: no episode is running.
        """
        candidates = _proposed(self._candidates, "step")
        observation, reward, terminated, truncated, info = self.env.step(action_of(candidates, action, self.k))
        return self._propose(observation), reward, terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions exist, bool (k + 1,); the last one, to stop, always does.

        Raises:
            gymnasium.error.ResetNeeded: no episode began.
        """
        return action_mask(_proposed(self._candidates, "action_masks"), self.k)

    def _propose(self, observation: dict[str, Any]) -> dict[str, Any]:
        (candidates,), _ = self._proposer.propose([self._inner], [observation])
        self._candidates = candidates
        return {**observation, **self._proposer.observation(candidates)}


class VectorCandidateClicks(gym.vector.VectorWrapper, gym.utils.RecordConstructorArgs):
    """`CandidateClicks` around `gym.make_vec`'s environments, whose segmenter still gets a step's clicks as one batch.

    Actions are integers (num_envs,), `candidates` float32 (num_envs, k, 44), `action_masks()` bool (num_envs, k + 1).
    The action of an environment that the step resets (`NextStep`) is not read.

    Args:
        env: a vector environment that `gym.make_vec` made of an id of this project.
        k: how many candidates at most, 1 or more.
        oracle: whether candidates come from the errors of the mask.
        look_ahead: as `CandidateClicks`; the candidates of all environments are tried in batches.

    Attributes:
        tried: for each environment, the segmenter's masks for its candidates, bool (D, H, W); empty if not tried.

    Raises:
        InputError: as `CandidateClicks`, or another environment than those of `gym.make_vec`.

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
        if isinstance(env, gym.Env):
            raise InputError(
                f"VectorCandidateClicks got {type(env).__name__}, a single environment: use CandidateClicks, "
                f"or make a vector environment with gym.make_vec"
            )
        if not isinstance(env, PromptVectorEnv):
            raise InputError(
                f"VectorCandidateClicks needs a vector environment that gym.make_vec made of a SynthFM id, but got "
                f"{type(env).__name__}: wrap gym.make_vec's environment first"
            )
        gym.utils.RecordConstructorArgs.__init__(self, k=k, oracle=oracle, look_ahead=look_ahead)
        super().__init__(env)
        self._inner = env
        self._proposer = CandidateProposer(k, oracle, look_ahead, env.envs[0])
        self.k, self.oracle, self.look_ahead = k, oracle, look_ahead
        self.single_action_space = spaces.Discrete(k + 1)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        single = env.single_observation_space
        assert isinstance(single, spaces.Dict)
        self.single_observation_space = spaces.Dict({**single.spaces, **self._proposer.spaces()})
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._candidates: list[Candidates] | None = None
        self.tried: list[list[NDArray[np.bool_]]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start episodes and propose the first candidates."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return self._propose(observations), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Place a candidate, or stop, in every environment.

        Args:
            actions: integers (num_envs,): the number of a candidate, or ``k`` to stop.

        Raises:
            InputError: another number of actions, or one that is not a number from 0 to ``k``; nothing changes then.
            gymnasium.error.ResetNeeded: no episode is running.
        """
        proposed = _proposed(self._candidates, "step")
        actions = np.asarray(actions, dtype=object)  # lists of different lengths too, which `action_of` refuses
        if actions.shape != (self.num_envs,):
            raise InputError(
                f"env.step() got actions of shape {actions.shape}, expected {(self.num_envs,)}: for each environment "
                f"the number of a candidate, or {self.k} to stop"
            )
        begins = self._inner.begins_next()
        clicks = [
            stop_action() if begin else action_of(candidates, action, self.k)
            for candidates, action, begin in zip(proposed, actions, begins, strict=True)
        ]
        observations, rewards, terminations, truncations, infos = self._inner.step(np.array(clicks), self._describe_end)
        return self._propose(observations), rewards, terminations, truncations, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions exist, bool (num_envs, k + 1).

        Raises:
            gymnasium.error.ResetNeeded: no episode began.
        """
        proposed = _proposed(self._candidates, "action_masks")
        return np.array([action_mask(candidates, self.k) for candidates in proposed])

    def _describe_end(self, env: PromptEnv, observation: dict[str, Any]) -> dict[str, Any]:
        """Return the keys that the last observation of an episode gets, before its environment is reset."""
        (candidates,), _ = self._proposer.propose([env], [observation])
        return self._proposer.observation(candidates)

    def _propose(self, observations: dict[str, Any]) -> dict[str, Any]:
        rows = [{key: array[i] for key, array in observations.items()} for i in range(self.num_envs)]
        proposed, self.tried = self._proposer.propose(self._inner.envs, rows)
        self._candidates = proposed
        added = [self._proposer.observation(candidates) for candidates in proposed]
        return {**observations, **{key: np.array([row[key] for row in added]) for key in added[0]}}


def _proposed(candidates: _Proposed | None, verb: str) -> _Proposed:
    """Return the candidates that `reset` or the last step proposed.

    Raises:
        gymnasium.error.ResetNeeded: there are none, since no episode began.
    """
    if candidates is None:
        raise ResetNeeded(f"no episode began: call env.reset() before env.{verb}()")
    return candidates
