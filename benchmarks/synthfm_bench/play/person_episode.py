"""Plays one episode with a person's clicks, and keeps its step records."""

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from synthfm_agents import make_clicker
from synthfm_bench.plan import EpisodeSpec, env_spec, open_volume
from synthfm_bench.players import build_segmenter
from synthfm_bench.results.episode_result import EpisodeResult
from synthfm_bench.results.provenance import answers_sha256, device_of, protocol_hash, weights_sha256
from synthfm_bench.results.step_record import StepRecord
from synthfm_bench.suite import Suite, SyntheticData, tolerance_of
from synthfm_env.envs.actions import click_action, stop_action
from synthfm_env.envs.prompt_env import PromptEnv
from synthfm_env.envs.volume_env import VolumeEnv
from synthfm_env.metrics import Surfaces, iou
from synthfm_env.prompts import Click
from synthfm_env.segmenters import Segmenter
from synthfm_env.volumes import Volume


@dataclass(frozen=True, slots=True)
class Thought:
    """Seconds before a click.

    Attributes:
        seconds: from seeing the mask to the click, pauses left out.
        pause: pauses.
    """

    seconds: float = 0.0
    pause: float = 0.0


class PersonEpisode:
    """Plays one episode with clicks that come from outside, one record a step.

    Args:
        env: reveals the truth.
        fields: those of the records that the whole episode shares.
        structure: label id, or None to let the env draw it from the seed.

    Attributes:
        records: of the steps so far; surface scores are filled in when the episode ends.
        image: uint8 (D, H, W), axes (z, y, x), as the segmenter was given it.
        mask: bool (D, H, W), the segmenter's answer so far.
        truth: bool (D, H, W).
        spacing: (z, y, x) in mm.
        structure: its name, or its label id as text.
    """

    def __init__(self, env: gym.Env[Any, Any], fields: dict[str, Any], structure: int | None) -> None:
        assert isinstance(env.unwrapped, PromptEnv), "an environment of this project"
        self._env = env
        self._prompt_env = env.unwrapped
        options = None if structure is None else {"structure": structure}
        observation, info = env.reset(seed=fields["seed"], options=options)
        z, y, x = (float(mm) for mm in observation["spacing"])
        self.records: list[StepRecord] = []
        self._masks: list[NDArray[np.bool_] | None] = []
        self.image: NDArray[np.uint8] = observation["image"]
        self.mask: NDArray[np.bool_] = observation["mask"].view(bool)
        self.truth: NDArray[np.bool_] = info["truth"]
        self.spacing = (z, y, x)
        self.structure: str = info["structure"]
        self._fields = fields | {
            "structure": self.structure,
            "modality": info["modality"],
            "shape_zyx": self.image.shape,
            "spacing_zyx": self.spacing,
            "truth_vox": int(np.count_nonzero(self.truth)),
            "image_sha256": hashlib.sha256(self.image.data).hexdigest(),
        }

    @property
    def ended(self) -> bool:
        """Whether no further click is taken."""
        return bool(self.records) and self.records[-1].ended

    def click(self, click: Click, thought: Thought) -> StepRecord:
        """Place a click.

        Raises:
            InputError: it is outside the image.
        """
        click.check_inside(self.image.shape)
        return self._record(self._env.step(click_action(click)), thought, click)

    def undo(self, thought: Thought) -> StepRecord:
        """Take back the newest click; that counts as a click."""
        return self._record(self._prompt_env.undo(), thought, undone=True)

    def stop(self, thought: Thought) -> StepRecord:
        """End the episode."""
        return self._record(self._env.step(stop_action()), thought)

    def _record(
        self,
        step: tuple[Any, Any, bool, bool, dict[str, Any]],
        thought: Thought,
        click: Click | None = None,
        undone: bool = False,
    ) -> StepRecord:
        """Return the record of a step."""
        observation, reward, terminated, truncated, info = step
        self.mask = observation["mask"].view(bool)
        failed = bool(info["error"])
        answer = None if failed or (click is None and not undone) else self._prompt_env.prediction
        outcome = "no_error" if info["outcome"] == "stopped" and info["dice"] == 1 else info["outcome"]
        record = StepRecord(
            **self._fields,
            **({} if click is None else self._place(click, observation, failed)),
            **({"dice": 0.0, "iou": 0.0, "nsd": 0.0} if failed else self._scores(float(info["dice"]))),
            step=len(self.records) + 1,
            undone=undone,
            outcome=outcome,
            error=info["error"] or None,
            reward=float(reward),
            terminated=terminated,
            truncated=truncated,
            t_click_s=thought.seconds,
            t_pause_s=thought.pause,
            t_encode_s=answer.seconds.encode if answer else None,
            t_predict_s=answer.seconds.predict if answer else None,
        )
        self.records.append(record)
        self._masks.append(None if failed else self.mask)
        if record.ended:
            # Surfaces take longer than most answers: a person would wait for them at every click.
            self.records = [self._with_surfaces(*step) for step in zip(self.records, self._masks, strict=True)]
        return self.records[-1]

    def _with_surfaces(self, record: StepRecord, mask: NDArray[np.bool_] | None) -> StepRecord:
        if mask is None:
            return record
        surfaces = Surfaces.between(mask, self.truth, self.spacing)
        hd95 = surfaces.hausdorff(95)
        return replace(record, nsd=surfaces.nsd(record.tol_mm), hd95_mm=hd95 if math.isfinite(hd95) else None)

    def _place(self, click: Click, observation: dict[str, Any], failed: bool) -> dict[str, Any]:
        """Return the fields of a record on the newest click, and on which clicks the mask obeys."""
        clicks = observation["clicks"][observation["clicks"][:, 0] >= 0]
        obeyed = self.mask[tuple(clicks[:, :3].T)] == clicks[:, 3].astype(bool)
        return {
            "point_zyx": click.zyx,
            "point_mm": tuple(float(i * mm) for i, mm in zip(click.zyx, self.spacing, strict=True)),
            "label": int(click.positive),
            "complied": None if failed else bool(obeyed[-1]),
            "kept": None if failed else float(obeyed.mean()),
        }

    def _scores(self, dice: float) -> dict[str, Any]:
        """Return the scores of the mask; those of surfaces are computed when the episode ends."""
        return {
            "dice": dice,
            "iou": float(iou(self.mask, self.truth)),
            "nsd": 0.0,
            "fn_vox": int(np.count_nonzero(self.truth & ~self.mask)),
            "fp_vox": int(np.count_nonzero(self.mask & ~self.truth)),
            "mask_sha256": hashlib.sha256(self.mask.data).hexdigest(),
        }


