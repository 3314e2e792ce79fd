import made_layouts
import pytest
from tiny_training import CLIPS, TINY

from synthfm_env import make_segmenter
from synthfm_env.errors import InputError
from synthfm_train.run import train
from synthfm_train.sam2 import objective
from synthfm_train.sam2.real_volumes import DatasetSource, RealVolumes
from synthfm_train.sam2.recipe import load_recipe

SPLEEN = "{ layout = 'msd', path = 'Task09_Spleen', structures = ['spleen'] }"


@pytest.fixture
def root(tmp_path):
    made_layouts.msd_cases(tmp_path / "Task09_Spleen", "spleen", 10, depth=8)
    return tmp_path


def test_training_reads_the_volumes_of_a_data_set(root):
    real = (f"data.root='{root}'", f"data.datasets=[{SPLEEN}]", "data.planes='z'")
    weights = train("synthfm3d-nano", out=root / "run", overrides=(*TINY, CLIPS, *real), device="cpu", workers=0)
    assert make_segmenter(str(weights)).model.image_size == 32


def test_a_seed_draws_the_same_patient_and_sides_are_apart(root):
    source = DatasetSource(layout="msd", path="Task09_Spleen")
    training, validating = (RealVolumes(source, str(root), side) for side in ("train", "validation"))
    drawn = {training.sample(seed).case_id for seed in range(40)}
    assert drawn == {item.case_id for item in training.items}
    assert not drawn & {item.case_id for item in validating.items}
    assert training.sample(3).case_id == training.sample(3).case_id


def test_missing_files_and_unknown_layouts_are_named(root):
    with pytest.raises(InputError, match=r"Task09_Spleen: there is no such folder"):
        RealVolumes(DatasetSource(layout="msd", path="Task09_Spleen"), str(root / "none"), "train")
    with pytest.raises(InputError, match="did you mean msd"):
        load_recipe("sam2-3dmed-spleen", ("data.datasets=[{layout='mds', path='.'}]",))
    few = root / "few"
    made_layouts.msd_cases(few, "spleen", 1)
    with pytest.raises(InputError, match="1 images leave none for train"):
        RealVolumes(DatasetSource(layout="msd", path="few"), str(root), "train")


def test_a_missing_folder_is_told_before_weights_are_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(objective, "start_model", lambda recipe: pytest.fail("weights were asked for"))
    with pytest.raises(InputError, match="there is no such folder"):
        train("sam2-3dmed-spleen", out=tmp_path / "run", overrides=("data.root=/nonexistent",), device="cpu", workers=0)


@pytest.mark.slow
def test_the_recipe_of_sam2_3dmed_trains_memory_and_decoder_on_its_patients(root):
    small = "phases=[{steps=2,image_size=64,volumes=1,cuts=1,slices=3,objects=1,clicks=1,dense=0.0,lr=1e-4}]"
    changes = ("weights=random", "precision=float32", "validation_volumes=1", "data.min_pixels=8", small)
    weights = train(
        "sam2-3dmed-spleen", out=root / "run", overrides=(*changes, f"data.root='{root}'"), device="cpu", workers=0
    )
    assert make_segmenter(str(weights)).model.image_size == 64
