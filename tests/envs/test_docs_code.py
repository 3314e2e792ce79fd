"""The code on the documentation pages runs as it stands."""

import re
from pathlib import Path

import pytest

from synthfm_env.testing import check_segmenter

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "reinforcement-learning.md"
CODE = re.findall(r"^```python\n(.+?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
NEEDS = {"stable_baselines3": "rl", "RecordVideo": "video"}


def test_the_segmenter_shown_to_contributors_keeps_the_contract():
    page = Path(__file__).parents[2] / "CONTRIBUTING.md"
    (code,) = (
        block for block in re.findall(r"^```python\n(.+?)^```", page.read_text(), re.M | re.S) if "Segmenter" in block
    )
    shown = {"__name__": "my_segmenter"}
    exec(compile(code, str(page), "exec"), shown)
    check_segmenter(shown["Alike"]())


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # moviepy leaves its pipes to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("code", CODE, ids=range(len(CODE)))
def test_code_runs(code, tmp_path, monkeypatch, capsys):
    for word, extra in NEEDS.items():
        if word in code:
            pytest.importorskip("moviepy" if extra == "video" else word, reason=f"needs the extra {extra}")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(PAGE), "exec"), {"__name__": "page"})
    if "print(" in code:
        assert capsys.readouterr().out
