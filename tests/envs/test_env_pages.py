"""The documentation pages of the environments say what their docstrings say."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
SCRIPT = runpy.run_path(str(DOCS / "make_env_pages.py"))


def test_pages_are_up_to_date():
    pages = SCRIPT["pages"]()
    assert set(DOCS.glob("envs/*.md")) == set(pages)
    for path, text in pages.items():
        assert path.read_text() == text, "run: python docs/make_env_pages.py"


def test_every_page_has_every_section_in_order():
    for text in SCRIPT["env_pages"]().values():
        headings = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
        assert headings == list(SCRIPT["SECTIONS"])
