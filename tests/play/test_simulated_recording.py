import shutil
from pathlib import Path

import pytest
from rich.console import Console

from synthfm_bench.execution.verify import verify
from synthfm_bench.results.run_directory import read_run
from synthfm_bench.results.step_record import results_hash

RECORDING = Path(__file__).parents[2] / "docs" / "how-to" / "simulated-recording"


def test_the_packaged_recording_is_complete_and_marked_as_simulated():
    run = read_run(RECORDING)
    assert len(run.episodes) == 12
    assert {episode.clicker for episode in run.episodes} == {"human:simulated"}
    assert results_hash(run.records) == (RECORDING / "results_hash").read_text(encoding="utf-8").strip()
    assert "No person made these clicks" in (RECORDING / "README.txt").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_packaged_recording_is_replayed_to_the_same_masks(tmp_path):
    pytest.importorskip("nilearn", reason="the extra real is not installed")
    shutil.copytree(RECORDING, tmp_path / "run")
    assert verify(tmp_path / "run", episodes=3, workers=1, console=Console(quiet=True)).equal
