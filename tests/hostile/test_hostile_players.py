"""Tests that a misbehaving segmenter or clicker fails its own episodes only."""

import json
from pathlib import Path

import numpy as np
import pytest
from hostile_players import EXPECTED, EXPECTED_OF_CLICKERS, QUICK, QUICK_CLICKERS
from rich.console import Console

from synthfm_bench.execution.run import Finished, run_suite
from synthfm_bench.plan import make_plan
from synthfm_bench.results.run_directory import read_run
from synthfm_bench.suite import FileData, Suite
from synthfm_env.volumes import Volume, save_volume

QUIET = Console(stderr=True, quiet=True)


@pytest.fixture
def data(tmp_path):
    label = np.zeros((8, 24, 24), dtype=np.int16)
    label[2:6, 6:14, 6:14] = 1
    save_volume(Volume((label * 50).astype(np.float32), label), tmp_path / "scan.nii", tmp_path / "truth.nii")
    return FileData(kind="files", name="own", image=tmp_path / "scan.nii", label=tmp_path / "truth.nii")


def play(data: FileData, out: Path, segmenters: list[str], clickers: list[str], workers: int = 1) -> Finished:
    suite = Suite(
        name="hostile",
        segmenters=tuple(segmenters),
        clickers=tuple(clickers),
        clicks=2,
        time_limit_s=4,
        memory_limit_mib=400,
        data=(data,),
    )
    return run_suite(suite, make_plan(suite), out=out, workers=workers, console=QUIET)


def outcomes(run: Finished, by: str) -> dict[str, str | None]:
    episodes = read_run(run.folder).episodes
    return {getattr(episode, by).partition(":")[2]: episode.failure for episode in episodes}


def check_hostile_segmenters(data: FileData, tmp_path: Path, names: tuple[str, ...]) -> None:
    hostile = [f"hostile_players:{name}" for name in names]
    run = play(data, tmp_path / "run", ["geodesic", *hostile], ["ritm-3d-v1"])
    found = outcomes(run, "segmenter")
    assert found.pop("") is None
    assert found == {name: EXPECTED[name] for name in names}
    alone = play(data, tmp_path / "alone", ["geodesic"], ["ritm-3d-v1"])
    good = [episode for episode in read_run(run.folder).episodes if episode.segmenter == "geodesic"]
    assert [e.dice.tolist() for e in good] == [e.dice.tolist() for e in read_run(alone.folder).episodes]
    assert json.loads((run.folder / "run.json").read_text(encoding="utf-8"))["status"] == "finished"
    assert run.failed.get("model_error", 0) == sum(EXPECTED[name] == "model_error" for name in names)


def check_hostile_clickers(data: FileData, tmp_path: Path, names: tuple[str, ...]) -> None:
    clickers = [f"hostile_players:{name}" for name in ("Middle", *names)]
    run = play(data, tmp_path / "run", ["geodesic"], clickers)
    assert outcomes(run, "clicker") == {"Middle": None, **{name: EXPECTED_OF_CLICKERS[name] for name in names}}


def test_a_hostile_segmenter_costs_its_own_episodes(data, tmp_path):
    check_hostile_segmenters(data, tmp_path, QUICK)


def test_a_hostile_clicker_costs_its_own_episodes(data, tmp_path):
    check_hostile_clickers(data, tmp_path, QUICK_CLICKERS)


@pytest.mark.slow
def test_every_hostile_segmenter_costs_its_own_episodes(data, tmp_path):
    check_hostile_segmenters(data, tmp_path, tuple(EXPECTED))


@pytest.mark.slow
def test_every_hostile_clicker_costs_its_own_episodes(data, tmp_path):
    check_hostile_clickers(data, tmp_path, tuple(EXPECTED_OF_CLICKERS))


@pytest.mark.slow
def test_a_segmenter_that_writes_into_its_pipes_costs_its_own_episodes(data, tmp_path):
    run = play(data, tmp_path / "run", ["geodesic", "hostile_players:WritesIntoItsPipes"], ["ritm-3d-v1"])
    assert outcomes(run, "segmenter")[""] is None
