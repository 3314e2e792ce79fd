"""Sets one torch thread, as in training, because small work is slower on several; and makes weights to start from."""

import pytest
import torch
from tiny_training import tiny_objective


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """Weights of the tiny SAM 2 to start from, as a training writes them."""
    objective, path = tiny_objective(), tmp_path_factory.mktemp("start") / "weights.safetensors"
    objective.write_weights(objective.model, path, {})
    return path
