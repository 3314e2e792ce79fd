import errno
import json
import multiprocessing

import numpy as np
import pytest
from episode_records import episode
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from synthfm_bench.execution.local_pool import Pool
from synthfm_bench.execution.resume import find_unfinished, suite_of
from synthfm_bench.execution.run import run_suite
from synthfm_bench.plan import make_plan
from synthfm_bench.players import build_clicker
from synthfm_bench.results.run_directory import read_run
from synthfm_bench.results.step_record import read_steps, results_hash
from synthfm_bench.results.steps_file import StepsFile
from synthfm_bench.suite import BundledData, Choice, FileData, Suite, SyntheticData, load_suite, with_choices
from synthfm_env.errors import InputError
from synthfm_env.segmenters import make_segmenter
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


def suite(*data, **fields) -> Suite:
    synthetic = SyntheticData(kind="synthetic", name="synthetic", shape=(8, 32, 32), cases=2)
    known = {
        "segmenters": ("toys:Ball", "toys:FailsAtThirdClick"),
        "clickers": ("random", "ritm-3d-v1"),
        "clicks": 3,
        "data": (synthetic, *data),
    }
    return Suite(name="small", **(known | fields))


def run(played: Suite, tmp_path, name="run", workers=1):
    return run_suite(played, make_plan(played), out=tmp_path / name, workers=workers, console=QUIET)


def test_results_do_not_depend_on_the_number_of_workers(tmp_path, own):
    one = run(suite(own), tmp_path, "one", workers=1)
    two = run(suite(own), tmp_path, "two", workers=2)
    assert two.results_hash == one.results_hash
    assert one.pace == ""
    assert two.pace.startswith("2 workers did ")
    assert len(read_steps(two.folder / "steps.jsonl")) == len(read_steps(one.folder / "steps.jsonl"))
    curves = [[[point.mean for point in row.curve] for row in done.rows] for done in (one, two)]
    assert curves[0] == curves[1]
    assert multiprocessing.active_children() == []


def test_another_seed_draws_other_cases_and_other_clicks(tmp_path):
    first, other = (make_plan(suite(seed=seed)) for seed in (0, 1))
    assert not {spec.case.seed for spec in first.specs} & {spec.case.seed for spec in other.specs}
    seeds = {spec.clicker_seed(suite(seed=seed)) for seed in (0, 1) for spec in first.specs}
    assert len(seeds) == 8  # two cases and two clickers under two seeds, the same for both segmenters


def test_a_runs_folder_holds_what_the_board_came_from(tmp_path, own):
    done = run(suite(own), tmp_path)
    about = json.loads((done.folder / "run.json").read_text(encoding="utf-8"))
    steps = read_steps(done.folder / "steps.jsonl")
    assert about["status"] == "finished"
    assert about["results_hash"] == done.results_hash == results_hash(steps)
    assert (done.folder / "results_hash").read_text(encoding="utf-8") == done.results_hash + "\n"
    assert about["played"] == about["episodes"] == len({step.episode_id for step in steps}) == 16
    assert about["suite"]["segmenters"] == ["toys:Ball", "toys:FailsAtThirdClick"]
    assert about["envs"]["own volume"]["kwargs"]["image"]["image"] == str(own.image)
    assert about["versions"].keys() >= {"python", "numpy", "gymnasium", "torch"}
    assert sorted(path.name for path in done.folder.iterdir()) == [
        "leaderboard.csv",
        "leaderboard.md",
        "pairs.csv",
        "results_hash",
        "run.json",
        "steps.jsonl",
        "structures.csv",
        "structures.md",
    ]


def test_failures_are_rows_of_the_board(tmp_path, own):
    rows = run(suite(own), tmp_path).rows
    failed = {(row.data_id, row.clicker): dict(row.failures) for row in rows if row.segmenter != "toys:Ball"}
    assert failed == {
        ("synthetic", "random"): {"model_error": 2},
        ("synthetic", "ritm-3d-v1"): {"model_error": 2},
        ("own volume", "random"): {"model_error": 2},
        ("own volume", "ritm-3d-v1"): {"model_error": 2},
    }
    assert all(len(row.curve) == 3 for row in rows)


