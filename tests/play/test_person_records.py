"""Tests records of people: complete, merged with those of simulated clickers, and replayed."""

import dataclasses
import json

import numpy as np
import pytest
from games import SHAPE, made_game, made_suite
from rich.console import Console

from synthfm_agents import make_clicker
from synthfm_bench.execution.run import run_suite
from synthfm_bench.execution.verify import verify
from synthfm_bench.plan import make_plan
from synthfm_bench.play.game import FreeGame
from synthfm_bench.play.person_episode import Thought
from synthfm_bench.play.person_run import PersonRun, suite_of_person
from synthfm_bench.report.html import report
from synthfm_bench.results.merge import join_runs
from synthfm_bench.results.run_directory import read_run
from synthfm_bench.results.step_record import results_hash
from synthfm_bench.suite import with_choices
from synthfm_env import make_segmenter
from synthfm_env.errors import InputError
from synthfm_env.prompts import Click
from synthfm_env.volumes import load_volume

QUIET = Console(quiet=True)
IN_FIRST = Click((5, 10, 10))
IN_SECOND = Click((5, 17, 24))
OUTSIDE = Click((5, 2, 2), positive=False)
SOON = Thought(1.5, 0.25)


def play(game, *episodes):
    """Play the tasks of a game; an episode is a list of clicks, "undo" and "stop"."""
    for index, steps in enumerate(episodes):
        game.open(index)
        for step in steps:
            if step == "undo":
                game.undo(SOON)
            elif step == "stop":
                game.finish(SOON)
            else:
                game.click(step, SOON)
    game.end()
    game.close()


@pytest.fixture
def run(tmp_path):
    play(made_game(tmp_path), [IN_FIRST, OUTSIDE, "undo", "stop"], [IN_SECOND, IN_SECOND, OUTSIDE, OUTSIDE])
    return tmp_path / "anna"


def test_every_step_of_a_person_is_a_record(run):
    first, second = read_run(run).episodes
    assert [step.point_zyx for step in first.steps] == [IN_FIRST.zyx, OUTSIDE.zyx, None, None]
    assert [step.undone for step in first.steps] == [False, False, True, False]
    assert first.steps[2].mask_sha256 == first.steps[0].mask_sha256
    assert [step.outcome for step in second.steps] == ["running", "running", "running", "max_clicks"]
    assert {step.clicker for step in first.steps} == {"human:anna"}
    assert {(step.t_click_s, step.t_pause_s) for step in first.steps} == {(1.5, 0.25)}
    assert all(step.t_predict_s is not None for step in first.steps[:3])
    assert all(step.complied for step in first.steps[:2])
    assert first.steps[0].dice > 0.5
    assert first.steps[0].nsd > 0
    assert not first.oracle


def test_a_persons_run_is_replayed_to_the_same_records(run):
    verdict = verify(run, episodes=None, workers=1, console=QUIET, trusted=True)
    assert verdict.equal
    assert verdict.replayed == 2


