"""Runs of one suite as one board: runs that differ in what was played are refused."""

import os
import shlex
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from synthfm_bench.results.episode_result import EpisodeResult
from synthfm_bench.results.run_directory import Run, read_about
from synthfm_bench.results.step_record import NOT_RESULTS, StepRecord, results_hash
from synthfm_bench.results.steps_file import StepsFile
from synthfm_env.errors import InputError

_SHOWN = 5
_PLAYERS = ("segmenters", "clickers")  # runs of one suite may differ in these
_PLACES = ("path", "image", "label")  # data sets are elsewhere on other machines; the images' hashes identify them


@dataclass(frozen=True, eq=False)
class MergedRuns:
    """Runs that share a board.

    Attributes:
        runs: as they were given.
        episodes: of all of them, each once.
        notes: what a reader should know about the joint.
        damage: what is wrong with the records of the runs, a line each.
    """

    runs: tuple[Run, ...]
    episodes: tuple[EpisodeResult, ...]
    notes: tuple[str, ...]
    damage: tuple[str, ...] = ()


def join_runs(folders: Sequence[Path]) -> MergedRuns:
    """Read runs of one suite and join them.

    A segmenter that has one name but different weights in two runs gets the start of their hash behind its name. An
    episode that two runs hold counts once, if both have the same results.

    Raises:
        InputError: a folder holds no run; runs differ in their suite, budget, seed or data, in the hash of a click
            rule of the same name, in an image, or in the results of the same episode.
    """
    # Runs must agree in whatever makes their figures comparable.
    runs = [_read(folder) for folder in {folder.resolve(): folder for folder in folders}.values()]
    _check_suites(runs)
    _check_budgets(runs)
    _check_one_value(runs, "the click rule", lambda step: (step.clicker,), lambda step: step.protocol_hash)
    _check_one_value(
        runs, "the image", lambda step: (step.data_id, step.image_id or step.case_id), lambda step: step.image_sha256
    )
    # Episodes of all runs, each once.
    renamed = _distinct_segmenters(runs)
    notes = [f"{run.folder.name} is not finished: {_progress(run)}." for run in runs if _progress(run)]
    episodes: dict[str, tuple[Run, EpisodeResult]] = {}
    twice = 0
    for run, found in zip(runs, renamed, strict=True):
        for episode in found:
            if episode.episode_id not in episodes:
                episodes[episode.episode_id] = run, episode
                continue
            other, first = episodes[episode.episode_id]
            if _results(first) != _results(episode):
                raise InputError(
                    f"{other.folder} and {run.folder} hold different results of episode {episode.episode_id}: one of "
                    "them did not reproduce; `synthfm verify RUN` reports which"
                )
            twice += 1
    if twice:
        notes.append(f"{twice} episodes are in more than one run, with the same results, and count once.")
    damage = tuple(line for run in runs for line in run.damage)
    return MergedRuns(tuple(runs), tuple(episode for _, episode in episodes.values()), tuple(notes), damage)


def _read(folder: Path) -> Run:
    """Read a run: the episodes that are complete, and what is wrong with the others."""
    about = read_about(folder)
    path = folder / "steps.jsonl"
    if not os.path.exists(path):
        raise InputError(
            f"{folder}: holds no records (steps.jsonl); `synthfm bench ... --resume` goes on with that run"
        )
    with StepsFile(path, read_only=True) as file:
        run = Run(folder, about, tuple(file.episodes.values()))
        bad, incomplete = file.bad_lines, file.incomplete
    # What is wrong with the records, a line each.
    damage = [f"{line}; it is left out" for line in bad[:_SHOWN]]
    if len(bad) > _SHOWN:
        damage.append(f"{path}: {len(bad) - _SHOWN} more lines are no step records")
    finished = about.get("status") == "finished"
    if finished and incomplete:
        damage.append(
            f"{path}: {len(incomplete)} episodes lack steps or contain them twice, for example {incomplete[0]}"
        )
    if damage:
        again = shlex.join(["synthfm", "bench", run.suite.name, "--resume", "--out", str(folder)])
        damage.append(f"{folder}: repaired by: {again}")
    elif finished and about.get("results_hash") not in (None, results_hash(run.records)):
        damage.append(
            f"{folder}: its records do not give the results hash in run.json ({about['results_hash'][:12]}): they were "
            "changed since the run finished"
        )
    return replace(run, damage=tuple(damage))


