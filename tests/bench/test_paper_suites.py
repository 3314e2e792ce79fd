"""Plays each paper's suite on small copies of its data sets, with a missing and a broken file in each."""

import json
from functools import cache
from pathlib import Path

import gymnasium as gym
import made_layouts as made
import numpy as np
import pytest
from rich.console import Console

import synthfm_env  # noqa: F401 - registers the envs
from synthfm_bench.analysis.structures import by_structure, printed_tables
from synthfm_bench.execution.replay import Replayer
from synthfm_bench.execution.run import run_suite
from synthfm_bench.plan import make_plan
from synthfm_bench.players import build_segmenter
from synthfm_bench.results.run_directory import read_run
from synthfm_bench.suite import load_suite, parse_suite, with_choices
from synthfm_env.envs.prompt_env import PromptEnv
from synthfm_env.errors import InputError
from synthfm_env.volumes.datasets import get_layout
from synthfm_train.sam2.recipe import load_recipe

QUIET = Console(stderr=True, quiet=True)
PAPERS = (
    *("synthfm-table1", "synthfm-table1-3d", "synthfm-table2", "synthfm-table3"),
    *("synthfm3d", "sam2-3dmed", "sam2-3dmed-volumes", "knee-mr", "medsam-2"),
)


def breaks(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """All data sets of the papers, small, with holes."""
    root = tmp_path_factory.mktemp("papers") / "data"
    made.amos_cases(root / "amos22", ("0004", "0007", "0009", "0507", "0511"))
    (root / "amos22/labelsTr/amos_0007.nii.gz").unlink()
    breaks(root / "amos22/imagesTr/amos_0009.nii.gz")
    breaks(root / "amos22/imagesTr/amos_0511.nii.gz")
    made.chaos(root / "CHAOS")
    breaks(next((root / "CHAOS/Train_Sets/MR/1/T2SPIR/DICOM_anon").glob("*.dcm")))
    made.totalsegmentator_cases(root / "Totalsegmentator_dataset_v201", "ct.nii.gz", ("s0001", "s0002", "s0003"))
    made.totalsegmentator_cases(root / "TotalsegmentatorMRI_dataset_v200", "mri.nii.gz", ("s0001", "s0002"))
    (root / "Totalsegmentator_dataset_v201/s0001/segmentations/kidney_right.nii.gz").unlink()
    breaks(root / "Totalsegmentator_dataset_v201/s0002/segmentations/liver.nii.gz")
    breaks(root / "Totalsegmentator_dataset_v201/s0003/ct.nii.gz")
    made.camus(root / "CAMUS_public")
    made.hc18(root / "HC18")
    (root / "HC18/training_set/000_HC_Annotation.png").unlink()
    breaks(root / "HC18/training_set/010_2HC.png")
    made.fh_ps_aop(root / "FH-PS-AOP")
    breaks(next((root / "FH-PS-AOP").glob("*/image_mha/00002.mha")))
    made.alfi(root / "ALFI")
    (root / "ALFI/Data&Annotations/MI01/Masks/M_MI01_0001.png").unlink()
    breaks(root / "ALFI/Data&Annotations/MI06/Images/I_MI06_0001.png")
    for task, structure in (("Task06_Lung", "cancer"), ("Task07_Pancreas", "pancreas"), ("Task09_Spleen", "spleen")):
        made.msd_cases(root / task, structure, 10, depth=15)
    made.oaizib_cases(root / "OAIZIB-CM", 4)
    (root / "OAIZIB-CM/labelsTs/oaizib_001.nii.gz").unlink()
    breaks(root / "OAIZIB-CM/imagesTs/oaizib_002_0000.nii.gz")
    return root


def play(name: str, data: Path, out: Path, **changes):
    suite = with_choices(load_suite(name), segmenters=("toys:Ball",), root=data)
    suite = parse_suite(json.loads(suite.model_dump_json()) | {"clicks": 3} | changes, name)
    pixels = [g.model_copy(update={"slice_pixels": 10}) if getattr(g, "slices", None) else g for g in suite.data]
    suite = suite.model_copy(update={"data": tuple(pixels)})
    if name.startswith("synthfm-table1"):  # many structures: two of four prompt sets suffice
        suite = suite.model_copy(update={"clickers": suite.clickers[::3]})
    return suite, run_suite(suite, make_plan(suite), out=out, workers=1, console=QUIET)


@pytest.fixture(scope="module")
def played_once(data, tmp_path_factory):
    """Return a function that plays a suite of a paper, each once for all tests."""
    return cache(lambda name: play(name, data, tmp_path_factory.mktemp(name) / "run"))


@pytest.mark.parametrize("name", PAPERS)
def test_a_papers_suite_is_played_whatever_is_missing(played_once, name):
    suite, done = played_once(name)
    run = read_run(done.folder)
    assert run.episodes
    assert not [episode.failure for episode in run.episodes if episode.failure]
    played = {episode.data_id for episode in run.episodes}
    left_out = {one["data"] for one in run.about["left_out"]}
    assert played | left_out == {group.name for group in suite.data}
    for episode in run.episodes:  # slices of volumes or whole volumes, as the suite states
        group = next(group for group in suite.data if group.name == episode.data_id)
        if group.slices:
            assert episode.steps[0].shape_zyx[0] == (group.clip_slices or 1)
            assert "@z" in episode.steps[0].image_id
    for spec in run.about["envs"].values():  # every recorded env can be made again
        env = gym.make(spec["id"], segmenter=made_ball(), **spec["kwargs"])
        env.reset(seed=0)
        env.close()


def made_ball():
    import toys

    return toys.Ball()


def test_a_missing_or_broken_structure_costs_its_row_of_its_case_alone(played_once):
    _, done = played_once("synthfm-table1")
    run = read_run(done.folder)
    rows = {(e.case_id, e.structure) for e in run.episodes if e.data_id == "TotalSegmentator CT"}
    structures = {"aorta", "gallbladder", "kidney left", "kidney right", "liver", "pancreas", "prostate", "spleen"}
    assert {structure for case, structure in rows if case == "s0001"} == structures - {"kidney right"}
    assert {structure for case, structure in rows if case == "s0002"} == structures - {"liver"}
    assert not [case for case, _ in rows if case == "s0003"]
    gone = [one for one in run.about["left_out"] if one["data"] == "TotalSegmentator CT"]
    lost = {(one["image"], one.get("structure")) for one in gone}
    assert lost == {("s0001", "kidney right"), ("s0002", "liver"), ("s0003", None)}
    notes = "\n".join(run.about["notes"])
    assert "TotalSegmentator CT: kidney right of 1 image left out, not readable" in notes
    assert "TotalSegmentator CT: liver of 1 image left out, not readable" in notes


def test_an_image_whose_truth_is_missing_is_counted_and_named(data):
    suite = with_choices(load_suite("synthfm-table1"), segmenters=("toys:Ball",), root=data)
    plan = make_plan(suite)
    lost = {(one["data"], one["image"]) for one in plan.left_out if "no such file" in one["why"]}
    assert {("AMOS CT", "amos_0007.nii.gz"), ("HC18", "000_HC_Annotation.png")} <= lost
    assert any(note.startswith("1 image of AMOS CT left out, a file is missing: ") for note in plan.notes)
    whole_alfi = get_layout("alfi").unpaired(data / "ALFI", "cells")
    assert [path.name for path in whole_alfi] == ["M_MI01_0001.png"]


def test_a_prompt_set_is_one_prompt_and_one_record(data, tmp_path):
    suite, done = play("synthfm-table3", data, tmp_path / "run", clicks=5)
    run = read_run(done.folder)
    for episode in run.episodes:
        (step,) = episode.steps
        positives, negatives = map(int, episode.clicker.split("+"))
        assert [row[3] for row in step.prompt_zyxl] == [1] * positives + [0] * negatives
        assert (step.outcome, step.point_zyx) == ("stopped" if len(step.prompt_zyxl) < 5 else "max_clicks", None)
    replayer = Replayer(suite)
    _, answers = replayer.replay(run.episodes[-1])
    assert [answer.same for answer in answers] == [True]
    replayer.close()


def test_slices_that_count_have_the_pixels_and_the_grey_levels_of_their_volume(data):
    suite = with_choices(load_suite("synthfm-table1"), segmenters=("toys:Ball",), root=data)
    group = suite.data[0].model_copy(update={"slice_pixels": 10, "structures": ("spleen", "kidney right")})
    found = {}
    for rule in ("each", "largest", "middle"):
        plan = make_plan(suite.model_copy(update={"data": (group.model_copy(update={"slices": rule}),)}))
        found[rule] = sorted({(spec.case.z, spec.structure) for spec in plan.specs})
    layout = get_layout("amos")
    truth = layout.load(layout.items(data / "amos22", "CT")[0]).label
    areas = {key: [int((level == key).sum()) for level in truth] for key in (1, 2)}
    assert found["each"] == sorted((z, k) for k, area in areas.items() for z, n in enumerate(area) if n >= 10)
    assert found["largest"] == sorted((int(np.argmax(area)), key) for key, area in areas.items())
    assert len(found["middle"]) == 2
    none = make_plan(suite.model_copy(update={"data": (suite.data[0], *suite.data[-1:])}))  # 100 pixels: none counts
    assert any("has 100 pixels in no slice of" in note for note in none.notes)


def test_slices_of_an_image_are_refused_in_one_line(tmp_path):
    suite = with_choices(load_suite("synthfm-table1"), segmenters=("toys:Ball",), root=tmp_path)
    made.hc18(tmp_path / "HC18")
    hc18 = next(group for group in suite.data if group.name == "HC18")
    wrong = suite.model_copy(update={"data": (hc18.model_copy(update={"slices": "each"}),)})
    with pytest.raises(InputError, match=r'HC18: slices = "each" needs volumes, but .* is an image of one slice'):
        make_plan(wrong)


def test_clips_cover_the_slices_with_the_structure_and_can_be_made_again(played_once):
    suite, done = played_once("sam2-3dmed")
    run = read_run(done.folder)
    played = {(e.data_id, e.steps[0].image_id.split("@")[1]) for e in run.episodes}
    assert played == {  # of 15 slices, of which the last one lacks the structure
        *(("lung tumour", z) for z in ("z000", "z006", "z009")),
        *((task, z) for task in ("spleen", "pancreas") for z in ("z000", "z003")),
    }
    replayer = Replayer(suite)
    _, answers = replayer.replay(run.episodes[-1])
    assert all(answer.same for answer in answers)
    replayer.close()
    board = (done.folder / "leaderboard.csv").read_text(encoding="utf-8").splitlines()[0]
    assert {"iou", "nsd", "hd95_mm"} <= set(board.split(","))


def test_the_recipes_of_sam2_3dmed_train_on_the_side_that_its_suite_does_not_play(data):
    suite = with_choices(load_suite("sam2-3dmed"), segmenters=("toys:Ball",), root=data)
    played = {(spec.case.data.name, spec.case.case_id) for spec in make_plan(suite).specs}
    for name, group in (("spleen", "spleen"), ("pancreas", "pancreas"), ("lung", "lung tumour")):
        recipe = load_recipe(f"sam2-3dmed-{name}", (f"data.root='{data}'",))
        sides = {}
        for side in ("train", "validation"):
            (source,) = recipe.data.generators(side)
            sides[side] = {item.case_id for item in source.items}
        assert (len(sides["train"]), len(sides["validation"])) == (7, 1)
        tested = {case for of, case in played if of == group}
        assert len(tested) == 2
        assert not sides["train"] & sides["validation"]
        assert not (sides["train"] | sides["validation"]) & tested
        assert recipe.phases[0].slices == next(g.clip_slices for g in suite.data if g.name == group)


def test_engine_options_of_a_suite_reach_the_segmenter_and_the_records(data):
    suite = with_choices(load_suite("medsam-2"), root=data)
    assert [build_segmenter(choice).options.memory for choice in suite.segmenters] == ["all", "nearest", "confident"]
    models = make_plan(suite).models
    assert models["memory confident"]["params"]["options"] == {"memory": "confident"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"slices": "clips"}, "need each other"),
        ({"slices": "each", "clip_slices": 4}, "need each other"),
        ({"slices": "clips", "clip_slices": 1}, "clip_slices"),
    ],
)
def test_clips_without_a_length_are_refused(fields, message):
    content = json.loads(load_suite("sam2-3dmed").model_dump_json())
    content["data"] = [{**content["data"][0], "slices": None, "clip_slices": None, **fields}]
    with pytest.raises(InputError, match=message):
        parse_suite(content, "clips")


