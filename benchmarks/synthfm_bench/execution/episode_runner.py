"""Plays episodes and returns their step records."""

import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from synthfm_agents import Clicker
from synthfm_bench.execution.foreign_calls import (
    Fields,
    ForeignCallError,
    Watch,
    call_and_ignore_failure,
    foreign_call,
    outcome_of_message,
)
from synthfm_bench.execution.peak_memory import PeakMemory
from synthfm_bench.plan import Case, EpisodeSpec, env_spec, part_of, read_volume
from synthfm_bench.players import build_clicker, build_segmenter, describe_clicker, describe_segmenter, own_code
from synthfm_bench.results.step_record import FAILURES, StepRecord
from synthfm_bench.suite import Choice, Suite, SyntheticData, tolerance_of
from synthfm_env.envs.actions import click_action, read_action, stop_action
from synthfm_env.envs.prompt_env import PromptEnv
from synthfm_env.envs.start_prompt import Start
from synthfm_env.errors import InputError
from synthfm_env.memory_limit import MemoryLimitError
from synthfm_env.metrics import Surfaces, dice, iou
from synthfm_env.printable import error_line, printable, shown
from synthfm_env.prompts import Click
from synthfm_env.segmenters import Segmenter
from synthfm_env.segmenters.base import Prediction
from synthfm_env.volumes import Volume

_FROM_THE_TRUTH = ("truth", "dice")  # keys of info that blind clickers do not get
_MOST_MODELS = 4  # segmenters that a process keeps

Observation = Mapping[str, NDArray[Any]]


class Player:
    """Plays episodes of a suite in one process, one after the other.

    Models are built once. The volume and the env of the last episode are kept, so that the next episode on the same
    image does not read it again, and with the same segmenter does not encode it again.

    Args:
        suite: the suite.
        run_id: of the run, for its records.
    """

    def __init__(self, suite: Suite, run_id: str) -> None:
        self._suite = suite
        self._start = Start(suite.start, suite.start_protocol, suite.start_dice)
        self._run_id = run_id
        self._segmenters: dict[str, tuple[Segmenter, dict[str, Any]]] = {}
        self._clickers: dict[tuple[str, str], tuple[Clicker, dict[str, Any]]] = {}
        self._volume: tuple[tuple[str, str], Volume] | None = None
        self._env: tuple[tuple[str, ...], gym.Env[Any, Any]] | None = None

    def play(self, spec: EpisodeSpec, watch: Watch) -> Iterator[StepRecord]:
        """Play an episode, and yield each record when its step is done."""
        fields = episode_fields(spec, self._suite, self._run_id)
        try:
            segmenter, clicker = self._build(spec, watch, fields)
            env = self._open_env(spec.case, spec.model, segmenter, watch)
        except ForeignCallError as failed:
            yield failure(fields, 1, failed.outcome, failed.error)
            return
        except MemoryLimitError as error:
            yield failure(fields, 1, "out_of_memory", str(error))
            return
        for record in play_episode(env, clicker, fields, spec.structure, watch):
            yield record
            if record.outcome in FAILURES:
                self.close(watch)  # session and env may be broken

    def close(self, watch: Watch | None = None) -> None:
        """Close the env."""
        env, self._env = self._env, None
        if env is not None:
            call_and_ignore_failure(env[1].close, watch or Watch(), "segmenter")

    def _build(self, spec: EpisodeSpec, watch: Watch, fields: Fields) -> tuple[Segmenter, Clicker]:
        """Return the segmenter and the clicker of an episode, built once, and add their descriptions to ``fields``."""
        with foreign_call(watch, "segmenter", fields, 1, building=True, refuses=not own_code(spec.model)):
            if spec.model.label not in self._segmenters:
                if len(self._segmenters) == _MOST_MODELS:
                    self._segmenters.clear()
                    self._clickers.clear()
                segmenter = build_segmenter(spec.model)
                self._segmenters[spec.model.label] = segmenter, describe_segmenter(spec.model, segmenter)
            segmenter, model = self._segmenters[spec.model.label]
        key = (spec.clicker.label, spec.model.label)
        with foreign_call(watch, "clicker", fields, 1, building=True, refuses=not own_code(spec.clicker)):
            if key not in self._clickers:
                clicker = build_clicker(spec.clicker, segmenter)
                self._clickers[key] = clicker, describe_clicker(spec.clicker, clicker)
            clicker, rule = self._clickers[key]
        fields |= player_fields(model, rule)
        try:
            self._start.check(segmenter)
        except InputError as error:
            raise ForeignCallError("invalid_prompt", str(error)) from None
        return segmenter, clicker

    def _open_env(self, case: Case, model: Choice, segmenter: Segmenter, watch: Watch) -> gym.Env[Any, Any]:
        """Return the env of a case; the last one is kept."""
        synthetic = isinstance(case.data, SyntheticData)
        key = (case.data.name, model.label, "" if synthetic else case.image_id)
        if self._env is not None and self._env[0] == key:
            return self._env[1]
        self.close(watch)
        registered = env_spec(self._suite, case.data, case)
        kwargs = registered["kwargs"]
        if not synthetic:
            image = (case.data.name, case.whole_id)
            if self._volume is None or self._volume[0] != image:
                self._volume = image, read_volume(case)
            kwargs = kwargs | {"image": part_of(self._volume[1], case)}
        self._env = key, gym.make(registered["id"], disable_env_checker=True, segmenter=segmenter, **kwargs)
        return self._env[1]