def _check_budgets(runs: Sequence[Run]) -> None:
    """Raise InputError if an episode has another click budget than its suite."""
    for run in runs:
        for episode in run.episodes:
            if episode.max_clicks != run.suite.clicks:
                raise InputError(
                    f"{run.folder}: episode {episode.episode_id} has a budget of {episode.max_clicks} clicks, its "
                    f"suite one of {run.suite.clicks}; the file was changed"
                )


def _check_suites(runs: Sequence[Run]) -> None:
    """Raise InputError if runs differ in what their suites play."""
    first, *others = runs
    for other in others:
        one, two = _played(first), _played(other)
        differing = [key for key in one if one.get(key) != two.get(key)] + [key for key in two if key not in one]
        if differing:
            key = differing[0]
            raise InputError(
                f"{first.folder} and {other.folder} were made by different suites: their {key} differ, "
                f"{_short(one.get(key))} and {_short(two.get(key))}; only runs of the same suite share a board"
            )


def _played(run: Run) -> dict[str, Any]:
    """Return the part of a suite that defines the cases and the way they are played."""
    suite = run.suite.model_dump(mode="json")
    groups = [{k: v for k, v in group.items() if k not in _PLACES} for group in suite["data"]]
    left_out = {*_PLAYERS, "description", "time_limit_s", "memory_limit_mib", "data"}
    return {k: v for k, v in suite.items() if k not in left_out} | {f"data {g['name']}": g for g in groups}


def _check_one_value(
    runs: Sequence[Run],
    what: str,
    key: Callable[[StepRecord], tuple[str, ...]],
    value: Callable[[StepRecord], str | None],
) -> None:
    """Raise InputError if two runs have different values of the same name."""
    known: dict[tuple[str, ...], tuple[Run, str]] = {}
    differing: dict[str, tuple[str, str]] = {}
    for run in runs:
        for episode in run.episodes:
            step = episode.steps[-1]
            name, found = key(step), value(step)
            if not found:  # an episode that failed before it was known
                continue
            other, first = known.setdefault(name, (run, found))
            if first != found:
                differing.setdefault(
                    f"{what} {'/'.join(name)}", (f"{first[:12]} in {other.folder}", f"{found[:12]} in {run.folder}")
                )
    if differing:
        listed = "; ".join(f"{name} has hash {one}, but {two}" for name, (one, two) in list(differing.items())[:5])
        raise InputError(f"these runs do not share a board: {listed}; play one of them again, or leave it out")


def _distinct_segmenters(runs: Sequence[Run]) -> list[list[EpisodeResult]]:
    """Return the episodes of each run, with segmenters renamed that have one name for several things."""
    kinds: dict[str, set[tuple[str | None, str]]] = defaultdict(set)
    for run in runs:
        for episode in run.episodes:
            kinds[episode.segmenter].add(_kind(episode.steps[0]))
    return [
        [_renamed(episode, run) if len(kinds[episode.segmenter]) > 1 else episode for episode in run.episodes]
        for run in runs
    ]


def _kind(step: StepRecord) -> tuple[str | None, str]:
    return step.model_hash, repr(sorted(step.model_params.items()))


def _renamed(episode: EpisodeResult, run: Run) -> EpisodeResult:
    old = episode.segmenter
    weights = episode.steps[0].model_hash
    name = f"{old} ({weights[:6] if weights else run.folder.name})"
    episode_id = episode.episode_id.replace(f"/{old}/", f"/{name}/")
    return EpisodeResult(tuple(replace(step, model=name, episode_id=episode_id) for step in episode.steps))


def _progress(run: Run) -> str:
    planned = run.about.get("episodes", len(run.episodes))
    return "" if len(run.episodes) == planned else f"{len(run.episodes)} of {planned} episodes"


def _results(episode: EpisodeResult) -> list[dict[str, Any]]:
    return [{k: v for k, v in asdict(step).items() if k not in NOT_RESULTS} for step in episode.steps]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
