import json
import multiprocessing

import numpy as np
import pytest
from rich.console import Console

from synthfm_bench import runner
from synthfm_bench.pool import play_all
from synthfm_bench.records import read_steps, results_hash
from synthfm_bench.runner import run_suite
from synthfm_bench.suite import BundledData, FileData, Suite, SyntheticData, load_suite, with_choices
from synthfm_bench.tasks import clicker_seed, make_plan
from synthfm_env.errors import InputError
from synthfm_env.volumes import Volume, save_volume

QUIET = Console(stderr=True, quiet=True)


@pytest.fixture
def own(tmp_path):
    label = np.zeros((8, 24, 24), dtype=np.int16)
    label[2:6, 3:12, 3:12] = 1
    label[2:6, 14:22, 14:22] = 4
    volume = Volume((label * 50).astype(np.float32), label)
    save_volume(volume, tmp_path / "scan.nii.gz", tmp_path / "truth.nii.gz")
    return FileData(kind="files", name="own volume", image=tmp_path / "scan.nii.gz", label=tmp_path / "truth.nii.gz")


def suite(*data, segmenters=("toys:Ball", "toys:FailsAtThirdClick"), seed=0) -> Suite:
    synthetic = SyntheticData(kind="synthetic", name="synthetic", shape=(8, 32, 32), cases=2)
    return Suite(
        name="small",
        segmenters=segmenters,
        clickers=("random", "ritm-3d-v1"),
        clicks=3,
        seed=seed,
        data=(synthetic, *data),
    )


def run(played: Suite, tmp_path, name="run", workers=1):
    return run_suite(played, make_plan(played), out=tmp_path / name, workers=workers, console=QUIET)


def test_results_do_not_depend_on_the_number_of_workers(tmp_path, own):
    one = run(suite(own), tmp_path, "one", workers=1)
    two = run(suite(own), tmp_path, "two", workers=2)
    assert two.results_hash == one.results_hash
    assert len(read_steps(two.folder / "steps.jsonl")) == len(read_steps(one.folder / "steps.jsonl"))
    for name in ("leaderboard.csv", "leaderboard.md"):
        assert (two.folder / name).read_bytes() == (one.folder / name).read_bytes()
    assert multiprocessing.active_children() == []


def test_another_seed_draws_other_cases_and_other_clicks(tmp_path):
    first, other = (make_plan(suite(seed=seed)) for seed in (0, 1))
    assert not {task.seed for task in first.tasks} & {task.seed for task in other.tasks}
    seeds = {clicker_seed(suite(seed=seed), task, "random") for seed in (0, 1) for task in first.tasks}
    assert len(seeds) == 4  # two cases under two seeds, the same for both segmenters


def test_a_runs_folder_holds_what_the_board_came_from(tmp_path, own):
    done = run(suite(own), tmp_path)
    about = json.loads((done.folder / "run.json").read_text())
    steps = read_steps(done.folder / "steps.jsonl")
    assert about["status"] == "finished"
    assert about["results_hash"] == done.results_hash == results_hash(steps)
    assert (done.folder / "results_hash").read_text() == done.results_hash + "\n"
    assert about["played"] == about["episodes"] == len({step.episode_id for step in steps}) == 16
    assert about["suite"]["segmenters"] == ["toys:Ball", "toys:FailsAtThirdClick"]
    assert about["envs"]["own volume"]["kwargs"]["image"] == str(own.image)
    assert about["versions"].keys() >= {"python", "numpy", "gymnasium", "torch"}
    assert sorted(path.name for path in done.folder.iterdir()) == [
        "leaderboard.csv",
        "leaderboard.md",
        "results_hash",
        "run.json",
        "steps.jsonl",
    ]