def test_a_split_is_seeded_and_its_sides_share_no_patient(data):
    suite = with_choices(load_suite("sam2-3dmed"), segmenters=("toys:Ball",), root=data)
    sides = {}
    for side in ("train", "test"):
        groups = [g.model_copy(update={"split": g.split.model_copy(update={"side": side})}) for g in suite.data]
        plan = make_plan(suite.model_copy(update={"data": tuple(groups)}))
        sides[side] = {spec.case.case_id for spec in plan.specs if spec.case.data.name == "spleen"}
    assert not sides["train"] & sides["test"]
    assert (len(sides["train"]), len(sides["test"])) == (8, 2)


@pytest.mark.parametrize("start", ["click", "box", "mask"])
def test_records_hold_the_start_prompt(data, tmp_path, start):
    changes = {"start": start} | ({"start_dice": 0.6} if start == "mask" else {})
    suite = with_choices(load_suite("sam2-3dmed"), segmenters=("toys:Boxes",), clickers=("random",), root=data)
    content = json.loads(suite.model_dump_json()) | {"clicks": 2} | changes
    content["data"] = content["data"][1:2]
    suite = parse_suite(content, "start")
    done = run_suite(suite, make_plan(suite), out=tmp_path / "run", workers=1, console=QUIET)
    run = read_run(done.folder)
    for episode in run.episodes:
        first = episode.steps[0]
        assert first.start.startswith(start)
        assert first.start_score is not None
        key = {"click": "click", "box": "box", "mask": "mask_sha256"}[start]
        assert key in first.start_given
        if start == "mask":
            assert abs(first.start_given["mask_dice"] - 0.6) < 0.15
    (spec,) = run.about["envs"].values()
    env = gym.make(spec["id"], segmenter=made_boxes(), **spec["kwargs"]).unwrapped
    assert isinstance(env, PromptEnv)
    assert env.start.kind == start


