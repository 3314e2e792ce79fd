"""Episodes: a clicker and a segmenter on one structure of one case, as step records."""

import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from synthfm_agents import Clicker
from synthfm_bench.execution.peak_memory import PeakMemory
from synthfm_bench.plan import EPISODE_ARGUMENTS, Case, Task, build_clicker, build_segmenter, env_spec, open_volume
from synthfm_bench.results.provenance import device_of, protocol_hash, weights_sha256
from synthfm_bench.results.step_record import StepRecord
from synthfm_bench.suite import Choice, Suite, SyntheticData, tolerance_of
from synthfm_env.envs.actions import read_action
from synthfm_env.errors import InputError
from synthfm_env.metrics import Surfaces, iou
from synthfm_env.segmenters import Segmenter
from synthfm_env.volumes import Volume

_FROM_THE_TRUTH = ("truth", "dice")

Fields = dict[str, Any]


class Watch:
    """Is told when code of a segmenter or a clicker begins, and when it has answered; this one does nothing."""

    def attempt(self, fields: Fields, step: int) -> None:
        """Begin: should it never answer, ``failure(fields, step, ...)`` is the record."""

    def answered(self) -> None:
        """End: what follows is this project's own arithmetic."""


class Player:
    """Plays the tasks of a suite in one process, one after another.

    Models are built once. The volume and the env of the last task are kept: the next task on the same image reads no
    file again, and with the same segmenter encodes no image again.

    Args:
        suite: what is played.
        run_id: stands in every record.
    """

    def __init__(self, suite: Suite, run_id: str) -> None:
        self._suite = suite
        self._run_id = run_id
        self._segmenters = {choice.label: choice for choice in suite.segmenters}
        self._segmenter = lru_cache(maxsize=4)(self._build)
        self._clickers: dict[tuple[str, str], Clicker] = {}
        self._weights = cache(weights_sha256)
        self._volume: tuple[tuple[str, str], Volume] | None = None
        self._env: tuple[tuple[str, ...], gym.Env[Any, Any]] | None = None

    def play(self, task: Task, watch: Watch) -> Iterator[StepRecord]:
        """Play a task, and yield each record as soon as there is one."""
        segmenter = self._segmenter(task.model.label)
        clicker = self._clicker(task, segmenter)
        case = task.case
        renamed = {"source": task.model.use} if task.model.name else {}
        fixed: Fields = {
            "run_id": self._run_id,
            "episode_id": task.episode_id,
            "env_id": env_spec(case.data, self._suite.clicks)["id"],
            "data_id": case.data.name,
            "case_id": case.case_id,
            "image_id": case.image_id,
            "seed": case.seed,
            "clicker_seed": task.clicker_seed(self._suite),
            "max_clicks": self._suite.clicks,
            "clicker": task.clicker.label,
            "protocol": task.clicker.use,
            "protocol_hash": protocol_hash(clicker, task.clicker.use, task.clicker.params),
            "clicker_params": task.clicker.params,
            "oracle": clicker.oracle,
            "model": task.model.label,
            "model_params": task.model.params | renamed,
            "model_hash": self._weights(segmenter),
            "tol_mm": tolerance_of(self._suite, case.data),
            "device": device_of(segmenter),
        }
        env = self._open_env(case, task.model, segmenter)
        yield from play_episode(env, clicker, fixed, task.structure, watch)

    def close(self) -> None:
        """Free the env that is kept."""
        if self._env is not None:
            self._env[1].close()
            self._env = None

    def _build(self, label: str) -> Segmenter:
        return build_segmenter(self._segmenters[label])

    def _clicker(self, task: Task, segmenter: Segmenter) -> Clicker:
        key = (task.clicker.label, task.model.label)
        if key not in self._clickers:
            self._clickers[key] = build_clicker(task.clicker, segmenter)
        return self._clickers[key]

    def _open_env(self, case: Case, model: Choice, segmenter: Segmenter) -> gym.Env[Any, Any]:
        synthetic = isinstance(case.data, SyntheticData)
        key = (case.data.name, model.label, "" if synthetic else case.image_id)
        if self._env is not None and self._env[0] == key:
            return self._env[1]
        self.close()
        spec = env_spec(case.data, self._suite.clicks, self._suite.start)
        kwargs = spec["kwargs"]
        if not synthetic:
            image = (case.data.name, case.image_id)
            if self._volume is None or self._volume[0] != image:
                self._volume = image, open_volume(case)
            kwargs = {name: kwargs[name] for name in EPISODE_ARGUMENTS if name in kwargs} | {"image": self._volume[1]}
        self._env = key, gym.make(spec["id"], disable_env_checker=True, segmenter=segmenter, **kwargs)
        return self._env[1]


