"""Compares people with click protocols: distance in mm, agreement of sign, agreement of people, a fit of the noise.

    python benchmarks/studies/people.py runs/human-v1-anna-... runs/human-v1-ben-...

prints the tables that docs/how-to/human-study.md explains. Each run is one person's; all are replayed.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from synthfm_bench.play.compare import Pair, agreement, fit_noise, replay_beside

RULES = ("ritm-3d-v1", "synthfm-mm-v1", "sam2-center-v1", "cvpr25-v1", "vista3d-v1")


def main() -> None:
    """Replay the runs and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--against", action="append", metavar="PROTOCOL", help="again for more; five by default")
    parser.add_argument("--trust-plugins", action="store_true", help="open files and code that the runs name")
    args = parser.parse_args()
    rules = args.against or list(RULES)
    if "ritm-3d-v1" not in rules:
        rules.append("ritm-3d-v1")  # which the noise is fitted beside
    replayed = [one for folder in args.runs for one in replay_beside(folder, rules, trusted=args.trust_plugins)]
    # How far people click from the protocols
    pairs = [pair for one in replayed for pair in one.pairs]

    print("| person | protocol | clicks | distance in mm: median (quartiles) | same sign |")
    print("|---|---|---|---|---|")
    groups: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[pair.person, pair.rule].append(pair)
    for (person, rule), group in sorted(groups.items()):
        low, middle, high = np.percentile([pair.distance_mm for pair in group], (25, 50, 75))
        sign = np.mean([pair.same_sign for pair in group])
        print(f"| {person} | {rule} | {len(group)} | {middle:.1f} ({low:.1f} to {high:.1f}) | {sign:.0%} |")

    # What people reach
    print("\n| person | structures | Dice@1 | Dice@3 | Dice@5 | undos | seconds of thought a click |")
    print("|---|---|---|---|---|---|---|")
    for person in sorted({one.episode.clicker for one in replayed}):
        episodes = [one.episode for one in replayed if one.episode.clicker == person]
        curves = [episode.dice for episode in episodes]
        scores = [np.mean([curve[min(n, len(curve)) - 1] for curve in curves]) for n in (1, 3, 5)]
        steps = [step for episode in episodes for step in episode.steps]
        thought = np.median([step.t_click_s for step in steps if step.t_click_s is not None])
        undos = sum(step.undone for step in steps)
        shown = " | ".join(f"{score:.3f}" for score in scores)
        print(f"| {person} | {len(episodes)} | {shown} | {undos} | {thought:.1f} |")

    # How much people agree
    print("\n| person | person | structures of both | Dice between their last masks |")
    print("|---|---|---|---|")
    for (one, two), values in sorted(agreement(replayed).items()):
        print(f"| {one} | {two} | {len(values)} | {np.mean(values):.3f} |")

    fit = fit_noise(pairs)
    print(f"\nhuman-noise-v1: jitter_mm = {fit.jitter_mm:.2f}, wrong_sign = {fit.wrong_sign:.3f} ({fit.clicks} clicks)")


if __name__ == "__main__":
    main()
