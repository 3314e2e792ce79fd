import json
from pathlib import Path

import pytest
from episode_records import episode

from synthfm_bench.analysis.aggregate import make_board
from synthfm_bench.results.merge import join_runs
from synthfm_bench.results.step_record import StepRecord, as_lines
from synthfm_env.errors import InputError

DATA = {"kind": "synthetic", "name": "synthetic", "shape": [4, 16, 16], "cases": 2}
PLAYERS = {"segmenters": ["sam"], "clickers": ["random"]}
SUITE = {"name": "quick", "clicks": 2, "seed": 0, "data": [DATA], **PLAYERS}


def make_run(folder: Path, records: list[StepRecord], status: str = "finished", **suite: object) -> Path:
    folder.mkdir()
    count = len({record.episode_id for record in records})
    about = {"run_id": folder.name, "suite": SUITE | suite, "status": status, "episodes": count}
    (folder / "run.json").write_text(json.dumps(about))
    with (folder / "steps.jsonl").open("w") as file:
        file.write(as_lines(records))
    return folder


def played(model: str, dice: float = 0.5, **fields: object) -> list[StepRecord]:
    return [step for case in "ab" for step in episode([dice, dice], budget=2, model=model, case_id=case, **fields)]


def test_runs_with_other_segmenters_make_one_board(tmp_path):
    one = make_run(tmp_path / "1", played("sam", 0.7), segmenters=["sam"], description="x")
    two = make_run(tmp_path / "2", played("geodesic", 0.6), segmenters=["geodesic"])
    joined = join_runs([one, two])
    assert [row.segmenter for row in make_board(joined.episodes)] == ["sam", "geodesic"]
    assert joined.notes == ()


def test_other_click_rules_of_one_name_are_refused(tmp_path):
    one = make_run(tmp_path / "1", played("sam", clicker="ritm", protocol_hash="a" * 64))
    two = make_run(tmp_path / "2", played("geodesic", clicker="ritm", protocol_hash="b" * 64))
    with pytest.raises(InputError, match=r"click rule ritm has hash aaaaaaaaaaaa in .*1, but bbbbbbbbbbbb in .*2"):
        join_runs([one, two])


def test_every_click_rule_that_differs_is_named(tmp_path):
    records = {
        mark: [s for clicker in ("x", "y", "same") for s in played(mark, clicker=clicker, protocol_hash=clicker + mark)]
        for mark in "ab"
    }
    for mark in "ab":
        records[mark] += played(mark, clicker="z", protocol_hash="equal")
    with pytest.raises(InputError) as caught:
        join_runs([make_run(tmp_path / mark, records[mark]) for mark in "ab"])
    assert all(f"click rule {name} has" in str(caught.value) for name in ("x", "y", "same"))
    assert "click rule z" not in str(caught.value)


@pytest.mark.parametrize("suite", [{"name": "other"}, {"clicks": 5}, {"seed": 1}, {"data": [DATA | {"cases": 3}]}])
def test_runs_of_other_suites_are_refused(tmp_path, suite):
    one, two = make_run(tmp_path / "1", played("sam")), make_run(tmp_path / "2", played("geodesic"), **suite)
    with pytest.raises(InputError, match=f"made by different suites: their (data )?{next(iter(suite))[:4]}"):
        join_runs([one, two])


def test_a_data_set_may_have_another_path_but_needs_the_same_images(tmp_path):
    def data(path: str) -> list[dict[str, str]]:
        return [{"kind": "dataset", "name": "synthetic", "layout": "amos", "path": path}]

    one = make_run(tmp_path / "1", played("sam", image_sha256="1" * 64), data=data("/here"))
    two = make_run(tmp_path / "2", played("geodesic", image_sha256="1" * 64), data=data("/there"))
    other = make_run(tmp_path / "3", played("geodesic", image_sha256="3" * 64), data=data("/there"))
    assert len(join_runs([one, two]).episodes) == 4
    with pytest.raises(InputError, match="the image synthetic/a has hash 1111"):
        join_runs([one, other])


def test_one_name_for_two_weights_gets_their_hashes(tmp_path):
    one = make_run(tmp_path / "1", played("sam", 0.7, model_hash="a1" * 32) + played("geodesic"))
    two = make_run(tmp_path / "2", played("sam", 0.6, model_hash="b2" * 32))
    joined = join_runs([one, two])
    assert [row.segmenter for row in make_board(joined.episodes)] == ["sam (a1a1a1)", "sam (b2b2b2)", "geodesic"]
    assert len({episode.episode_id for episode in joined.episodes}) == 6


def test_the_same_episode_counts_once_if_its_results_are_the_same(tmp_path):
    one = make_run(tmp_path / "1", played("sam"))
    again = make_run(tmp_path / "2", played("sam", t_predict_s=9.0, run_id="2"))
    differs = make_run(tmp_path / "3", played("sam", 0.4))
    joined = join_runs([one, again, one])
    assert len(joined.episodes) == 2
    assert joined.notes == ("2 episodes are in more than one run, with the same results, and count once.",)
    with pytest.raises(InputError, match="different results of episode synthetic/a/liver/sam/random"):
        join_runs([one, differs])


def test_a_stopped_run_gives_what_is_complete_and_says_so(tmp_path):
    records = played("sam")
    run = make_run(tmp_path / "1", records, status="stopped")
    (run / "steps.jsonl").write_text(
        "".join((run / "steps.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:-1])
    )
    joined = join_runs([run])
    assert len(joined.episodes) == 1
    assert joined.notes == ("1 is not finished: 1 of 2 episodes.",)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="name the folder of a run"):
        join_runs([tmp_path])