def test_failures_are_rows_of_the_board(tmp_path, own):
    rows = run(suite(own), tmp_path).rows
    failed = {(row.data_id, row.clicker): dict(row.failures) for row in rows if row.model != "toys:Ball"}
    assert failed == {
        ("synthetic", "random"): {"model_error": 2},
        ("synthetic", "ritm-3d-v1"): {"model_error": 2},
        ("own volume", "random"): {"model_error": 2},
        ("own volume", "ritm-3d-v1"): {"model_error": 2},
    }
    assert all(len(row.curve) == 3 for row in rows)


def test_every_structure_is_played_unless_some_are_named(tmp_path, own):
    every = make_plan(with_choices(suite(), data=own))
    assert [(task.case_id, task.structure) for task in every.tasks[:2]] == [("scan", 1), ("scan", 4)]
    some = make_plan(with_choices(suite(), data=own.model_copy(update={"structures": ("4", 4)})))
    assert {task.structure for task in some.tasks} == {4}


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_keeps_what_was_played_and_says_so(tmp_path, monkeypatch, workers):
    def interrupted(*args):
        for number, record in enumerate(play_all(*args)):
            if number == 4:
                raise KeyboardInterrupt
            yield record

    monkeypatch.setattr(runner, "play_all", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"stopped: \d of 8 episodes are kept in .*run/steps\.jsonl"):
        run(suite(), tmp_path, workers=workers)
    assert len(read_steps(tmp_path / "run" / "steps.jsonl")) == 4
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "stopped"
    assert not (tmp_path / "run" / "leaderboard.csv").exists()
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_ends_the_run_with_a_clear_error(tmp_path):
    with pytest.raises(RuntimeError, match="a worker process died"):
        run(suite(segmenters=("toys:Dies",)), tmp_path, workers=2)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    assert multiprocessing.active_children() == []


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "steps.jsonl").write_text("precious\n")
    with pytest.raises(InputError, match="already holds files"):
        run(suite(), tmp_path)
    assert (tmp_path / "run" / "steps.jsonl").read_text() == "precious\n"


def test_two_runs_in_one_second_get_two_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = with_choices(suite(), segmenters=("toys:Ball",), clickers=("random",))
    plan = make_plan(small)
    folders = {run_suite(small, plan, out=None, workers=1, console=QUIET).folder for _ in range(3)}
    assert len(folders) == 3
    assert {folder.parent.name for folder in folders} == {"runs"}


def test_a_missing_package_leaves_a_group_out_with_a_note(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nilearn", None)
    mni = BundledData(kind="bundled", name="mni152", volume="mni152")
    plan = make_plan(suite(mni))
    assert {task.data.name for task in plan.tasks} == {"synthetic"}
    (note,) = plan.notes
    assert note.startswith("mni152 is left out")
    assert "synthfm_env[real]" in note
    with pytest.raises(InputError, match="nothing is left to play"):
        make_plan(Suite(**(dict(suite(mni)) | {"data": (mni,)})))


def test_quick_plays_twelve_synthetic_cases_and_the_mni152_head():
    pytest.importorskip("nilearn", reason="the MNI152 head comes with the extra `real`")
    plan = make_plan(with_choices(load_suite("quick"), segmenters=("toys:Ball",)))
    synthetic = [task for task in plan.tasks if task.data.name == "synthetic"]
    assert len({task.seed for task in synthetic}) == len(synthetic) == 12
    assert [(task.case_id, task.structure) for task in plan.tasks[12:]] == [("mni152", 1), ("mni152", 2)]
    assert plan.oracles == {"random": False, "ritm-3d-v1": True}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"env": "SynthFM/Synthetic3-v0"}, "unknown synthetic env 'SynthFM/Synthetic3-v0': did you mean"),
        ({"recipe": "nosuch"}, "unknown recipe 'nosuch'"),
    ],
)
def test_a_synthetic_group_that_cannot_be_made_is_refused_before_anything_is_played(change, says):
    data = SyntheticData(**({"kind": "synthetic", "name": "s", "shape": (8, 32, 32), "cases": 1} | change))
    with pytest.raises(InputError, match=says):
        make_plan(Suite(**(dict(suite()) | {"data": (data,)})))