def play_episode(
    env: gym.Env[Any, Any],
    clicker: Clicker,
    fixed: Mapping[str, Any],
    structure: int | None,
    watch: Watch | None = None,
) -> Iterator[StepRecord]:
    """Play one episode and yield a record for each click, and for whatever else ends it.

    A failure is a record too, and scores 0: a mask from before the failed click is no answer to it.

    Args:
        env: one that reveals the truth; it is passed on only to a clicker that is an oracle.
        clicker: who clicks.
        fixed: the fields of the records that the whole episode shares.
        structure: label id for ``env.reset``, or None to let the env draw.
        watch: is told before and after each answer, None for nobody.
    """
    watch = watch or Watch()
    known: Fields = {**fixed, "structure": str(structure or "unknown"), "modality": "unknown"}
    memory = PeakMemory(fixed["device"])
    watch.attempt(known, 1)
    try:
        options = None if structure is None else {"structure": structure}
        observation, info = env.reset(seed=fixed["seed"], options=options)
    except Exception as error:  # whatever a segmenter raises at an image is its outcome for this case
        yield failure(known, 1, "model_error", describe(error))
        return
    watch.answered()
    known |= _volume(observation, info)
    clicker.reset(fixed["clicker_seed"])
    for step in range(1, fixed["max_clicks"] + 1):
        seen = info if clicker.oracle else {key: info[key] for key in info if key not in _FROM_THE_TRUTH}
        watch.attempt(known, step)
        began = time.perf_counter()
        try:
            action = clicker.act(observation, seen)
        except Exception as error:  # a clicker of the user's own may raise anything
            yield failure(known, step, "no_valid_click", describe(error))
            return
        took = time.perf_counter() - began
        try:
            observation, reward, terminated, truncated, info = env.step(action)
        except InputError as error:
            yield failure(known, step, "invalid_prompt", describe(error))
            return
        watch.answered()
        used = memory.since_last()
        if info["error"]:
            click = _click(action, observation, answered=False)
            yield failure(known | click | used | {"t_click_s": took}, step, "model_error", info["error"])
            return
        answer = env.unwrapped.prediction if info["clicks_used"] == step else None  # type: ignore[attr-defined]
        yield StepRecord(
            **known,
            **_click(action, observation, answered=answer is not None),
            **_scores(observation, info, fixed["tol_mm"]),
            **used,
            step=step,
            outcome="no_error" if info["outcome"] == "stopped" and info["dice"] == 1 else info["outcome"],
            reward=float(reward),
            terminated=terminated,
            truncated=truncated,
            t_click_s=took,
            t_encode_s=answer.seconds.encode if answer else None,
            t_predict_s=answer.seconds.predict if answer else None,
        )
        if terminated or truncated:
            return


def failure(fields: Mapping[str, Any], step: int, kind: str, error: str) -> StepRecord:
    """Return the record of a failed click: it ends the episode with a score of 0."""
    nothing: Fields = {"dice": 0.0, "iou": 0.0, "nsd": 0.0, "terminated": True, "truncated": False}
    return StepRecord(**fields, **nothing, step=step, outcome=kind, error=" ".join(error.split()))


def describe(error: BaseException) -> str:
    """Return an exception's type and message."""
    return f"{type(error).__name__}: {error}"


def _volume(observation: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> Fields:
    return {
        "structure": info["structure"],
        "modality": info["modality"],
        "shape_zyx": observation["image"].shape,
        "spacing_zyx": tuple(observation["spacing"].tolist()),
        "truth_vox": int(np.count_nonzero(info["truth"])),
        "image_sha256": hashlib.sha256(observation["image"].data).hexdigest(),
    }


def _scores(observation: Mapping[str, NDArray[Any]], info: Mapping[str, Any], tolerance: float) -> Fields:
    mask, truth = observation["mask"].view(bool), info["truth"]
    z, y, x = observation["spacing"].tolist()
    surfaces = Surfaces.between(mask, truth, (z, y, x))
    hd95 = surfaces.hausdorff(95)
    return {
        "dice": float(info["dice"]),
        "iou": float(iou(mask, truth)),
        "nsd": surfaces.nsd(tolerance),
        "hd95_mm": hd95 if math.isfinite(hd95) else None,
        "fn_vox": int(np.count_nonzero(truth & ~mask)),
        "fp_vox": int(np.count_nonzero(mask & ~truth)),
        "mask_sha256": hashlib.sha256(mask.data).hexdigest(),
    }


def _click(action: NDArray[np.integer], observation: Mapping[str, NDArray[Any]], answered: bool) -> Fields:
    """Return the fields that tell where the click went, none for a stop."""
    mask = observation["mask"]
    click = read_action(action, mask.shape)
    if click is None:
        return {}
    spacing = observation["spacing"].tolist()
    clicks = observation["clicks"][observation["clicks"][:, 0] >= 0]
    obeyed = mask[tuple(clicks[:, :3].T)] == clicks[:, 3]
    return {
        "point_zyx": click.zyx,
        "point_mm": tuple(float(i * mm) for i, mm in zip(click.zyx, spacing, strict=True)),
        "label": int(click.positive),
        "complied": bool(mask[click.zyx]) == click.positive if answered else None,
        "kept": float(obeyed.mean()) if answered else None,
    }