def episode_fields(spec: EpisodeSpec, suite: Suite, run_id: str) -> Fields:
    """Return the fields of the records of an episode that are known before its segmenter and clicker are built."""
    case = spec.case
    renamed = {"source": spec.model.use} if spec.model.name else {}
    return {
        "run_id": run_id,
        "episode_id": spec.episode_id,
        "env_id": env_spec(suite, case.data)["id"],
        "data_id": case.data.name,
        "case_id": case.case_id,
        "image_id": case.image_id,
        "structure": str(spec.structure or "unknown"),
        "modality": "unknown",
        "seed": case.seed,
        "clicker_seed": spec.clicker_seed(suite),
        "max_clicks": suite.clicks,
        "clicker": spec.clicker.label,
        "protocol": spec.clicker.use,
        "protocol_hash": "",
        "clicker_params": spec.clicker.params,
        "oracle": False,
        "model": spec.model.label,
        "model_params": spec.model.params | renamed,
        "model_hash": None,
        "tol_mm": tolerance_of(suite, case.data),
        "device": "unknown",
    }


def player_fields(model: Mapping[str, Any], rule: Mapping[str, Any]) -> Fields:
    """Return the records' fields on a segmenter and a clicker, from their descriptions (see ``players``)."""
    return {
        "model_hash": model["weights_sha256"],
        "device": model["device"],
        "protocol_hash": rule["protocol_hash"],
        "oracle": rule["oracle"],
    }


def play_episode(
    env: gym.Env[Any, Any],
    clicker: Clicker,
    fixed: Mapping[str, Any],
    structure: int | None,
    watch: Watch | None = None,
) -> Iterator[StepRecord]:
    """Play one episode and yield a record for each click, and for a stop or a failure.

    A failure scores 0: the mask before the failed click does not count.

    Args:
        env: one that reveals the truth; only oracles get it.
        clicker: places the clicks.
        fixed: fields that all records of the episode share.
        structure: label id for ``env.reset``, or None for a random one.
        watch: called before and after each call of foreign code, or None.
    """
    known: Fields = {"structure": str(structure or "unknown"), "modality": "unknown", **fixed}
    step = 1
    try:
        for record in _steps(env, clicker, known, structure, watch or Watch()):
            step = record.step + 1
            yield record
    except MemoryError as error:  # in this project's own arithmetic: the segmenter left too little
        yield failure(known, step, "out_of_memory", error_line(error))


