"""Records all steps of an environment."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import synthfm_env
from synthfm_env.errors import InputError
from synthfm_env.printable import shown


class RecordSteps(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Write every reset and every step to a file, one JSON object a line, as they happen.

    The first line holds the environment's `spec` (null if an argument is not JSON, such as an image given as an object)
    and the version of `synthfm_env`. Lines of a reset hold `episode`, `step` 0, `seed` and `options`; lines of a step
    `episode`, `step`, `action`, `click` ([z, y, x, positive], the newest in force), `reward`, `terminated` and
    `truncated`. Both hold the numbers and texts of `info`, and `mask_sha256` of the mask's bytes. Two runs of the same
    episodes write the same lines. Wrap with it last, so that it sees what the agent does.

    Args:
        env: the environment.
        path: the file, which must not exist yet.

    Raises:
        InputError: the file exists or cannot be written, or the path is none.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import gymnasium as gym
        >>> import synthfm_env
        >>> env = gym.make("SynthFM/Synthetic3D-v0", shape=[8, 32, 32], recipe="clear", segmenter="geodesic")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     recorder = RecordSteps(env, f"{folder}/steps.jsonl")
        ...     _ = recorder.reset(seed=0)
        ...     recorder.close()
        ...     len(Path(f"{folder}/steps.jsonl").read_text().splitlines())
        2
    """

    def __init__(self, env: gym.Env[Any, Any], path: str | Path) -> None:
        if not isinstance(path, str | Path):
            raise InputError(f"RecordSteps: path is {shown(path)}: expected the path of a new file")
        gym.utils.RecordConstructorArgs.__init__(self, path=str(path))
        super().__init__(env)
        self.path = Path(path)
        self._episode = -1
        self._step = 0
        try:
            self.path.touch(exist_ok=False)
        except FileExistsError as error:
            raise InputError(f"RecordSteps: {path} exists: give another path, or remove it") from error
        except OSError as error:
            raise InputError(f"RecordSteps: {path} cannot be written: {error.strerror}") from error
        self._write({"spec": _spec(env), "synthfm_env": synthfm_env.__version__})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode and write a line."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._episode, self._step = self._episode + 1, 0
        self._write(
            {"episode": self._episode, "step": 0, "seed": seed, "options": options or {}, **_state(observation, info)}
        )
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment and write a line."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._step += 1
        placed = observation["clicks"][observation["clicks"][:, 0] >= 0]
        self._write(
            {
                "episode": self._episode,
                "step": self._step,
                "action": np.asarray(action).tolist(),
                "click": placed[-1].tolist() if len(placed) else None,
                "reward": float(reward),
                "terminated": terminated,
                "truncated": truncated,
                **_state(observation, info),
            }
        )
        return observation, reward, terminated, truncated, info

    def _write(self, line: dict[str, Any]) -> None:
        # Opened for each line: a killed run keeps what it wrote, and a pickled wrapper has no open file.
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=_as_json) + "\n")


def _as_json(value: object) -> Any:
    """Return numpy's numbers and arrays as Python's, which JSON takes; another object as its text."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else shown(value)


def _state(observation: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    scalars = {key: value for key, value in info.items() if isinstance(value, str | int | float)}
    return {**scalars, "mask_sha256": sha256(observation["mask"].tobytes()).hexdigest()}


def _spec(env: gym.Env[Any, Any]) -> Any:
    if env.spec is None:
        return None
    try:
        return json.loads(env.spec.to_json())
    except (TypeError, ValueError):
        return None
