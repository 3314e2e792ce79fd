"""Measure the blind clicker ``second-opinion-v1`` on unseen cases.

    python agents/second_opinion.py --segmenter geodesic --opinions synthfm3d-unet --cases 200
    python agents/second_opinion.py --opinions geodesic random-walker synthfm3d-nano/fast --real ../shared/realdata

The task is that of ``agents/blind_ppo.py``: an episode begins with one click (``start="click"``), and up to five
further clicks may correct the mask. ``NAME/PRESET`` is a segmenter with a preset: ``synthfm3d-nano/fast`` is SAM 2
along z alone, without the volume network.
"""

import argparse
from pathlib import Path

import torch

from command_line import check_arguments, read_shape, run
from paired_test import Contender, measure
from synthfm_env import make_segmenter
from synthfm_env.segmenters import Segmenter


def named_segmenter(text: str) -> Segmenter:
    """Build the segmenter ``NAME`` or ``NAME/PRESET``."""
    name, _, preset = text.partition("/")
    return make_segmenter(name, preset=preset or "auto")


def main() -> None:
    """Measure against stopping, ``random`` and ``uncertain``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segmenter", default="synthfm3d-unet", help="to correct")
    parser.add_argument("--opinions", nargs="+", required=True, help="the other segmenters")
    parser.add_argument("--shape", default="24,48,48", help="grid of the synthetic cases, D,H,W")
    parser.add_argument("--clicks", type=int, default=5, help="after the first one")
    parser.add_argument("--cases", type=int, default=0, help="unseen synthetic cases to measure on")
    parser.add_argument("--real", type=Path, help="folder of real cases to measure on too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    check_arguments(cases=given.cases, real=given.real)
    shape = read_shape(given.shape)
    segmenter = named_segmenter(given.segmenter)
    ours = Contender("second-opinion-v1", {"opinions": [named_segmenter(text) for text in given.opinions]})
    others = [Contender("stop"), Contender("random")]
    if given.segmenter not in ("geodesic", "random-walker"):  # which have no logits
        others.append(Contender("uncertain", {"segmenter": segmenter}))
    measure(ours, others, segmenter, shape, given.clicks, given.cases, given.real, "click")


if __name__ == "__main__":
    run(main)
