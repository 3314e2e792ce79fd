"""Runs the code of tutorials and how-to pages in the order of each page, and the examples.

Blocks marked ``python`` and ``bash`` run; unmarked ones (installation, long runs, your own files) are only read: each
``synthfm`` command in them must parse.
"""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import torch
from typer.main import get_command

from synthfm_bench import cli
from synthfm_bench.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs" / "tutorials").glob("*.md"), ROOT / "docs" / "how-to" / "reinforcement-learning.md"])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
NEEDS = {name: name for name in ("stable_baselines3", "sb3_contrib", "torchrl")} | {
    "RecordVideo": "moviepy",
    "notebook.play": "ipyniivue",
}


def blocks(page: Path) -> list[tuple[str, str]]:
    return [
        (language, text) for language, text in BLOCK.findall(page.read_text(encoding="utf-8")) if "--8<--" not in text
    ]


def commands(text: str) -> list[list[str]]:
    """Return the arguments of each ``synthfm`` command in a text; a backslash continues a line."""
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.lstrip().startswith("synthfm ")]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # moviepy leaves its pipes to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for language, text in blocks(page):
        for word, package in NEEDS.items():
            if word in text:
                pytest.importorskip(package)
        if language == "toml":
            Path("tiny.toml").write_text(text)
        elif language == "python":
            exec(compile(text, str(page), "exec"), names)
        elif language == "bash":
            for arguments in commands(text):
                monkeypatch.setattr(sys, "argv", ["synthfm", *arguments])
                with pytest.raises(SystemExit) as end:
                    cli.main()
                assert end.value.code == 0, arguments


@pytest.mark.parametrize("page", sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]), ids=lambda p: p.stem)
def test_every_command_that_a_page_shows_exists(page):
    shown = [arguments for _, text in blocks(page) for arguments in commands(text)]
    for arguments in shown:
        command, rest = get_command(app), list(arguments)
        while rest and hasattr(command, "commands"):
            assert rest[0] in command.commands, arguments
            command = command.commands[rest.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        unknown = [word for word in rest if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in options]
        assert unknown == [], arguments


EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


ARGUMENTS = {"ppo": ["1"]}  # one update instead of two
RECORDED = "behavioural_cloning"  # takes a recorded data set: tests/bench/test_minari_recorder.py runs it


def test_these_are_all_examples():
    assert [path.stem for path in EXAMPLES] == [
        RECORDED,
        "one_episode",
        "own_clicker",
        "own_segmenter",
        "ppo",
        "train_small",
    ]


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.stem != RECORDED], ids=lambda path: path.stem)
def test_an_example_runs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [path.name, *ARGUMENTS.get(path.stem, [])])
    with torch.random.fork_rng(devices=[]):  # a script may seed its own process, and here that is the tests'
        runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out
