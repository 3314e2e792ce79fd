"""Publishes a run: evaluation results, a model card, the challenge's scores, a Codabench bundle."""

import json
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from episode_records import episode
from scipy import integrate

from synthfm_bench.analysis.aggregate import make_board
from synthfm_bench.players import own_code
from synthfm_bench.publish import codabench
from synthfm_bench.publish.codabench import write_bundle
from synthfm_bench.publish.cvpr25_scores import csv_scores, score_case
from synthfm_bench.publish.eval_results import check_dataset_id, write_eval_results
from synthfm_bench.report.csv_board import csv_board
from synthfm_bench.results.episode_result import episodes_of
from synthfm_bench.suite import SUITES, Choice, load_suite
from synthfm_env.errors import InputError
from synthfm_env.volumes.datasets import get_layout


def board(models=("one/with: a slash", "two"), **fields):
    records = []
    for case in ("a", "b", "c"):
        for model in models:
            records += episode([0.2, 0.5, 0.6, 0.7, 0.8], budget=5, case_id=case, model=model, **fields)
    return make_board(episodes_of(records))


def test_evaluation_results_are_what_the_hub_reads(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="needs the extra hub")
    yaml = pytest.importorskip("yaml")
    rows = board()
    paths = write_eval_results(
        tmp_path, rows, dataset_id="lab/synthfm-quick", suite="quick", results_hash="f" * 64, date="2026-11-29"
    )
    assert [path.parts[-3] for path in paths] == ["one-with-a-slash", "two"]
    read = yaml.safe_load(paths[1].read_text(encoding="utf-8"))
    assert {entry["dataset"]["id"] for entry in read} == {"lab/synthfm-quick"}
    assert read[0]["value"] == pytest.approx(0.8)
    assert read[0]["dataset"]["task_id"].endswith("dice@5")
    assert "3 cases" in read[0]["notes"]
    card = hub.ModelCard.load(paths[1].parents[1] / "README.md")
    assert card.data.library_name == "synthfm_env"
    assert "0.800" in card.text
    assert "pushed to the Hub" not in card.text


def test_segmenters_whose_names_have_one_slug_get_a_folder_each(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="needs the extra hub")
    names = ("a b", "a:b", "A b", "a-b-2")
    paths = write_eval_results(
        tmp_path, board(names), dataset_id="lab/quick", suite="quick", results_hash="f" * 64, date="2026-11-29"
    )
    cards = [(path.parents[1] / "README.md").read_text(encoding="utf-8") for path in paths]
    assert len({path.parents[1].name.lower() for path in paths}) == len(names)
    assert [f"# {name}\n" in card for name, card in zip(sorted(names), cards, strict=True)] == [True] * len(names)


@pytest.mark.parametrize("name", ["bridge:touch x", "cvpr25:sh x.sh", "nninteractive:http://127.0.0.1:1", "toys:Ball"])
def test_commands_and_servers_that_a_run_names_need_trust(name: str) -> None:
    assert own_code(Choice(use=name)) == [name]
    assert own_code(Choice(use="random", params={"segmenter": name})) == [name]
    assert own_code(Choice(use="random-walker")) == []


@pytest.mark.parametrize("name", ["", "quick", "a/b/c", "a b/c", "a/..", "../b", "a/.b", "a/b..c"])
def test_a_data_set_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="OWNER/NAME"):
        check_dataset_id(name)


def test_the_challenges_scores_equal_its_own_arithmetic() -> None:
    one = episode([0.1, 0.2, 0.3, 0.4, 0.5], budget=5, case_id="a", structure="1")
    two = episode([0.2, 0.3, 0.5, 0.6, 0.9], budget=5, case_id="a", structure="2")
    episodes = episodes_of([*one, *two])
    scores = score_case(list(episodes))
    dsc = np.mean([e.dice for e in episodes_of([*one, *two])], axis=0)
    nsd = np.where(dsc > 0.2, np.mean([e.nsd for e in episodes_of([*one, *two])], axis=0), 0)
    assert scores.dsc_auc == pytest.approx(integrate.cumulative_trapezoid(dsc, np.arange(5))[-1])
    assert scores.nsd_auc == pytest.approx(integrate.cumulative_trapezoid(nsd, np.arange(5))[-1])
    assert (scores.dsc_final, scores.nsd_final) == pytest.approx((0.7, nsd[-1]))


def test_only_boards_of_the_challenges_clicks_have_its_table() -> None:
    assert csv_scores(board()) is None
    table = csv_scores(board(protocol="cvpr25-v1"))
    assert table is not None
    assert table.splitlines()[0].endswith("dsc_auc,nsd_auc,dsc_final,nsd_final")
    assert len(table.splitlines()) == 3


