"""The documentation pages of the clickers say what their docstrings say, and the overview names each."""

import runpy
from pathlib import Path

from synthfm_agents import list_clickers

DOCS = Path(__file__).parents[2] / "docs" / "protocols"
SCRIPT = runpy.run_path(str(DOCS / "make_pages.py"))


def test_pages_are_up_to_date():
    pages = SCRIPT["pages"]()
    assert set(DOCS.glob("*.md")) - {DOCS / "README.md"} == set(pages)
    for path, text in pages.items():
        assert path.read_text() == text, "run: python docs/protocols/make_pages.py"


def test_the_overview_links_every_page():
    overview = (DOCS / "README.md").read_text()
    assert [name for name in list_clickers() if f"[{name}]({name}.md)" not in overview] == []
