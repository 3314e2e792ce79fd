import json
import multiprocessing
import resource

import pytest
from rich.console import Console

from synthfm_bench.execution.run import run_suite
from synthfm_bench.execution.verify import report_lines, verify
from synthfm_bench.plan import make_plan
from synthfm_bench.results.run_directory import read_run
from synthfm_bench.suite import Suite, SyntheticData
from synthfm_env.errors import InputError

QUIET = Console(quiet=True)
DATA = SyntheticData(kind="synthetic", name="synthetic", shape=(8, 32, 32), cases=3)


def suite(segmenter="toys:Moody") -> Suite:
    return Suite(name="small", segmenters=(segmenter,), clickers=("ritm-3d-v1",), clicks=3, data=(DATA,))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run of a segmenter whose balls grow once there is a file ``larger``, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return run_suite(suite(), make_plan(suite()), out=tmp_path / "run", workers=1, console=QUIET).folder


def replayed(folder, **options):
    return verify(folder, **({"episodes": None, "workers": 1, "console": QUIET, "trusted": True} | options))


def test_a_run_that_comes_out_the_same_is_equal(folder):
    verdict = replayed(folder)
    assert verdict.equal
    assert (verdict.replayed, verdict.episodes, verdict.changed) == (3, 3, ())
    some = replayed(folder, episodes=2)
    assert list(report_lines(some)) == ["equal: 2 of 2 episodes came out the same (2 of 3 episodes replayed)"]


def test_a_different_replay_is_reported(folder, tmp_path):
    before = read_run(folder)
    (tmp_path / "larger").touch()
    about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    about["versions"]["numpy"] = "1.0"
    (folder / "run.json").write_text(json.dumps(about))
    verdict = replayed(folder)
    assert not verdict.equal
    assert verdict.tampered is None
    assert [one.episode_id for one in verdict.differences] == [one.episode_id for one in before.episodes]
    for one in verdict.differences:
        assert one.step == 1
        assert {"dice", "mask_sha256"} <= one.fields.keys()
        assert not {"t_predict_s", "peak_memory_mib", "error"} & one.fields.keys()
        assert one.dice > 0
    lines = list(report_lines(verdict))
    assert lines[0] == "NOT equal: 0 of 3 episodes came out the same (all)"
    assert lines[1].startswith(f"{before.episodes[0].episode_id}, step 1: ")
    assert lines[-1].startswith("since the run: numpy 1.0 -> ")


def test_an_episode_that_left_its_suite_is_reported(folder):
    about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    about["suite"]["seed"] = 7
    (folder / "run.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="3 of its episodes cannot be played here, for example synthetic/seed-"):
        replayed(folder)


def play_until_full(out, limit, answer):
    """Play where no file may grow over some kilobytes, as on a disk that fills up."""
    played = suite("toys:Ball")
    plan = make_plan(played)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        run_suite(played, plan, out=out, workers=1, console=QUIET)
    except RuntimeError as error:
        answer.send(str(error))


def test_a_disk_that_fills_up_in_the_middle_of_an_episode(tmp_path):
    whole = run_suite(
        suite("toys:Ball"), make_plan(suite("toys:Ball")), out=tmp_path / "whole", workers=1, console=QUIET
    )
    limit = (whole.folder / "steps.jsonl").stat().st_size // 2  # three episodes of about the same size: in the second
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("forkserver").Process(
        target=play_until_full, args=(tmp_path / "cut", limit, there)
    )
    process.start()
    assert here.poll(120)
    message = here.recv()
    process.join()
    assert f"{tmp_path / 'cut'} cannot be written (File too large): 1 of 3 episodes are kept" in message
    assert "make room, then go on with: synthfm bench small --resume --out" in message
    assert (tmp_path / "cut" / "steps.jsonl").stat().st_size == limit, "an episode was cut off"
    played = suite("toys:Ball")
    done = run_suite(played, make_plan(played), out=None, workers=1, console=QUIET, resume=tmp_path / "cut")
    assert done.results_hash == whole.results_hash
