"""Tests the style guide of CONTRIBUTING.md: no rejected word, and docstrings that begin with a verb or a name.

``styles/synthfm/RejectedWords.yml``, a rule for Vale, lists the rejected words. Vale is a program that its wheel
downloads at first use, so these tests apply the rule without it.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RULE = (ROOT / "styles" / "synthfm" / "RejectedWords.yml").read_text(encoding="utf-8")
SWAPS = dict(line.strip().rsplit(": ", 1) for line in RULE.partition("swap:\n")[2].splitlines())
REJECTED = re.compile("|".join(rf"\b(?:{pattern})\b" for pattern in SWAPS), flags=re.IGNORECASE)
OPENINGS = re.compile(r"(What|Where|How|Which|Who)\b")
FOLDERS = ("synthfm_env", "agents", "train", "benchmarks", "examples", "tests")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if path != Path(__file__))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "synthfm_env" / "weights").glob("*.md")])


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def rejected_in(text: str, first_line: int = 1) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), first_line):
        for match in REJECTED.finditer(line):
            yield f"{number}: {match.group(0)!r} in {line.strip()!r}"


def prose_of(source: str) -> Iterator[tuple[int, str]]:
    """Yield each comment and each text of a Python source with its first line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}:
            yield token.start[0], token.string


def test_the_rule_finds_what_it_rejects():
    assert list(rejected_in("The card says:\nno errors")) == ["1: 'says' in 'The card says:'"]
    assert SWAPS["lies"] == "is"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_pages_have_no_rejected_word(page):
    text = re.sub(
        r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), page.read_text(encoding="utf-8"), flags=re.M | re.S
    )
    assert list(rejected_in(text)) == []


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_sources_have_no_rejected_word(path):
    found = [hit for line, text in prose_of(path.read_text("utf-8")) for hit in rejected_in(text, line)]
    assert found == []


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_docstrings_begin_with_a_verb_or_a_name(path):
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, documented))
    texts = [text for node in nodes if (text := ast.get_docstring(node))]
    assert [text.splitlines()[0] for text in texts if OPENINGS.match(text)] == []
