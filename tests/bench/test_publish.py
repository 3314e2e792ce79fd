"""Publishes a run: evaluation results, a model card, the challenge's scores, a Codabench bundle."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from episode_records import episode
from scipy import integrate

from synthfm_bench.analysis.aggregate import make_board
from synthfm_bench.players import own_code
from synthfm_bench.publish.codabench import write_bundle
from synthfm_bench.publish.cvpr25_scores import csv_scores, score_case
from synthfm_bench.publish.eval_results import check_dataset_id, write_eval_results
from synthfm_bench.results.episode_result import episodes_of
from synthfm_bench.suite import Choice
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
