import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipyniivue", reason="the extra notebook is not installed")

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorials" / "notebook.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_tutorial_runs_from_its_first_cell_to_its_last():
    notebook = nbformat.read(TUTORIAL, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    widget, rewards, summary = (cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    assert any("application/vnd.jupyter.widget-view+json" in output.data for output in widget)
    assert rewards[0].data["text/plain"].count(",") == 3
    assert "voxels, Dice" in summary[0].text


def test_the_page_shows_the_notebook_s_cells():
    page = TUTORIAL.with_suffix(".md").read_text(encoding="utf-8")
    shown = re.findall(r"^```python\n(.*?)\n```$", page, flags=re.MULTILINE | re.DOTALL)
    cells = nbformat.read(TUTORIAL, as_version=4).cells
    assert shown == [cell.source for cell in cells if cell.cell_type == "code"]
