"""Writes a recording in the form of a person's, played by the rule human-noise-v1.

    python benchmarks/studies/simulated_person.py OUT --segmenter geodesic

wrote docs/how-to/simulated-recording. Its alias is `simulated`: it shows the format, and is no evidence about people.
Thought times are 0.
"""

import argparse
from pathlib import Path

import numpy as np

from synthfm_agents import make_clicker
from synthfm_bench.play.game import SuiteGame
from synthfm_bench.play.person_episode import Thought
from synthfm_bench.play.person_run import PersonRun, suite_of_person
from synthfm_bench.suite import load_suite
from synthfm_env.envs.actions import read_action


def main() -> None:
    """Play human-v1 by a rule, into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--segmenter", default="geodesic")
    arguments = parser.parse_args()
    suite = suite_of_person(load_suite("human-v1"), "simulated", segmenter=arguments.segmenter, practice=False)
    game = SuiteGame(PersonRun.open(suite, arguments.out))
    clicker = make_clicker("human-noise-v1")
    for index in range(len(game.describe()["tasks"])):
        game.open(index)
        clicker.reset(index)
        episode = game.episode
        clicks = np.full((suite.clicks, 4), -1, dtype=np.int32)
        while not episode.ended:
            observation = {"mask": episode.mask, "spacing": np.array(episode.spacing), "clicks": clicks}
            click = read_action(clicker.act(observation, {"truth": episode.truth}), episode.image.shape)
            if click is None:
                game.finish(Thought())
            else:
                clicks[len(episode.records)] = (*click.zyx, click.positive)
                game.click(click, Thought())
    print(game.end())
    game.close()


if __name__ == "__main__":
    main()