def test_a_changed_click_is_found_by_the_replay(run):
    lines = (run / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    changed = json.loads(lines[0])
    changed["point_zyx"][2] += 9
    (run / "steps.jsonl").write_text("\n".join([json.dumps(changed), *lines[1:]]) + "\n")
    verdict = verify(run, episodes=None, workers=1, console=QUIET, trusted=True)
    assert not verdict.equal
    assert len(verdict.differences) == 1
    assert verdict.tampered is not None


def test_people_and_protocols_join_one_board(run, tmp_path):
    play(made_game(tmp_path, "ben"), [IN_FIRST, "stop"], [IN_SECOND, "stop"])
    suite = made_suite(tmp_path)
    simulated = run_suite(suite, make_plan(suite), out=tmp_path / "sim", workers=1, console=QUIET)
    joined = join_runs([run, tmp_path / "ben", simulated.folder])
    assert {episode.clicker for episode in joined.episodes} == {"human:anna", "human:ben", "ritm-3d-v1"}
    assert len(joined.episodes) == 6
    made = report([run, tmp_path / "ben", simulated.folder], tmp_path / "joined", QUIET)
    board = (tmp_path / "joined" / "leaderboard.md").read_text(encoding="utf-8")
    assert "human:anna" in board
    assert "human:ben" in board
    if made.page is not None:
        assert "human:anna" in made.page.read_text(encoding="utf-8")


def test_a_run_goes_on_where_it_was_left(tmp_path):
    game = made_game(tmp_path)
    play(game, [IN_FIRST, "stop"])
    assert json.loads((tmp_path / "anna" / "run.json").read_text(encoding="utf-8"))["status"] == "stopped"
    again = made_game(tmp_path)
    assert [task["done"] for task in again.describe()["tasks"]] == [True, False]
    with pytest.raises(InputError, match="finished before"):
        again.open(0)
    again.open(1)
    again.click(IN_SECOND, SOON)
    again.finish(SOON)
    again.end()
    assert json.loads((tmp_path / "anna" / "run.json").read_text(encoding="utf-8"))["status"] == "finished"
    assert verify(tmp_path / "anna", episodes=None, workers=1, console=QUIET, trusted=True).equal
    with pytest.raises(InputError, match="clickers"):
        PersonRun.open(
            suite_of_person(made_suite(tmp_path), "ben", segmenter="geodesic", practice=False), tmp_path / "anna"
        )


def test_a_structure_that_was_not_finished_leaves_no_record(tmp_path):
    game = made_game(tmp_path)
    game.open(0)
    game.click(IN_FIRST, SOON)
    game.open(1)
    game.click(IN_SECOND, SOON)
    game.finish(SOON)
    game.end()
    assert [episode.structure for episode in read_run(tmp_path / "anna").episodes] == ["2"]


def test_synthetic_cases_are_replayed_too(tmp_path):
    game = made_game(tmp_path, synthetic=True)
    assert game.describe()["target"] == "glimpse"
    game.open(2)
    inside = tuple(int(i) for i in np.argwhere(game.target())[0])
    game.click(Click(inside), SOON)
    with pytest.raises(InputError, match="until the structure is finished"):
        game.target()
    game.finish(SOON)
    assert game.target().any()
    game.end()
    game.close()
    (episode,) = read_run(tmp_path / "anna").episodes
    assert episode.oracle
    assert verify(tmp_path / "anna", episodes=None, workers=1, console=QUIET, trusted=True).equal


def test_the_truth_is_not_shown_in_a_study_by_name(tmp_path):
    game = made_game(tmp_path)
    game.open(0)
    assert game.describe()["target"] == "name"
    assert game.click(IN_FIRST, SOON).facts["dice"] is None
    for secret in (game.target, game.curves):
        with pytest.raises(InputError):
            secret()
    assert game.finish(SOON).facts["dice"] > 0.5
    assert game.target().sum() == 600
    game.close()


def test_practice_shows_outline_and_dice(tmp_path):
    game = made_game(tmp_path, practice=True)
    game.open(0)
    assert game.target().sum() == 600
    assert game.click(IN_FIRST, SOON).facts["dice"] > 0.5
    game.close()


def test_curves_are_those_of_protocols_on_the_same_case(tmp_path):
    game = made_game(tmp_path)
    game.open(0)
    game.click(IN_FIRST, SOON)
    game.finish(SOON)
    curves = game.curves()
    assert list(curves) == ["human:anna", "ritm-3d-v1", "synthfm-mm-v1"]
    suite = made_suite(tmp_path)
    simulated = run_suite(suite, make_plan(suite), out=tmp_path / "sim", workers=1, console=QUIET)
    first = read_run(simulated.folder).episodes[0]
    assert curves["ritm-3d-v1"] == [step.dice for step in first.steps]
    game.close()


def test_each_answer_turns_the_mask_before_into_the_new_one(tmp_path):
    game = made_game(tmp_path)
    game.open(0)
    shown = np.zeros(SHAPE, dtype=np.uint8)
    for step in (IN_FIRST, OUTSIDE, "undo"):
        answer = game.undo(SOON) if step == "undo" else game.click(step, SOON)
        if answer.spans is not None:
            shown[tuple(slice(*span) for span in answer.spans)] = answer.voxels
        assert np.array_equal(shown.view(bool), game.mask)
        assert answer.facts["voxels"] == shown.sum()
    with pytest.raises(InputError, match="outside the volume"):
        game.click(Click((99, 0, 0)), SOON)
    game.close()


def test_there_is_nothing_to_undo_before_a_click(tmp_path):
    game = made_game(tmp_path)
    game.open(0)
    with pytest.raises(InputError, match="no click to undo"):
        game.undo(SOON)
    game.close()


def test_an_image_without_a_label_is_segmented_but_not_scored(tmp_path):
    made_suite(tmp_path)
    game = FreeGame(load_volume(tmp_path / "scan.nii.gz"), make_segmenter("geodesic"))
    game.open(0)
    assert game.click(IN_FIRST, SOON).facts["voxels"] > 100
    assert game.undo(SOON).facts["voxels"] == 0
    game.click(IN_SECOND, SOON)
    game.open(0)
    assert not game.mask.any()
    with pytest.raises(InputError, match="no label"):
        game.target()
    game.close()


def test_thought_is_no_result_but_an_undo_is(run):
    records = read_run(run).records
    slower = [dataclasses.replace(record, t_click_s=9.0, t_pause_s=5.0) for record in records]
    assert results_hash(slower) == results_hash(records)
    kept = [dataclasses.replace(record, undone=False) for record in records]
    assert results_hash(kept) != results_hash(records)


@pytest.mark.parametrize("alias", ["", "two words", "a/b", "x" * 33, "naïve"])
def test_an_alias_that_is_no_plain_word_is_refused(alias):
    with pytest.raises(InputError, match="alias"):
        make_clicker(f"human:{alias}")


def test_a_person_is_not_simulated(tmp_path):
    with pytest.raises(InputError, match="synthfm play"):
        make_clicker("human:anna").act({}, {})
    with pytest.raises(InputError, match="target"):
        make_clicker("human:anna", target="nothing")
    suite = with_choices(made_suite(tmp_path), clickers=("human:anna",))
    with pytest.raises(InputError, match="synthfm play"):
        run_suite(suite, make_plan(suite), out=tmp_path / "sim", workers=1, console=QUIET)
    assert not (tmp_path / "sim").exists()