def _steps(
    env: gym.Env[Any, Any], clicker: Clicker, known: Fields, structure: int | None, watch: Watch
) -> Iterator[StepRecord]:
    """Play an episode and yield its records; see ``play_episode``."""
    # Begin: the environment draws the case, the clicker its random numbers.
    memory = PeakMemory(known["device"])
    try:
        options = None if structure is None else {"structure": structure}
        with foreign_call(watch, "segmenter", known, 1):
            observation, info = env.reset(seed=known["seed"], options=options)
        known |= _volume(observation, info) | _start(env, observation, info)
        with foreign_call(watch, "clicker", known, 1):
            clicker.reset(known["clicker_seed"])
            at_once = bool(type(clicker).at_once)
    except ForeignCallError as failed:
        yield failure(known, 1, failed.outcome, failed.error)
        return
    for step in range(1, known["max_clicks"] + 1):
        click: Fields = {}
        try:
            # Click: the clicker chooses, the segmenter answers.
            if at_once:
                prompt, price = _ask_for_all(clicker, known, observation, info, watch)
                click |= {**price, "prompt_zyxl": tuple((*c.zyx, int(c.positive)) for c in prompt) or None}
                with foreign_call(watch, "segmenter", known, step):
                    observation, reward, terminated, truncated, info = _step_together(env, prompt)
            else:
                action, price = _ask(clicker, known, step, observation, info, watch)
                click |= {**price, **_place(action, observation["image"].shape, observation["spacing"])}
                with foreign_call(watch, "segmenter", known, step):
                    observation, reward, terminated, truncated, info = env.step(action)
            # Answer: memory, failure that the environment caught, seconds.
            used = memory.since_last()
            if info["error"]:
                click |= used
                raise ForeignCallError(outcome_of_message(info["error"]), info["error"])
            answered = bool(click.get("prompt_zyxl")) if at_once else info["clicks_used"] == step
            answer = env.unwrapped.prediction if answered else None  # type: ignore[attr-defined]
            with foreign_call(watch, "segmenter", known, step):
                click |= _seconds(answer)
        except ForeignCallError as failed:
            yield failure(known | click, step, failed.outcome, failed.error)
            return
        # Record of all that, with the scores.
        yield StepRecord(
            **known,
            **click,
            **(_obeyed(observation) if answer is not None and click.keys() & {"point_zyx", "prompt_zyxl"} else {}),
            **_scores(observation, info, known["tol_mm"]),
            **used,
            step=step,
            outcome="no_error" if info["outcome"] == "stopped" and info["dice"] == 1 else info["outcome"],
            reward=float(reward),
            terminated=terminated,
            truncated=truncated,
        )
        if terminated or truncated:
            return


def _ask_for_all(
    clicker: Clicker, known: Fields, observation: Observation, info: Mapping[str, Any], watch: Watch
) -> tuple[list[Click], Fields]:
    """Return all clicks of a clicker whose clicks are one prompt, and their price as fields of a record.

    The clicker sees its clicks so far, and the mask before all of them.

    Raises:
        ForeignCallError: as ``_ask``.
    """
    prompt: list[Click] = []
    price: Fields = {"t_click_s": 0.0, "clicker_answers": 0}
    rows = observation["clicks"].copy()
    free = np.flatnonzero(rows[:, 0] < 0)
    while len(prompt) < known["max_clicks"]:
        action, own = _ask(clicker, known, 1, {**observation, "clicks": rows.copy()}, info, watch)
        price = {key: price[key] + own[key] for key in price}
        click = read_action(action, observation["image"].shape)
        if click is None:
            break
        rows[free[len(prompt)]] = (*click.zyx, click.positive)
        prompt.append(click)
    return prompt, price


def _step_together(
    env: gym.Env[Any, Any], prompt: list[Click]
) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
    """Give a prompt, then end the episode; without a click it ends immediately."""
    own: PromptEnv = env.unwrapped  # type: ignore[assignment]
    if not prompt:
        return own.step(stop_action())
    observation, reward, terminated, truncated, info = own.step_together(prompt)
    if terminated or truncated:
        return observation, reward, terminated, truncated, info
    answer = own.prediction
    observation, _, terminated, truncated, info = own.step(stop_action())
    assert own.prediction is answer, "a stop keeps the answer"
    return observation, reward, terminated, truncated, info


