"""The code on the documentation pages runs as it stands."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "reinforcement-learning.md"
CODE = re.findall(r"^```python\n(.+?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
NEEDS = {"stable_baselines3": "rl", "RecordVideo": "video"}


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