def test_a_suite_may_begin_episodes_with_a_click(tmp_path, own):
    played = {}
    for start in ("empty", "click"):
        chosen = suite(own, segmenters=("geodesic",), clickers=("random",), start=start)
        played[start] = read_run(run(chosen, tmp_path / start).folder)
        arguments = played[start].about["envs"]["own volume"]["kwargs"]
        assert arguments.get("start", "empty") == start
    first = {start: np.mean([episode.dice[0] for episode in read.episodes]) for start, read in played.items()}
    assert first["click"] > first["empty"], "a random click corrects an answer that there is already"
    with pytest.raises(InputError, match="segmenter 'geodesic' takes no box as a prompt"):
        make_plan(suite(own, segmenters=("geodesic",), clickers=("random",), start="box"))


def test_every_structure_is_played_unless_some_are_named(tmp_path, own):
    every = make_plan(with_choices(suite(), data=own))
    assert [(spec.case.case_id, spec.structure) for spec in every.specs[:4:2]] == [("scan", 1), ("scan", 4)]
    some = make_plan(with_choices(suite(), data=own.model_copy(update={"structures": ("4", 4)})))
    assert {spec.structure for spec in some.specs} == {4}


def interrupt_after(episodes, monkeypatch, error=KeyboardInterrupt):
    """Let a run be stopped once so many episodes have been written."""
    append = StepsFile.append

    def stop(self, records):
        nonlocal episodes
        episodes -= 1
        if episodes < 0:
            raise error
        append(self, records)

    monkeypatch.setattr(StepsFile, "append", stop)


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_keeps_what_was_played_and_says_how_to_go_on(tmp_path, monkeypatch, workers):
    with monkeypatch.context() as patch:
        interrupt_after(3, patch)
        with pytest.raises(KeyboardInterrupt) as stop:
            run(suite(), tmp_path, workers=workers)
    folder = tmp_path / "run"
    kept, again_with = str(stop.value).split("; go on with: ")
    assert kept == f"stopped: 3 of 8 episodes are kept in {folder}/steps.jsonl"
    assert again_with == f"synthfm bench small --resume --out {folder} --trust-plugins"
    assert len(read_run(folder).episodes) == 3
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["status"] == "stopped"
    assert not (folder / "leaderboard.csv").exists()
    assert multiprocessing.active_children() == []
    resumed = again(suite(), folder)
    assert resumed.results_hash == run(suite(), tmp_path, "whole").results_hash


def again(played, folder):
    return run_suite(played, make_plan(played), out=None, workers=1, console=QUIET, resume=folder)