def _start(env: gym.Env[Any, Any], observation: Observation, info: Mapping[str, Any]) -> Fields:
    """Return the fields on the episode's start prompt."""
    own: PromptEnv = env.unwrapped  # type: ignore[assignment]
    if own.start.kind == "empty":
        return {}
    given: Fields = {}
    if own.start.kind == "click":
        given["click"] = observation["clicks"][0, :3].tolist()
    elif own.start.kind == "box":
        given["box"] = observation["box"].tolist()
    else:
        mask = observation["start_mask"].view(bool)
        given = {"mask_sha256": hashlib.sha256(mask.data).hexdigest(), "mask_dice": float(dice(mask, info["truth"]))}
    return {"start": str(own.start), "start_given": given, "start_score": float(info["dice"])}


def _ask(
    clicker: Clicker, known: Fields, step: int, observation: Observation, info: Mapping[str, Any], watch: Watch
) -> tuple[NDArray[np.int64], Fields]:
    """Return a clicker's checked action, and its price as fields of a record: seconds and answers of a segmenter.

    Raises:
        ForeignCallError: the clicker raised, or returned no action.
    """
    seen = info if known["oracle"] else {key: info[key] for key in info if key not in _FROM_THE_TRUTH}
    with foreign_call(watch, "clicker", known, step):
        asked, began = clicker.answers, time.perf_counter()
        given = clicker.act(observation, seen)
        price: Fields = {"t_click_s": time.perf_counter() - began, "clicker_answers": int(clicker.answers - asked)}
    with foreign_call(watch, "clicker", known, step):  # the action may be an object with code of its own
        try:
            click = read_action(given, observation["image"].shape)
        except InputError as error:
            raise ForeignCallError("invalid_prompt", error_line(error)) from None
    return (stop_action() if click is None else click_action(click)), price


def failure(fields: Mapping[str, Any], step: int, kind: str, error: str) -> StepRecord:
    """Return the record of a failed click, which ends the episode with a score of 0."""
    nothing: Fields = {"dice": 0.0, "iou": 0.0, "nsd": 0.0, "terminated": True, "truncated": False}
    return StepRecord(**fields, **nothing, step=step, outcome=kind, error=printable(error))


def _volume(observation: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> Fields:
    """Return the fields of records on the image and the structure."""
    return {
        "structure": info["structure"],
        "modality": info["modality"],
        "shape_zyx": observation["image"].shape,
        "spacing_zyx": tuple(observation["spacing"].tolist()),
        "truth_vox": int(np.count_nonzero(info["truth"])),
        "image_sha256": hashlib.sha256(observation["image"].data).hexdigest(),
    }


def _scores(observation: Mapping[str, NDArray[Any]], info: Mapping[str, Any], tolerance: float) -> Fields:
    """Return the scores of a mask as fields of a record; ``tolerance`` in mm."""
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


def _place(action: NDArray[np.int64], shape: tuple[int, int, int], spacing: NDArray[np.float32]) -> Fields:
    """Return the fields on the clicked voxel; none for a stop."""
    click = read_action(action, shape)
    if click is None:
        return {}
    return {
        "point_zyx": click.zyx,
        "point_mm": tuple(float(i * mm) for i, mm in zip(click.zyx, spacing.tolist(), strict=True)),
        "label": int(click.positive),
    }


def _obeyed(observation: Observation) -> Fields:
    """Return whether the mask has the label of the newest click, and the share of all clicks whose label it has."""
    mask = observation["mask"]
    clicks = observation["clicks"][observation["clicks"][:, 0] >= 0]
    obeyed = mask[tuple(clicks[:, :3].T)] == clicks[:, 3]
    return {"complied": bool(obeyed[-1]), "kept": float(obeyed.mean())}


def _seconds(answer: Prediction | None) -> Fields:
    """Return the seconds that a segmenter reported; none without an answer.

    Raises:
        ForeignCallError: they are not two finite numbers from 0 up.
    """
    if answer is None:
        return {}
    told = answer.seconds
    encode, predict = getattr(told, "encode", None), getattr(told, "predict", None)
    if not all(isinstance(value, int | float) and math.isfinite(value) and value >= 0 for value in (encode, predict)):
        raise ForeignCallError(
            "model_error",
            f"Prediction.seconds is {shown(told)}: expected Seconds(encode, predict), two finite numbers "
            "of seconds, 0 or more",
        )
    return {"t_encode_s": float(told.encode), "t_predict_s": float(told.predict)}
