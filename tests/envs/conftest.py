import gymnasium as gym
import pytest
from env_cases import BALL, SMALL, small_dataset, small_volume

from synthfm_env import save_volume


@pytest.fixture
def volume():
    return small_volume()


@pytest.fixture
def make(tmp_path):
    """Return a function that makes an environment of an id on a small grid, with the ball segmenter."""
    made = []

    def make_env(env_id, **kwargs):
        small = SMALL.get(env_id)
        if env_id == "SynthFM/Dataset-v0":
            small = {"data": str(small_dataset(tmp_path / "data")), "cache": str(tmp_path / "cache")}
            small |= {"spacing": [3.0, 1.0, 1.0], "shape": [8, 24, 20], "split": "all"}
        if small is None:
            image, label = tmp_path / "image.nii.gz", tmp_path / "label.nii.gz"
            if not image.exists():
                save_volume(small_volume(), image, label)
            small = {"image": str(image), "label": str(label)}
        made.append(gym.make(env_id, **{**small, "segmenter": BALL, **kwargs}))
        return made[-1]

    yield make_env
    for env in made:
        env.close()