def test_a_full_disk_ends_the_run_clearly(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(2, patch, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(
            RuntimeError, match=r"cannot be written \(No space left on device\): 2 of 8 episodes are kept"
        ):
            run(suite(), tmp_path)
    assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["status"] == "failed"
    assert again(suite(), tmp_path / "run").results_hash == run(suite(), tmp_path, "whole").results_hash


@given(data=st.data())
@settings(max_examples=25)
def test_a_steps_file_cut_anywhere_keeps_its_whole_episodes(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("cut") / "steps.jsonl"
    episodes = [episode([0.1, 0.2, 0.3], budget=3, case_id=case) for case in "abc"]
    with StepsFile(path) as file:
        for records in episodes:
            file.append(records)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    with StepsFile(path) as file:
        kept = list(file.episodes)
        assert kept == [records[0].episode_id for records in episodes][: len(kept)]
        for records in episodes[len(kept) :]:
            file.append(records)
    assert path.read_bytes() == whole


def test_a_resumed_run_plays_only_what_is_missing(tmp_path, monkeypatch):
    first = run(suite(), tmp_path)
    steps = tmp_path / "run" / "steps.jsonl"
    lines = steps.read_text(encoding="utf-8").splitlines(keepends=True)
    steps.write_text("".join(lines[:-4]))
    missing = {json.loads(line)["episode_id"] for line in lines[-4:]}
    asked = []
    play = Pool.play

    def listen(self, jobs, advance):
        asked.extend(spec.episode_id for job in jobs for spec in job.specs)
        yield from play(self, jobs, advance)

    monkeypatch.setattr(Pool, "play", listen)
    assert again(suite(), tmp_path / "run").results_hash == first.results_hash
    assert set(asked) == missing
    assert again(suite(), tmp_path / "run").pace == ""


def test_a_run_is_not_resumed_with_something_else(tmp_path, own):
    run(suite(), tmp_path)
    with pytest.raises(InputError, match="its suite are not those of now \\(clicks was 3, is 4"):
        again(suite(clicks=4), tmp_path / "run")
    about = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    about["segmenters"]["toys:Ball"]["weights_sha256"] = "0" * 64
    (tmp_path / "run" / "run.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=r"not those of now \(toys:Ball: weights_sha256 was '0{64}'"):
        again(suite(), tmp_path / "run")


def test_the_run_to_resume_is_found_or_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no run of quick under"):
        find_unfinished("quick", None)
    for name, status in (("quick-1", "stopped"), ("quick-2", "finished")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text(json.dumps({"status": status}))
    assert find_unfinished("quick", None).name == "quick-1"
    with pytest.raises(InputError, match="holds no run"):
        find_unfinished("quick", tmp_path)
    folder = tmp_path / "runs" / "quick-1"
    (folder / "run.json").write_text(json.dumps({"suite": suite().model_dump(mode="json")}))
    assert suite_of(folder, "small.toml") == suite()
    with pytest.raises(InputError, match="is a run of small, not of quick"):
        suite_of(folder, "quick")


def test_a_segmenter_that_hangs_fails_there_and_the_run_goes_on(tmp_path):
    few = SyntheticData(kind="synthetic", name="synthetic", shape=(8, 32, 32), cases=1)
    segmenters = ("toys:Hangs", "toys:Ball")
    played = suite(segmenters=segmenters, clickers=("ritm-3d-v1",), time_limit_s=4, data=(few,))
    episodes = {one.episode_id: one for one in read_run(run(played, tmp_path, workers=2).folder).episodes}
    assert len(episodes) == 2
    for one in episodes.values():
        hung = one.segmenter == "toys:Hangs"
        assert one.failure == ("timeout" if hung else None)
        if hung:
            assert [r.outcome for r in one.steps] == ["running", "timeout"]
            assert (one.dice[0] > 0, one.dice[1:].tolist()) == (True, [0, 0])
            assert one.steps[1].error == "no answer within 4 s"
            assert one.steps[1].structure == one.steps[0].structure != "unknown"
    assert multiprocessing.active_children() == []


def test_a_segmenter_that_ends_its_process_is_tried_again_and_then_fails(tmp_path):
    rows = run(suite(segmenters=("toys:Dies", "toys:Ball"), clickers=("random",)), tmp_path, workers=2).rows
    assert {row.segmenter: dict(row.failures) for row in rows} == {"toys:Dies": {"model_error": 2}, "toys:Ball": {}}
    errors = {r.error for r in read_steps(tmp_path / "run" / "steps.jsonl") if r.model == "toys:Dies"}
    assert errors == {"its process died twice (exit code 9)"}


def test_a_process_that_dies_once_costs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "may_die").touch()
    once = run(suite(segmenters=("toys:DiesOnce",), clickers=("random",)), tmp_path)
    assert not (tmp_path / "may_die").exists()
    whole = run(suite(segmenters=("toys:DiesOnce",), clickers=("random",)), tmp_path, "whole")
    assert once.results_hash == whole.results_hash
    assert not any(row.failures for row in whole.rows)


def play_on(folder, resume):
    """Begin a run, or go on with one, in a process that the test kills."""
    played = suite()
    plan = make_plan(played)
    run_suite(played, plan, out=folder, workers=2, console=QUIET, resume=folder if resume else None)


@pytest.mark.slow  # tests/hostile/test_fault_plan.py simulates a kill at any operation in seconds
@pytest.mark.parametrize("seed", [0, 1])
def test_a_run_killed_at_random_points_ends_with_the_same_hash(tmp_path, seed):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    play_on(whole, resume=False)
    size = (whole / "steps.jsonl").stat().st_size
    rng = np.random.default_rng(seed)
    context = multiprocessing.get_context("forkserver")
    resume = False
    for share in sorted(rng.uniform(0, 0.9, 2)):
        process = context.Process(target=play_on, args=(cut, resume))
        process.start()
        steps = cut / "steps.jsonl"
        while process.is_alive() and not (steps.is_file() and steps.stat().st_size >= share * size):
            process.join(0.01)
        process.kill()
        process.join()
        resume = (cut / "run.json").is_file()
    play_on(cut, resume)
    assert (cut / "results_hash").read_text(encoding="utf-8") == (whole / "results_hash").read_text(encoding="utf-8")
    assert len((cut / "steps.jsonl").read_text(encoding="utf-8")) > 0


def test_a_clicker_asks_the_segmenter_that_it_plays_with():
    ball = make_segmenter("toys:Ball")
    assert build_clicker(Choice(use="toys:Asking"), ball).segmenter is ball
    other = Choice(use="toys:Asking", params={"segmenter": "geodesic"})
    assert build_clicker(other, ball).segmenter == "geodesic"
    assert build_clicker(Choice(use="random"), ball).name == "random"


def test_one_rule_with_two_settings_makes_two_rows(tmp_path):
    clickers = ({"use": "synthfm-v1", "name": "1+0", "params": {"positives": 1, "negatives": 0}}, "synthfm-v1")
    done = run(suite(segmenters=("toys:Ball",), clickers=clickers), tmp_path)
    steps = read_steps(done.folder / "steps.jsonl")
    assert {(r.clicker, r.protocol, r.clicker_params.get("negatives")) for r in steps} == {
        ("1+0", "synthfm-v1", 0),
        ("synthfm-v1", "synthfm-v1", None),
    }
    assert len({r.protocol_hash for r in steps}) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"segmenters": ({"use": "toys:Ball", "params": {"mod": "exact"}},)},
            "unknown parameter of segmenter 'toys:Ball' 'mod'",
        ),
        ({"clickers": ({"use": "random", "params": {"speed": 3}},)}, "has no parameter .speed."),
    ],
)
def test_a_parameter_that_there_is_not_is_refused_before_anything_is_played(change, message):
    with pytest.raises(InputError, match=message):
        make_plan(suite(**change))


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "steps.jsonl").write_text("precious\n")
    with pytest.raises(InputError, match="already holds files"):
        run(suite(), tmp_path)
    assert (tmp_path / "run" / "steps.jsonl").read_text(encoding="utf-8") == "precious\n"


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
    assert {spec.case.data.name for spec in plan.specs} == {"synthetic"}
    (note,) = plan.notes
    assert note.startswith("mni152 is left out")
    assert "synthfm_env[real]" in note
    with pytest.raises(InputError, match="nothing is left to play"):
        make_plan(Suite(**(dict(suite(mni)) | {"data": (mni,)})))


def test_quick_plays_the_mni152_head_and_six_synthetic_cases():
    pytest.importorskip("nilearn", reason="the MNI152 head comes with the extra `real`")
    plan = make_plan(with_choices(load_suite("quick"), segmenters=("toys:Ball",)))
    synthetic = {spec.case.seed for spec in plan.specs if spec.case.data.name == "synthetic"}
    assert len(synthetic) == 6
    head = {(spec.case.case_id, spec.structure) for spec in plan.specs if spec.case.data.name == "mni152"}
    assert head == {("mni152", 2)}
    assert {name: about["oracle"] for name, about in plan.clickers.items()} == {"random": False, "synthfm-mm-v1": True}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env": "SynthFM/Synthetic3-v0"}, "unknown synthetic env 'SynthFM/Synthetic3-v0': did you mean"),
        ({"recipe": "nosuch"}, "unknown recipe 'nosuch'"),
    ],
)
def test_a_synthetic_group_that_cannot_be_made_is_refused_before_anything_is_played(change, message):
    data = SyntheticData(**({"kind": "synthetic", "name": "s", "shape": (8, 32, 32), "cases": 1} | change))
    with pytest.raises(InputError, match=message):
        make_plan(Suite(**(dict(suite()) | {"data": (data,)})))
