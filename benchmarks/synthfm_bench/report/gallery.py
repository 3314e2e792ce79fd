"""The best, the median and the worst episode of each segmenter, drawn from a replay."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import track

from synthfm_bench.analysis.aggregate import Row, by_group
from synthfm_bench.execution.replay import Replayer, answered
from synthfm_bench.execution.resume import suite_of
from synthfm_bench.report.slice_svg import Film, draw_film
from synthfm_bench.results.episode_result import Episode
from synthfm_bench.results.run_directory import Run
from synthfm_env.errors import InputError

MOST = 36
"""Episodes that a gallery replays at most."""


@dataclass(frozen=True)
class Card:
    """One episode of the gallery.

    Attributes:
        place: "best", "median" or "worst" of its row, or "the only one".
        episode: which one.
        score: its primary figure.
        film: the drawing; None where there is none.
        note: why not, or what a reader should know about it.
    """

    place: str
    episode: Episode
    score: float
    film: Film | None
    note: str


def choose(rows: Iterable[Row]) -> list[tuple[str, Row, Episode]]:
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


def make_gallery(rows: Sequence[Row], runs: Sequence[Run], console: Console) -> list[Card]:
    """Replay the chosen episodes and draw them. What cannot be replayed here becomes a card that says why.

    Args:
        rows: the board.
        runs: that the episodes come from; their suites say what was played.
        console: where progress is shown.
    """
    chosen = choose(rows)
    folders = {str(run.about.get("run_id")): run for run in runs}
    order = sorted(chosen, key=lambda one: (one[2].steps[0].run_id, one[2].segmenter, one[2].steps[0].image_id))
    cards: dict[str, Card] = {}
    replayers: dict[str, Replayer] = {}
    shown = track(order, "drawing the gallery", console=console, transient=True, disable=not console.is_terminal)
    try:
        for place, row, episode in shown:
            film, note = _draw(episode, folders, replayers)
            cards[episode.episode_id] = Card(place, episode, _score(row, episode), film, note)
    finally:
        for replayer in replayers.values():
            replayer.close()
    return [cards[episode.episode_id] for _, _, episode in chosen]


def _draw(episode: Episode, runs: Mapping[str, Run], replayers: dict[str, Replayer]) -> tuple[Film | None, str]:
    failed = f"Ended in {episode.failure} at click {episode.steps[-1].step}. " if episode.failure else ""
    clicks = [click for click, _ in answered(episode)]
    if not clicks:
        return None, f"{failed}No click was answered, so there is no mask to draw."
    run_id = episode.steps[0].run_id
    try:
        if run_id not in replayers:
            replayers[run_id] = Replayer(suite_of(runs[run_id].folder))
        scene, answers = replayers[run_id].replay(episode)
        film = draw_film(scene, clicks, answers)
    except Exception as error:  # whatever a segmenter of the user's own raises; the report is worth more than a picture
        text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        return None, f"{failed}Not drawn, since it could not be replayed here: {' '.join(text.split())}"
    differs = (
        "" if film.same else "The replayed masks are not bit by bit the recorded ones: versions or machine differ."
    )
    return film, failed + differs


def _score(row: Row, episode: Episode) -> float:
    return row.primary.of(episode) or 0.0
