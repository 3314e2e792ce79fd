"""Tests that the script that times the generator still finds its stages."""

import importlib.util
from pathlib import Path

from synthfm_env.synthesis import SynthFM3D

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "speed" / "synthesis.py"


def test_stages_of_the_generator_are_timed():
    spec = importlib.util.spec_from_file_location("speed_of_synthesis", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with script.stage_clock() as spent:
        SynthFM3D((8, 32, 32), "ct").sample(0)
    assert {"organs", "components", "texture", "device"} <= spent.keys()
