"""Plays a run's episodes again and compares every field of their records, but for ``step_record.NOT_RESULTS``."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from synthfm_bench.execution.local_pool import Pool
from synthfm_bench.execution.progress import progress
from synthfm_bench.execution.run import play_plan
from synthfm_bench.execution.trust import check_trusted
from synthfm_bench.plan import Plan, evenly, make_plan
from synthfm_bench.play.replay import replay_people
from synthfm_bench.results.episode_result import EpisodeResult
from synthfm_bench.results.provenance import versions
from synthfm_bench.results.run_directory import Run, read_run
from synthfm_bench.results.step_record import NOT_RESULTS, StepRecord, checked, results_hash
from synthfm_env.errors import InputError


@dataclass(frozen=True)
class Difference:
    """The first difference of a replayed episode.

    Attributes:
        episode_id: which one.
        step: of its first record that differs.
        fields: what differs there: recorded and replayed.
        dice: greatest difference in Dice over the episode's curve.
    """

    episode_id: str
    step: int
    fields: dict[str, tuple[Any, Any]]
    dice: float

    def __str__(self) -> str:
        # The first field that differs is nearest to the cause: an image that differs explains its mask.
        shown = [f"{name} {before!r} -> {after!r}" for name, (before, after) in list(self.fields.items())[:3]]
        more = f", and {len(self.fields) - 3} fields more" if len(self.fields) > 3 else ""
        return f"{self.episode_id}, step {self.step}: {'; '.join(shown)}{more}; Dice differs by up to {self.dice:.2g}"


@dataclass(frozen=True)
class Verdict:
    """The result of a replay.

    Attributes:
        replayed: how many episodes were played again.
        episodes: how many the run has.
        differences: those that differ.
        tampered: the recorded ``results_hash``, if the records do not give it; else None.
        changed: versions, weights and commits that differ from the run's.
    """

    replayed: int
    episodes: int
    differences: tuple[Difference, ...]
    tampered: str | None
    changed: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether every episode came out the same, and the records are those that were hashed."""
        return not self.differences and self.tampered is None


def verify(folder: Path, *, episodes: int | None, workers: int, console: Console, trusted: bool = False) -> Verdict:
    """Replay a run.

    Args:
        folder: of the run.
        episodes: how many to replay, evenly chosen; None for all.
        workers: processes to play in.
        console: where progress is shown.
        trusted: whether code and files that ``run.json`` names may be imported and opened.

    Raises:
        InputError: there is no complete run, it names code or files and is not trusted, or its data or models are not
            on this machine.
    """
    # Read the run, and plan its suite on this machine.
    run = read_run(folder)
    if not trusted:
        check_trusted(run.suite, folder, "synthfm verify")
    if not run.episodes:
        raise InputError(
            f"{folder}: contains no episode to verify; finish its run first, by `synthfm bench ... --resume`"
        )
    plan = make_plan(run.suite)
    chosen = evenly(run.episodes, episodes)
    known = {spec.episode_id for spec in plan.specs}
    unknown = [episode.episode_id for episode in chosen if episode.episode_id not in known]
    if unknown:
        raise InputError(
            f"{folder}: {len(unknown)} of its episodes cannot be played here, for example {unknown[0]}: {_why(plan)}"
        )
    # Play the chosen episodes again, those of people from their clicks.
    suite, run_id = run.suite, str(run.about.get("run_id", ""))
    replayed = replay_people(suite, run_id, plan, chosen)
    left = plan.without(known - {episode.episode_id for episode in chosen} | replayed.keys())
    pool = Pool(suite, run_id, min(workers, max(1, len(left.jobs))))
    with closing(pool), progress(len(left.specs), suite.clicks, console) as advance:
        played = play_plan(left, suite, run_id, pool, advance)
        replayed |= {records[0].episode_id: EpisodeResult(tuple(map(checked, records))) for records in played}
    compared = [_compare(episode, replayed[episode.episode_id]) for episode in chosen]
    differences = [difference for difference in compared if difference is not None]
    return Verdict(len(chosen), len(run.episodes), tuple(differences), _tampered(run), tuple(_changed(run, plan)))


def report_lines(verdict: Verdict, shown: int = 5) -> Iterator[str]:
    """Yield the lines of a verdict's report."""
    same = verdict.replayed - len(verdict.differences)
    which = (
        f"{verdict.replayed} of {verdict.episodes} episodes replayed" if verdict.replayed < verdict.episodes else "all"
    )
    result = "equal" if verdict.equal else "NOT equal"
    yield f"{result}: {same} of {verdict.replayed} episodes came out the same ({which})"
    if verdict.tampered is not None:
        yield f"the records do not give the results hash in run.json ({verdict.tampered}): they were changed since"
    yield from map(str, verdict.differences[:shown])
    if len(verdict.differences) > shown:
        yield f"... and {len(verdict.differences) - shown} episodes more"
    if not verdict.equal and verdict.changed:
        yield f"since the run: {'; '.join(verdict.changed)}"


def _compare(before: EpisodeResult, after: EpisodeResult) -> Difference | None:
    """Return the first difference between an episode and its replay."""
    for index in range(max(len(before.steps), len(after.steps))):
        old, new = _fields(before.steps, index), _fields(after.steps, index)
        differ = {name: (old.get(name), new.get(name)) for name in (old or new) if old.get(name) != new.get(name)}
        if differ:
            gap = float(np.abs(before.dice - after.dice).max())
            return Difference(before.episode_id, index + 1, differ, gap)
    return None


def _fields(steps: Sequence[StepRecord], index: int) -> dict[str, Any]:
    """Return the compared fields of a step; none after the end of the episode."""
    if index >= len(steps):
        return {}
    return {name: value for name, value in asdict(steps[index]).items() if name not in NOT_RESULTS}


def _tampered(run: Run) -> str | None:
    """Return the recorded results hash if the records give another one."""
    noted = run.about.get("results_hash")
    return None if noted in (None, results_hash(run.records)) else str(noted)


def _changed(run: Run, plan: Plan) -> Iterator[str]:
    """Yield the versions, weights and protocols that differ from the run's."""
    before: dict[str, Any] = run.about.get("versions", {})
    now = versions()
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            yield f"{name} {before.get(name)} -> {now.get(name)}"
    for kind, planned, key in (
        ("segmenters", plan.models, "weights_sha256"),
        ("clickers", plan.clickers, "protocol_hash"),
    ):
        for name, about in planned.items():
            recorded = run.about.get(kind, {}).get(name, {}).get(key)
            if recorded != about[key]:
                yield f"{name}: {key} {recorded} -> {about[key]}"


def _why(plan: Plan) -> str:
    """Return why a plan lacks episodes that the run has."""
    return "; ".join(plan.notes) or "its suite gives other ones now"
