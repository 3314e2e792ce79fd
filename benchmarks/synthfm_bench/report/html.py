"""Writes ``report.html``, one file with all its contents, which opens without a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from synthfm_bench.analysis.aggregate import LeaderboardRow, by_group, make_board
from synthfm_bench.analysis.comparisons import verdict
from synthfm_bench.report.cells import title
from synthfm_bench.report.charts import colours, curves
from synthfm_bench.report.files import write_tables
from synthfm_bench.report.gallery import MOST, Card, make_gallery
from synthfm_bench.report.html_tables import (
    MOST_FAILURES,
    board_table,
    failures_table,
    kind_of_structure,
    pairs_table,
    split_table,
)
from synthfm_bench.report.markdown import METHODS
from synthfm_bench.report.reproduction import reproduction_steps
from synthfm_bench.results.merge import MergedRuns, join_runs
from synthfm_bench.results.parquet import write_parquet
from synthfm_bench.results.run_directory import new_folder
from synthfm_bench.results.step_record import results_hash
from synthfm_env.errors import InputError, UserFacingError
from synthfm_env.files import write_text

_TEMPLATES = Path(__file__).parent / "templates"
_NEEDED = ("jinja2", "plotly", "pyarrow", "tomli_w")
_FEW_CASES = 10


def missing_extra() -> str | None:
    """Return a line that tells how to install what a report needs; None if all of it is installed."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if not missing:
        return None
    return f"report.html and steps.parquet need {', '.join(missing)}: pip install 'synthfm_env[report]'"


@dataclass(frozen=True)
class Report:
    """The result of ``synthfm report``.

    Attributes:
        folder: of the tables and the page.
        rows: the board.
        notes: what a reader should know about the joint.
        damage: what is wrong with the records, a line each.
        page: ``report.html``; None if the extra ``report`` is missing.
        suite: its name.
        started: when the first of the runs was, ISO 8601.
        results_hash: of all records.
    """

    folder: Path
    rows: list[LeaderboardRow]
    notes: tuple[str, ...]
    page: Path | None
    damage: tuple[str, ...] = ()
    suite: str = ""
    started: str = ""
    results_hash: str = ""


def report(folders: Sequence[Path], out: Path | None, console: Console, *, trusted: bool = False) -> Report:
    """Write board, pairs and report of one run into its own folder, or of several into a new one.

    Args:
        folders: of the runs.
        out: a new folder for them; None for the run's own, or ``runs/<suite>-joined-<UTC time>``.
        console: where progress is shown.
        trusted: whether code and files that the runs name may be imported and opened, to draw masks.

    Raises:
        InputError: a folder holds no run or no complete episode, runs cannot be joined, or the new folder cannot be
            made.
    """
    with console.status("reading the records"):
        joined = join_runs(folders)
        if not joined.episodes:
            raise InputError(
                f"{folders[0]}: contains no complete episode; finish its run by `synthfm bench ... --resume`"
            )
        suite = joined.runs[0].suite
        rows = make_board(joined.episodes, suite.targets)
    if out is None and len(joined.runs) == 1:
        folder = joined.runs[0].folder
    else:
        folder = new_folder(f"{suite.name}-joined", out, datetime.now(UTC))
    try:
        with console.status("computing intervals and tests"):
            write_tables(folder, suite.name, _digest(joined), rows)
        page = None if missing_extra() else write_report(folder, joined, rows, console, trusted=trusted)
    except OSError as error:
        raise UserFacingError(f"{folder}: the report cannot be written ({error.strerror or error})") from error
    return Report(
        folder,
        rows,
        joined.notes,
        page,
        joined.damage,
        suite=suite.name,
        started=str(joined.runs[0].about.get("started", "")),
        results_hash=_digest(joined),
    )


def write_report(
    folder: Path, joined: MergedRuns, rows: Sequence[LeaderboardRow], console: Console, *, trusted: bool = False
) -> Path:
    """Write ``report.html`` and ``steps.parquet`` into a folder, and return the report's path.

    Args:
        folder: exists.
        joined: one run, or several.
        rows: their board.
        console: where the progress of drawing is shown.
        trusted: whether code and files that the runs name may be imported and opened.

    Raises:
        InputError: the extra ``report`` is missing.
    """
    if missing := missing_extra():
        raise InputError(missing)
    write_parquet(folder / "steps.parquet", joined.episodes)
    cards = make_gallery(rows, joined.runs, console, trusted=trusted)
    path = folder / "report.html"
    write_text(path, render(joined, rows, cards))
    return path


def render(joined: MergedRuns, rows: Sequence[LeaderboardRow], cards: Sequence[Card]) -> str:
    """Return the report as HTML."""
    import plotly
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    plotly_js = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    return environment.get_template("report.html.j2").render(
        **_content(joined, rows, cards),
        css=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        js=(_TEMPLATES / "report.js").read_text(encoding="utf-8"),
        plotly_js=plotly_js.read_text(encoding="utf-8"),
    )


def _content(joined: MergedRuns, rows: Sequence[LeaderboardRow], cards: Sequence[Card]) -> dict[str, Any]:
    """Return the values that the template ``report.html.j2`` shows."""
    about = joined.runs[0].about
    colour = colours(rows)
    groups = [
        {
            "title": title(name, group),
            "verdict": verdict(group),
            "board": board_table(group),
            "pairs": pairs_table(group),
            "primary": group[0].primary.name,
            "few": len(group[0].cases) if 1 < len(group[0].cases) < _FEW_CASES else 0,
            "cards": [card for card in cards if card.episode.data_id == name],
        }
        for name, group in by_group(rows).items()
    ]
    failed = sum(1 for episode in joined.episodes if episode.failure)
    return {
        "suite": joined.runs[0].suite.name,
        "description": joined.runs[0].suite.description,
        "day": str(about.get("started", ""))[:10],
        "digest": _digest(joined),
        "version": metadata.version("synthfm_env"),
        "notes": [
            *joined.damage,
            *joined.notes,
            *(str(note) for run in joined.runs for note in run.about.get("notes", [])),
        ],
        "groups": groups,
        "charts": [curves(group, colour) for group in by_group(rows).values()],
        "structures": split_table(rows, "structure", kind_of_structure),
        "modalities": split_table(rows, "modality", lambda episode: episode.modality),
        "failures": failures_table(rows),
        "failed": failed,
        "most_failures": MOST_FAILURES,
        "most_cards": MOST,
        "episodes": len(joined.episodes),
        "cases": len({(e.data_id, e.case_id) for e in joined.episodes}),
        "methods": METHODS.format(primary=" or ".join(dict.fromkeys(row.primary.name for row in rows))),
        "reproductions": [reproduction_steps(run) for run in joined.runs],
    }


def _digest(joined: MergedRuns) -> str:
    """Return the results hash of all merged episodes."""
    return results_hash(record for episode in joined.episodes for record in episode.steps)
