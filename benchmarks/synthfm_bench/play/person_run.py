"""Keeps a person's run: a folder of records that merges with those of simulated clickers."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from synthfm_agents.person import PREFIX, make_person
from synthfm_bench.analysis.aggregate import make_board
from synthfm_bench.execution.resume import check_same
from synthfm_bench.execution.run import Finished, about_run, end_of_run, failures_of
from synthfm_bench.plan import Plan, make_plan
from synthfm_bench.report.files import write_tables
from synthfm_bench.results.episode_result import EpisodeResult
from synthfm_bench.results.run_directory import new_folder, read_run
from synthfm_bench.results.step_record import results_hash
from synthfm_bench.results.steps_file import StepsFile
from synthfm_bench.suite import Choice, Suite, SyntheticData, parse_suite
from synthfm_env.files import write_json, write_text


def suite_of_person(suite: Suite, alias: str, *, segmenter: str | Choice, practice: bool) -> Suite:
    """Return a suite played by one person with one segmenter.

    In practice the target's outline is shown. In a study it is shown by name; synthetic structures have none, so that
    a suite with synthetic volumes shows each outline until the first click.

    Raises:
        InputError: a bad alias or segmenter.
    """
    synthetic = any(isinstance(data, SyntheticData) for data in suite.data)
    target = "outline" if practice else "glimpse" if synthetic else "name"
    make_person(PREFIX + alias, target)
    fields: dict[str, Any] = {key: getattr(suite, key) for key in Suite.model_fields}
    person = {"use": PREFIX + alias, "params": {"target": target}}
    return parse_suite(fields | {"clickers": (person,), "segmenters": (segmenter,)}, suite.name)


@dataclass(frozen=True, slots=True)
class PersonRun:
    """A run under way.

    Attributes:
        suite: what is played.
        plan: its episodes.
        folder: of the records.
        about: ``run.json``.
    """

    suite: Suite
    plan: Plan
    folder: Path
    about: dict[str, Any]

    @classmethod
    def open(cls, suite: Suite, out: Path | None) -> "PersonRun":
        """Begin a run in a new folder, or resume the run that ``out`` holds.

        Raises:
            InputError: the folder holds another run or other files, or a volume cannot be read.
        """
        plan = make_plan(suite)
        if out is not None and (out / "run.json").is_file():
            return cls(suite, plan, out, check_same(out, suite, plan))
        started = datetime.now(UTC)
        folder = new_folder(f"{suite.name}-{suite.clickers[0].label.removeprefix(PREFIX)}", out, started)
        about = about_run(suite, plan, started, workers=1)
        about["run_id"] = f"{about['run_id']}-{suite.clickers[0].label.removeprefix(PREFIX)}"
        write_json(folder / "run.json", about)
        return cls(suite, plan, folder, about)

    @property
    def episodes(self) -> dict[str, EpisodeResult]:
        """The episodes played so far, by their ids."""
        with StepsFile(self.folder / "steps.jsonl", read_only=True) as file:
            return file.episodes

    def append(self, episode: EpisodeResult) -> None:
        """Keep an episode.

        Raises:
            OSError: the folder takes no more.
        """
        with StepsFile(self.folder / "steps.jsonl") as file:
            file.append(episode.steps)

    def finish(self) -> Finished:
        """Write the board of the episodes played; a run that lacks some stays open."""
        run = read_run(self.folder)
        rows = make_board(run.episodes, self.suite.targets)
        digest = results_hash(run.records)
        write_tables(self.folder, self.suite.name, digest, rows)
        write_text(self.folder / "results_hash", digest + "\n")
        status = "finished" if len(run.episodes) == len(self.plan.specs) else "stopped"
        end = end_of_run(status, len(run.episodes))
        write_json(self.folder / "run.json", self.about | end | {"results_hash": digest})
        return Finished(self.folder, rows, digest, "", failures_of(run.episodes), len(run.episodes))
