r"""Draws the learning curves of trainings in agents/ for the tutorial "Learning to click".

    python docs/images/make_learning_curves.py runs/blind-0 runs/oracle-0 --imitation runs/bc-0 \
        --to docs/images/learning-curves.svg

Each folder holds the ``curve.jsonl`` that a training wrote, a line for each update.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

matplotlib.rcParams["svg.hashsalt"] = "learning-curves"  # the same curves give the same file


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a training's curve."""
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Draw one panel for imitation and one for PPO."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ppo", type=Path, nargs="*", help="folders of trainings with PPO")
    parser.add_argument("--imitation", type=Path, action="append", default=[], help="folder of a training by imitation")
    parser.add_argument("--to", type=Path, required=True, help="file to write, .svg")
    given = parser.parse_args()
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for folder in given.imitation:
        curve = read(folder)
        steps = [line["step"] for line in curve]
        left.plot(steps, [line["gain"] for line in curve], label=f"{folder.name}, its choice")
        left.plot(steps, [line["best gain"] for line in curve], "--", label=f"{folder.name}, best candidate")
    left.set(xlabel="steps of the optimiser", ylabel="gain in Dice, held out", title="imitation")
    for folder in given.ppo:
        curve = read(folder)
        score = "nauc" if "nauc" in curve[0] else "gain"
        right.plot([line["clicks"] for line in curve], [line[score] for line in curve], label=f"{folder.name}, {score}")
    right.set(xlabel="clicks", ylabel="mean return of an episode", title="PPO")
    for axes in (left, right):
        axes.legend(fontsize="small")
        axes.grid(alpha=0.3)
    figure.savefig(given.to, metadata={"Date": None})


if __name__ == "__main__":
    main()
