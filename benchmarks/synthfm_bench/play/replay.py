"""Replays of people's episodes: their recorded clicks, undos and stops, answered again."""

from collections.abc import Sequence
from contextlib import closing

from synthfm_agents.person import is_person
from synthfm_bench.plan import Plan
from synthfm_bench.play.person_episode import PersonPlayer
from synthfm_bench.results.episode_result import Episode
from synthfm_bench.suite import Suite


def replay_people(suite: Suite, run_id: str, plan: Plan, episodes: Sequence[Episode]) -> dict[str, Episode]:
    """Play people's episodes again.

    Args:
        suite: of the run.
        run_id: stands in every record.
        plan: holds the tasks of the episodes.
        episodes: those of other clickers are passed over.

    Returns:
        What came of each now, by its id.
    """
    recorded = {one.episode_id: one for one in episodes if is_person(one.steps[0].protocol)}
    with closing(PersonPlayer(suite, run_id)) as player:
        return {
            task.episode_id: player.replay(task, recorded[task.episode_id])
            for task in plan.tasks
            if task.episode_id in recorded
        }
