"""Replays of people's episodes: their recorded clicks, undos and stops, answered again."""

from collections.abc import Sequence
from contextlib import closing

from synthfm_agents.person import is_person
from synthfm_bench.plan import Plan
from synthfm_bench.play.person_episode import PersonPlayer
from synthfm_bench.results.episode_result import EpisodeResult
from synthfm_bench.suite import Suite


def replay_people(suite: Suite, run_id: str, plan: Plan, episodes: Sequence[EpisodeResult]) -> dict[str, EpisodeResult]:
    """Play people's episodes again.

    Args:
        suite: of the run.
        run_id: stands in every record.
        plan: holds the episodes.
        episodes: those of other clickers are passed over.

    Returns:
        What came of each now, by its id.
    """
    recorded = {one.episode_id: one for one in episodes if is_person(one.steps[0].protocol)}
    with closing(PersonPlayer(suite, run_id)) as player:
        return {
            spec.episode_id: player.replay(spec, recorded[spec.episode_id])
            for spec in plan.specs
            if spec.episode_id in recorded
        }
