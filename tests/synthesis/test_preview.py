import numpy as np
import pytest

from synthfm_env.errors import InputError
from synthfm_env.synthesis import SynthFM3D, contact_sheet, preview_volumes
from synthfm_env.synthesis import contact_sheets as preview


def test_a_preview_shows_every_style_of_the_recipe():
    volumes = preview_volumes((4, 48, 48), {"styles": {"CT": 1, "US": 0, "MR": 2}}, seed=5, each=2)
    assert [v.modality for v in volumes] == ["CT", "CT", "MR", "MR"]
    assert [v.metadata["seed"] for v in volumes] == [5, 6, 5, 6]


@pytest.mark.parametrize("shape", [(6, 48, 48), (1, 64, 48)])
def test_a_contact_sheet_shows_pictures_and_contours(tmp_path, shape):
    pyplot = pytest.importorskip("matplotlib.image", reason="the preview is drawn with matplotlib")
    path = tmp_path / "sheet.png"
    contact_sheet([SynthFM3D(shape, "clear").sample(seed) for seed in range(2)], path)
    picture = pyplot.imread(path)[..., :3]
    colourful = np.ptp(picture, axis=2) > 0.2
    assert 0.002 < colourful.mean() < 0.5
    assert picture.std() > 0.1
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize(("name", "begin"), [("sheet.svg", b"<?xml"), ("sheet.pdf", b"%PDF")])
def test_a_sheet_has_the_format_of_its_name(tmp_path, name, begin):
    pytest.importorskip("matplotlib", reason="the preview is drawn with matplotlib")
    contact_sheet([SynthFM3D((1, 48, 48), "clear").sample(0)], tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begin)


def test_a_sheet_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    volumes = [SynthFM3D((1, 48, 48), "clear").sample(0)]
    with pytest.raises(InputError, match="there is no folder"):
        contact_sheet(volumes, tmp_path / "none" / "sheet.png")
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        contact_sheet(volumes, tmp_path / "taken.png")
    assert [p.name for p in tmp_path.iterdir()] == ["taken.png"]
    with pytest.raises(InputError, match=r"\.png"):
        contact_sheet(volumes, tmp_path / "sheet.nii")
    with pytest.raises(InputError, match="no volumes"):
        contact_sheet([], tmp_path / "sheet.png")
    monkeypatch.setattr(preview, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="matplotlib"):
        contact_sheet(volumes, tmp_path / "sheet.png")