def made_boxes():
    import toys

    return toys.Boxes()


def test_a_start_that_the_segmenter_lacks_is_refused_in_one_line(data):
    suite = with_choices(load_suite("sam2-3dmed"), segmenters=("geodesic",), clickers=("random",), root=data)
    with pytest.raises(InputError, match="takes no box as a prompt"):
        make_plan(suite.model_copy(update={"start": "box"}))
    with pytest.raises(InputError, match="start_dice"):
        parse_suite(json.loads(suite.model_dump_json()) | {"start": "box", "start_dice": 0.5}, "x")


def test_a_run_without_new_fields_keeps_its_hash():
    from episode_records import episode

    from synthfm_bench.results.step_record import results_hash

    assert results_hash(episode([0.5, 0.7], budget=2)) == results_hash(episode([0.5, 0.7], budget=2, start="empty"))
    assert results_hash(episode([0.5], budget=1)) != results_hash(episode([0.5], budget=1, start="box tight-v1"))


@pytest.mark.slow
def test_a_papers_table_has_its_rows_its_test_and_its_printed_figures(data, tmp_path):
    suite = with_choices(load_suite("synthfm-table1"), segmenters=("one=toys:Ball", "two=toys:Moody"), root=data)
    groups = [g.model_copy(update={"slice_pixels": 10}) if g.slices else g for g in suite.data]
    suite = suite.model_copy(update={"data": tuple(groups)})
    done = run_suite(suite, make_plan(suite), out=tmp_path / "run", workers=1, console=QUIET)
    lines = (done.folder / "paper.md").read_text(encoding="utf-8").splitlines()
    headings = [cell.strip() for cell in lines[lines.index("## 1+0") + 2].strip("|").split("|")]
    assert headings == [
        *("modality", "structure", "one", "two", "cases", "p (t)", "p (W)"),
        *("printed: UnSAM", "printed: SAM", "printed: SAM 2", "printed: SynthFM"),
    ]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| CT | Prostate")
    ]
    assert [row[7:] for row in rows] == [
        ["3.79", "12.33", "17.06", "34.72"],
        ["16.57", "41.10", "60.01", "78.75"],
        ["3.79", "18.07", "34.53", "54.57"],
        ["17.69", "37.97", "59.66", "77.42"],
    ]
    assert rows[0][4] == "3"  # one case of AMOS, two of TotalSegmentator: prostate/uterus and prostate
    structures = (done.folder / "structures.md").read_text(encoding="utf-8")
    assert "| CT | kidney right |" in structures
    board = [row for row in by_structure(done.rows) if row.data_id == "CT kidney right" and row.clicker == "1+0"]
    run = read_run(done.folder)
    pooled = [e for e in run.episodes if (e.modality, e.structure, e.clicker) == ("CT", "kidney right", "1+0")]
    assert sum(len(row.episodes) for row in board) == len(pooled)
    assert {e.data_id for e in pooled} == {"AMOS CT", "TotalSegmentator CT"}


def test_instances_are_pooled_by_kind_in_every_table(data, tmp_path):
    _, done = play("synthfm-table3", data, tmp_path / "run", clicks=5)
    for name in ("structures.md", "structures.csv", "paper.md"):
        text = (done.folder / name).read_text(encoding="utf-8")
        assert "interphase 1" not in text
        assert "nterphase" in text


def test_printed_figures_are_those_of_the_papers():
    tables = printed_tables()
    assert [len(tables[f"synthfm-table{n}"].rows) for n in (1, 2, 3)] == [19, 3, 2]
    for name, table in tables.items():
        assert set(table.prompts) == {clicker.label for clicker in load_suite(name).clickers}
    liver = tables["synthfm-table1"].rows[4]
    assert (liver.modality, liver.name, liver.values["SynthFM", "3+2"]) == ("CT", "Liver", 87.24)