class PersonPlayer:
    """Opens episodes of a suite for people; the volume and the env of the last one are kept for the next.

    Args:
        suite: what is played.
        run_id: stands in every record.
        segmenter: of the suite's first choice; None builds it when it is needed.
    """

    def __init__(self, suite: Suite, run_id: str, segmenter: Segmenter | None = None) -> None:
        self._suite = suite
        self._run_id = run_id
        self._segmenters = {} if segmenter is None else {suite.segmenters[0].label: segmenter}
        self._env: tuple[tuple[str, str, str], gym.Env[Any, Any]] | None = None

    def open(self, spec: EpisodeSpec) -> PersonEpisode:
        """Begin an episode.

        Raises:
            InputError: its volume cannot be read, or its segmenter not be built.
        """
        segmenter = self.segmenter(spec)
        return PersonEpisode(self._open_env(spec, segmenter), self._fields(spec, segmenter), spec.structure)

    def segmenter(self, spec: EpisodeSpec) -> Segmenter:
        """Return the segmenter of an episode."""
        label = spec.model.label
        if label not in self._segmenters:
            self._segmenters[label] = build_segmenter(spec.model)
        return self._segmenters[label]

    @property
    def env(self) -> gym.Env[Any, Any]:
        """The env of the episode opened last."""
        assert self._env is not None, "an episode was opened"
        return self._env[1]

    def volume(self, episode: PersonEpisode) -> Volume:
        """Return the volume that an episode is played on; a synthetic one in the 8 bits that the segmenter gets."""
        env = self.env.unwrapped
        if isinstance(env, VolumeEnv):
            return env.volume
        return Volume(episode.image.astype(np.float32), spacing=episode.spacing)

    def replay(self, spec: EpisodeSpec, recorded: EpisodeResult) -> EpisodeResult:
        """Play a person's recorded steps again, and return what came of them now."""
        episode = self.open(spec)
        for step in recorded.steps:
            thought = Thought(step.t_click_s or 0.0, step.t_pause_s or 0.0)
            if step.undone:
                episode.undo(thought)
            elif step.point_zyx is None:
                episode.stop(thought)
            else:
                episode.click(Click(step.point_zyx, bool(step.label)), thought)
            if episode.ended:
                break
        return EpisodeResult(tuple(episode.records))

    def close(self) -> None:
        """Free the env that is kept."""
        if self._env is not None:
            self._env[1].close()
            self._env = None

    def _open_env(self, spec: EpisodeSpec, segmenter: Segmenter) -> gym.Env[Any, Any]:
        """Return the env of an episode; the last one is kept."""
        case = spec.case
        synthetic = isinstance(case.data, SyntheticData)
        key = (case.data.name, "" if synthetic else case.image_id, spec.model.label)
        if self._env is not None and self._env[0] == key:
            return self._env[1]
        self.close()
        registered = env_spec(self._suite, case.data, case)
        kwargs = registered["kwargs"]
        if not synthetic:
            kwargs = kwargs | {"image": open_volume(case)}
        self._env = key, gym.make(registered["id"], disable_env_checker=True, segmenter=segmenter, **kwargs)
        return self._env[1]

    def _fields(self, spec: EpisodeSpec, segmenter: Segmenter) -> dict[str, Any]:
        """Return the fields that all records of an episode share."""
        case, clicker = spec.case, spec.clicker
        person = make_clicker(clicker.use, **clicker.params)
        return {
            "run_id": self._run_id,
            "episode_id": spec.episode_id,
            "env_id": env_spec(self._suite, case.data)["id"],
            "data_id": case.data.name,
            "case_id": case.case_id,
            "image_id": case.image_id,
            "seed": case.seed,
            "clicker_seed": spec.clicker_seed(self._suite),
            "max_clicks": self._suite.clicks,
            "clicker": clicker.label,
            "protocol": clicker.use,
            "protocol_hash": protocol_hash(person, clicker.use, clicker.params),
            "clicker_params": clicker.params,
            "oracle": person.oracle,
            "model": spec.model.label,
            "model_params": spec.model.params | ({"source": spec.model.use} if spec.model.name else {}),
            "model_hash": weights_sha256(segmenter) or answers_sha256(segmenter, spec.model.use),
            "tol_mm": tolerance_of(self._suite, case.data),
            "device": device_of(segmenter),
        }