def test_a_bundle_keeps_its_seed_in_the_hidden_data_alone(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    write_bundle(tmp_path / "bundle.zip", "synthetic-3d", 918273645, "lab/synthfm:1")
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert json.loads(texts["hidden/secret.json"]) == {"suite": "synthetic-3d", "seed": 918273645}
    assert [name for name, text in texts.items() if "918273645" in text] == ["hidden/secret.json"]
    competition = yaml.safe_load(texts["competition.yaml"])
    task = competition["tasks"][0]
    for key in ("input_data", "ingestion_program", "scoring_program"):
        assert any(name.startswith(f"{task[key]}/") for name in texts)
    for name in ("ingestion_program/ingestion.py", "scoring_program/scoring.py"):
        compile(texts[name], name, "exec")


@pytest.mark.parametrize(("suite", "seed"), [("quick", 5), ("synthetic-3d", 0), ("nosuch", 5)])
def test_a_challenge_that_could_leak_is_refused(tmp_path: Path, suite: str, seed: int) -> None:
    with pytest.raises(InputError):
        write_bundle(tmp_path / "bundle.zip", suite, seed, "image")
    assert not list(tmp_path.iterdir())


def test_a_challenge_of_a_file_that_the_image_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the image has no such file"):
        write_bundle(tmp_path / "bundle.zip", str(SUITES / "synthetic-3d.toml"), 5, "image")


def test_a_challenge_of_fewer_clicks_than_are_scored_is_refused(tmp_path: Path, monkeypatch) -> None:
    short = load_suite("synthetic-3d").model_copy(update={"clicks": 3})
    monkeypatch.setattr(codabench, "load_suite", lambda name: short)
    with pytest.raises(InputError, match="plays 3 clicks"):
        write_bundle(tmp_path / "bundle.zip", "synthetic-3d", 5, "image")


@pytest.fixture
def run_program(tmp_path: Path, monkeypatch):
    """Return a function that runs a bundle's program with paths as arguments."""
    write_bundle(tmp_path / "bundle.zip", "synthetic-3d", 5, "image")
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        archive.extractall(tmp_path / "bundle")

    def run(name: str, *arguments: Path) -> None:
        program = str(tmp_path / "bundle" / f"{name}_program" / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
        runpy.run_path(program)

    return run


@pytest.mark.parametrize("plays", [True, False])
def test_a_submission_with_failed_episodes_is_scored(tmp_path: Path, run_program, monkeypatch, plays: bool) -> None:
    (tmp_path / "submission").mkdir()
    (tmp_path / "submission" / "command.txt").write_text("python model.py\n")

    def bench(command, cwd, check=False):
        if plays:
            (tmp_path / "output" / "run").mkdir(parents=True)
            (tmp_path / "output" / "run" / "leaderboard.csv").touch()
        finished = subprocess.CompletedProcess(command, 1)
        if check:
            finished.check_returncode()
        return finished

    monkeypatch.setattr(subprocess, "run", bench)
    paths = [tmp_path / "bundle" / "hidden", tmp_path / "output", tmp_path / "submission"]
    if plays:
        run_program("ingestion", *paths)
    else:
        with pytest.raises(SystemExit, match="status 1 and wrote no board"):
            run_program("ingestion", *paths)


def test_a_submission_is_scored_by_oracle_clickers_alone(tmp_path: Path, run_program) -> None:
    records = []
    for clicker, dice, oracle in (("random", 0.1, False), ("ritm-3d-v1", 0.6, True), ("synthfm-mm-v1", 0.8, True)):
        records += episode([dice] * 5, budget=5, model="submission", clicker=clicker, oracle=oracle)
    records += episode([0.9] * 5, budget=5, model="other", clicker="ritm-3d-v1", oracle=True)
    (tmp_path / "res" / "run").mkdir(parents=True)
    (tmp_path / "res" / "run" / "leaderboard.csv").write_text(csv_board(make_board(episodes_of(records))))
    run_program("scoring", tmp_path, tmp_path)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores == pytest.approx({"dice@1": 0.7, "dice@5": 0.7, "nauc": 0.7})


def test_the_challenges_files_are_read_with_labels_inside_or_beside(tmp_path: Path) -> None:
    image = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    label = np.zeros((3, 4, 5), np.uint8)
    label[1, 1:3, 2] = 2
    np.savez_compressed(tmp_path / "CT_inside.npz", imgs=image, gts=label, spacing=[5.0, 1.0, 0.5])
    layout = get_layout("cvpr25")
    (item,) = layout.items(tmp_path)
    volume = layout.load(item)
    assert (volume.modality, volume.spacing, volume.image.shape) == ("CT", (5.0, 1.0, 0.5), (3, 4, 5))
    assert volume.truth(2).sum() == 2
    (tmp_path / "CT_inside.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="holds no array"):
        layout.load(item)
