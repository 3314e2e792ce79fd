"""Replays and draws the best, the median and the worst episode of each segmenter."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from rich.console import Console
from rich.progress import track

from synthfm_bench.analysis.aggregate import LeaderboardRow, by_group
from synthfm_bench.execution.foreign_calls import limit_memory
from synthfm_bench.execution.probe import BUILDING_S
from synthfm_bench.execution.replay import ReplayedAnswer, Replayer, answered, data_of, segmenter_of
from synthfm_bench.execution.trust import files_of_choice, files_of_data
from synthfm_bench.execution.workers import start_worker, worker_context
from synthfm_bench.players import own_code
from synthfm_bench.report.slice_svg import Film, draw_film
from synthfm_bench.results.episode_result import EpisodeResult
from synthfm_bench.results.run_directory import Run
from synthfm_bench.suite import Suite
from synthfm_env.errors import InputError, UserFacingError
from synthfm_env.printable import error_line, printable
from synthfm_env.prompts import Click
from synthfm_env.worker_process import follow_parent

MOST = 36
"""Episodes that a gallery replays at most."""


@dataclass(frozen=True)
class Card:
    """One episode of the gallery.

    Attributes:
        place: "best", "median" or "worst" of its row, or "the only one".
        episode: which one.
        score: its primary figure.
        film: the drawing, or None.
        note: why not, or what a reader should know about it.
    """

    place: str
    episode: EpisodeResult
    score: float
    film: Film | None
    note: str


def choose(rows: Iterable[LeaderboardRow]) -> list[tuple[str, LeaderboardRow, EpisodeResult]]:
    """Return the best, the median and the worst episode of each segmenter in each group, at most ``MOST``.

    By the primary figure, with the clicker that sees the truth where the group has one: it shows what the segmenter
    makes of sensible clicks.
    """
    chosen = []
    for group in by_group(rows).values():
        clicker = next((row.clicker for row in group if row.oracle), group[0].clicker)
        for row in group:
            if row.clicker == clicker:
                ordered = sorted(row.episodes, key=lambda e: (-_score(row, e), e.episode_id))
                places = {"best": 0, "median": len(ordered) // 2, "worst": len(ordered) - 1}
                found = {index: place for place, index in reversed(places.items())}
                if len(ordered) == 1:
                    found = {0: "the only one"}
                chosen += [(found[index], row, ordered[index]) for index in sorted(found)]
    return chosen[:MOST]


def make_gallery(
    rows: Sequence[LeaderboardRow], runs: Sequence[Run], console: Console, *, trusted: bool = False
) -> list[Card]:
    """Replay the chosen episodes and draw them. What cannot be replayed here becomes a card with the reason.

    A segmenter of the user's own is replayed in a process of its own, within the suite's time limit.

    Args:
        rows: the board.
        runs: that the episodes come from; their suites say what was played.
        console: where progress is shown.
        trusted: whether code and files that the runs name may be imported and opened; else their cards stay empty.
    """
    chosen = choose(rows)
    folders = {str(run.about.get("run_id")): run for run in runs}
    order = sorted(chosen, key=lambda one: (one[2].steps[0].run_id, one[2].segmenter, one[2].steps[0].image_id))
    cards: dict[str, Card] = {}
    replayers: dict[str, Replayer] = {}
    shown = track(order, "drawing the gallery", console=console, transient=True, disable=not console.is_terminal)
    try:
        for place, row, episode in shown:
            film, note = _draw(episode, folders, replayers, trusted)
            cards[episode.episode_id] = Card(place, episode, _score(row, episode), film, note)
    finally:
        for replayer in replayers.values():
            replayer.close()
    return [cards[episode.episode_id] for _, _, episode in chosen]


def _draw(
    episode: EpisodeResult, runs: Mapping[str, Run], replayers: dict[str, Replayer], trusted: bool
) -> tuple[Film | None, str]:
    """Return the film of an episode, or None with the reason that it is not drawn."""
    failed = f"Ended in {episode.failure} at click {episode.steps[-1].step}. " if episode.failure else ""
    clicks = [click for click, _ in answered(episode)]
    if not clicks:
        return None, f"{failed}No click was answered, so there is no mask to draw."
    run_id = episode.steps[0].run_id
    try:
        suite = runs[run_id].suite
        choice, data = segmenter_of(suite, episode), data_of(suite, episode)
        named = [*own_code(choice), *files_of_choice(choice), *files_of_data(data)]
        if named and not trusted:
            return None, f"{failed}Not drawn: the run names {printable(named[0])}; --trust-plugins opens it."
        if own_code(choice):
            film = _draw_elsewhere(suite, episode, clicks)
        else:
            replayer = replayers.setdefault(run_id, Replayer(suite))
            case, answers = replayer.replay(episode)
            film = draw_film(case, clicks, answers)
    except Exception as error:  # the report is worth more than a picture
        text = str(error) if isinstance(error, InputError | UserFacingError) else error_line(error)
        return None, f"{failed}Not drawn, since it could not be replayed here: {printable(text)}"
    differs = (
        "" if film.same else "The replayed masks are not bit by bit the recorded ones: versions or machine differ."
    )
    return film, failed + differs


def _draw_elsewhere(suite: Suite, episode: EpisodeResult, clicks: Sequence[Click]) -> Film:
    """Replay and draw an episode in a process of its own.

    Raises:
        UserFacingError: the process died, an answer took longer than the suite's time limit, or the code raised.
    """
    here, there = worker_context().Pipe()
    process = start_worker(_draw_here, there, suite, episode, clicks)
    there.close()
    limit = max(suite.time_limit_s, BUILDING_S)  # for the start of the process and of the session
    try:
        while here.poll(limit):
            kind, content = here.recv()
            if kind == "drawn":
                film: Film = content
                return film
            if kind == "failed":
                raise UserFacingError(content)
            limit = suite.time_limit_s
        raise UserFacingError(f"no answer within {limit:g} s")
    except (EOFError, OSError):
        raise UserFacingError("its process died") from None
    finally:
        process.kill()
        process.join()
        here.close()


def _draw_here(connection: Connection, suite: Suite, episode: EpisodeResult, clicks: Sequence[Click]) -> None:
    """Draw in a worker process: tell the parent of each answer, then send the film."""
    follow_parent()
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(1)
    limit_memory(suite.memory_limit_mib)

    def reported(answers: Iterable[ReplayedAnswer]) -> Iterator[ReplayedAnswer]:
        for answer in answers:
            connection.send(("answered", None))
            yield answer

    try:
        case, answers = Replayer(suite).replay(episode)
        connection.send(("drawn", draw_film(case, clicks, reported(answers))))
    except BaseException as error:
        connection.send(("failed", str(error) if isinstance(error, InputError) else error_line(error)))


def _score(row: LeaderboardRow, episode: EpisodeResult) -> float:
    return row.primary.of(episode) or 0.0
