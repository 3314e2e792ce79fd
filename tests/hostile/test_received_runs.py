"""Tests a stranger's run: nothing in it is imported, followed or written through without consent."""

import csv
import io
import json
import os
import sys
from pathlib import Path

import pytest
from episode_records import made_episode
from rich.console import Console

from synthfm_bench.analysis.aggregate import make_board
from synthfm_bench.cli import main
from synthfm_bench.execution.replay import Replayer
from synthfm_bench.execution.verify import verify
from synthfm_bench.report.html import report
from synthfm_bench.results.step_record import as_lines, results_hash
from synthfm_bench.suite import Suite
from synthfm_env.errors import InputError

QUIET = Console(stderr=True, quiet=True)
EVIL = "open('pwned', 'w').close()\n"


def stranger(folder: Path, segmenter: str = "evil:Seg", **data: object) -> Path:
    """Write a run with code beside it."""
    group = {"kind": "synthetic", "name": "synthetic", "shape": [4, 32, 32], "cases": 1} | data
    suite = {"name": "quick", "segmenters": [segmenter], "clickers": ["random"], "clicks": 2, "data": [group]}
    records = made_episode([0.5, 0.6], data_id="synthetic", model=segmenter, point_zyx=(1, 2, 3), mask_sha256="0" * 64)
    about = {
        "run_id": "run",
        "status": "finished",
        "episodes": 1,
        "suite": suite,
        "results_hash": results_hash(records),
    }
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "steps.jsonl").write_text(as_lines(records))
    for module in ("evil", "jinja2_extra", "plotly_extra"):
        (folder / f"{module}.py").write_text(EVIL)
    return folder


@pytest.fixture
def inside(tmp_path, monkeypatch):
    folder = stranger(tmp_path / "stranger")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return folder


def synthfm(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["synthfm", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def test_a_report_runs_no_code_of_the_run(inside, monkeypatch, capsys):
    assert synthfm(monkeypatch, "report", ".") == 0
    assert not Path("pwned").exists()
    assert "evil" not in sys.modules
    assert str(inside) not in sys.path
    assert "the run names evil:Seg; --trust-plugins opens it" in Path("report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [["verify", "."], ["bench", "quick", "--resume", "--out", "."]])
def test_playing_it_again_needs_consent(inside, monkeypatch, capsys, command):
    assert synthfm(monkeypatch, *command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "segmenter evil:Seg" in line
    assert "--trust-plugins" in line
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("segmenter", "data", "named"),
    [
        ("geodesic", {"kind": "files", "image": "/etc/passwd", "label": "/etc/passwd"}, "image /etc/passwd"),
        ("geodesic", {"kind": "dataset", "layout": "folder", "path": "/etc"}, "data set /etc"),
        ("/etc/weights.safetensors", {}, "file /etc/weights.safetensors"),
        ("geodesic", {"recipe": "/etc/recipe.toml"}, "recipe /etc/recipe.toml"),
    ],
)
def test_paths_are_shown_and_not_followed(tmp_path, segmenter, data, named):
    if data.get("kind"):
        data = {"shape": None, "cases": None} | data
    folder = stranger(tmp_path / "run", segmenter, **data)
    about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    about["suite"]["data"][0] = {k: v for k, v in about["suite"]["data"][0].items() if v is not None}
    (folder / "run.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=named):
        verify(folder, episodes=None, workers=1, console=QUIET)
    page = report([folder], None, QUIET).page
    assert page is not None
    assert f"Not drawn: the run names {named}" in page.read_text(encoding="utf-8")


def test_an_env_id_imports_nothing(tmp_path):
    folder = stranger(tmp_path / "run", "geodesic", env="evil:SynthFM/Synthetic3D-v0")
    joined = report([folder], None, QUIET)
    suite = Suite.model_validate(json.loads((folder / "run.json").read_text(encoding="utf-8"))["suite"])
    with pytest.raises(InputError, match="unknown synthetic env"):
        Replayer(suite).replay(joined.rows[0].episodes[0])
    assert "evil" not in sys.modules


def test_planted_links_are_never_written_through(inside, monkeypatch, capsys, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("leaderboard.md", "leaderboard.csv", "pairs.csv", "report.html", "steps.parquet"):
        os.symlink(victim, name)
        os.symlink(victim, f".{name}.part")
    assert synthfm(monkeypatch, "report", ".") == 0
    assert victim.read_text(encoding="utf-8") == "precious"
    assert not Path("leaderboard.md").is_symlink()


def test_an_edited_score_is_told(inside, monkeypatch, capsys):
    text = Path("steps.jsonl").read_text(encoding="utf-8")
    Path("steps.jsonl").write_text(text.replace('"dice":0.6', '"dice":0.9'))
    assert synthfm(monkeypatch, "report", ".") == 1
    assert "they were changed since the run finished" in capsys.readouterr().err


def test_a_bad_line_is_named_and_the_other_episodes_are_shown(inside, monkeypatch, capsys):
    more = as_lines(made_episode([0.3, 0.4], data_id="synthetic", model="evil:Seg", case_id="other"))
    Path("steps.jsonl").write_text(Path("steps.jsonl").read_text(encoding="utf-8") + "garbage\n" + more)
    assert synthfm(monkeypatch, "report", ".") == 1
    captured = capsys.readouterr()
    assert "steps.jsonl, line 3: no step record" in captured.err
    assert "--resume" in captured.err
    assert "(2 cases)" in captured.out


def test_the_board_of_hostile_names_renders_as_text(tmp_path):
    from markdown_it import MarkdownIt

    from synthfm_bench.report.markdown import markdown_board
    from synthfm_bench.results.episode_result import episodes_of

    evil = "<img src=x onerror=alert(1)> | **b** [x](javascript:y) `c` ![i](http://e)\n# h"
    records = made_episode([0.5, 0.6], data_id=evil, model=f"m{evil}", clicker=f"c{evil}", case_id=evil)
    html = (
        MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .render(markdown_board(make_board(episodes_of(records)), "x"))
    )
    for tag in ("<img", "<script", "<a ", "<strong", "<em>", "<code", "<h3"):
        assert tag not in html
    assert html.count("<h1") == 1
    assert "&lt;img src=x onerror=alert(1)&gt; |" in html


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2", "@SUM(A1)", " =1", "a;=1+1", "\uff1d1+1", "'=1"]


@pytest.mark.parametrize("name", FORMULAS)
def test_no_cell_of_a_csv_file_is_a_formula(tmp_path, name):
    from synthfm_bench.report.files import write_tables
    from synthfm_bench.results.episode_result import episodes_of

    records = [
        step
        for case in ("a", "b")
        for model, dice in ((f"{name} one", 0.5), (f"{name} two", 0.9))
        for step in made_episode(
            [dice] * 5, data_id=name, model=model, clicker=name, case_id=case, structure=name, protocol="cvpr25-v1"
        )
    ]
    write_tables(tmp_path, name, "0" * 64, make_board(episodes_of(records)))
    files = sorted(tmp_path.glob("*.csv"))
    assert [file.name for file in files] == ["cvpr25.csv", "leaderboard.csv", "pairs.csv", "structures.csv"]
    for file in files:
        lines = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"))))
        assert len({len(line) for line in lines}) == 1
        for part in (part for line in lines for cell in line for part in cell.split(";")):
            assert part.strip()[:1] not in tuple("=+@\uff1d\uff0b\uff0d\uff20")
            assert not part.strip().startswith("-") or float(part) < 0
