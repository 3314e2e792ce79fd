"""Writes Hugging Face's evaluation results: for each segmenter a folder as in its model repository."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from synthfm_bench.analysis.aggregate import LeaderboardRow
from synthfm_bench.analysis.columns import NAUC, Column, dice_at
from synthfm_env.errors import InputError
from synthfm_env.files import write_text
from synthfm_env.segmenters.extras import import_extra

# As the Hub has it: two points or dashes in a row, and names that begin or end with one, are refused there too.
_DATASET_ID = re.compile(r"(?!.*(\.\.|--))\w([\w.-]*\w)?/\w([\w.-]*\w)?", re.ASCII)
_CODE = "https://github.com/synthfm/synthfm_env"


def check_dataset_id(dataset_id: str) -> None:
    """Raise InputError unless a text names a data set on the Hub.

    Example:
        >>> check_dataset_id("my-lab/synthfm-quick")
    """
    if _DATASET_ID.fullmatch(dataset_id) is None:
        raise InputError(f"--eval-results {dataset_id!r}: expected the benchmark's data set on the Hub, OWNER/NAME")


def write_eval_results(
    folder: Path, rows: Sequence[LeaderboardRow], *, dataset_id: str, suite: str, results_hash: str, date: str
) -> list[Path]:
    """Write ``eval_results/SEGMENTER/.eval_results/SUITE.yaml`` and a model card beside it, for every segmenter.

    A file has three entries for each group of data and clicker: Dice after the clicks that rows are ranked by, Dice
    after the last click, and nAUC; each the mean over cases. Upload a folder's content to the model's repository. The
    Hub then shows the figures on the model's page and on the board of the data set.

    Args:
        folder: of the run or of the report.
        rows: of the board.
        dataset_id: the benchmark's data set on the Hub, ``OWNER/NAME``.
        suite: that was played.
        results_hash: of the run's records.
        date: when it was played, ISO 8601.

    Returns:
        The YAML files, segmenters in alphabetical order.

    Raises:
        InputError: the extra ``hub`` is missing, or ``dataset_id`` has another form.
    """
    check_dataset_id(dataset_id)
    hub = import_extra("huggingface_hub", "hub", "--eval-results")
    yaml = import_extra("yaml", "hub", "--eval-results")
    entries: dict[str, list[Any]] = defaultdict(list)
    tasks = _distinct_slugs(_task_name(row) for row in rows)
    for row in rows:
        for key in dict.fromkeys((row.primary.key, f"dice@{row.budget}", NAUC.key)):
            task = f"{tasks[_task_name(row)]}-{key}"
            entry = _entry(hub, row, _column_of_key(row, key), dataset_id, task, results_hash, date)
            entries[row.segmenter] += [] if entry is None else [entry]
    paths, places = [], _distinct_slugs(entries)
    for segmenter, found in sorted(entries.items()):
        place = folder / "eval_results" / places[segmenter]
        (place / ".eval_results").mkdir(parents=True, exist_ok=True)
        path = place / ".eval_results" / f"{_slug(suite)}.yaml"
        write_text(path, yaml.safe_dump(hub.eval_result_entries_to_yaml(found), sort_keys=False, allow_unicode=True))
        write_text(place / "README.md", model_card(segmenter, suite, found))
        paths.append(path)
    return paths


def model_card(segmenter: str, suite: str, entries: Sequence[Any]) -> str:
    """Return a model card for the Hub, with the figures as a table.

    Args:
        segmenter: its name on the board.
        suite: that was played.
        entries: ``EvalResultEntry`` objects of this segmenter.

    Raises:
        InputError: the extra ``hub`` is missing.
    """
    hub = import_extra("huggingface_hub", "hub", "a model card")
    head = hub.ModelCardData(
        library_name="synthfm_env",
        pipeline_tag="mask-generation",
        tags=["interactive-segmentation", "medical-imaging"],
    )
    lines = [f"| `{entry.task_id}` | {entry.value:.3f} | {entry.notes} |" for entry in entries]
    table = "\n".join(["| task | value | notes |", "|---|---|---|", *lines])
    played = f"Played with [synthfm_env]({_CODE}) on the suite `{suite}`:"
    return f"---\n{head.to_yaml()}\n---\n\n# {segmenter}\n\n{played}\n\n{table}\n"


def _task_name(row: LeaderboardRow) -> str:
    return f"{row.data_id}-{row.clicker}"


def _column_of_key(row: LeaderboardRow, key: str) -> Column:
    return NAUC if key == NAUC.key else dice_at(int(key.partition("@")[2]))


def _entry(
    hub: Any, row: LeaderboardRow, column: Column, dataset_id: str, task_id: str, results_hash: str, date: str
) -> Any | None:
    """Return the entry of one figure of a row; None if no case has it."""
    estimate = row.estimate(column)
    if estimate is None:
        return None
    protocol = row.episodes[0].steps[0].protocol_hash[:12]
    interval = "" if estimate.low is None else f"95 % interval {estimate.low:.3f} to {estimate.high:.3f}, "
    notes = f"{row.clicker} [{protocol}], {len(row.cases)} cases, {interval}results {results_hash[:12]}"
    return hub.EvalResultEntry(
        dataset_id=dataset_id,
        task_id=task_id,
        value=round(estimate.mean, 6),
        date=date or None,
        notes=notes,
    )


def _distinct_slugs(names: Iterable[str]) -> dict[str, str]:
    """Return a file name for each name; a number tells apart those that differ in other characters or in case alone."""
    slugs: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(set(names)):
        slug, number = _slug(name), 1
        while slug.lower() in taken:
            number += 1
            slug = f"{_slug(name)}-{number}"
        slugs[name] = slug
        taken.add(slug.lower())
    return slugs


def _slug(text: str) -> str:
    """Return a text as a file name: letters, digits, points, at signs and dashes."""
    return re.sub(r"[^\w.@-]+", "-", text).strip("-.") or "unnamed"
