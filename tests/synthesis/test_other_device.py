"""Finds faults that fail on a GPU alone, without one: tensors made or left on the wrong device."""

import pytest
import torch
from golden import digest
from other_device import elsewhere

from synthfm_env.synthesis import SynthFM3D, list_recipes


def test_mixing_devices_fails_there():
    with elsewhere() as device:
        there, here = torch.ones(3, device=device), torch.ones(3)
        assert float((there + 1).sum()) == 6
        assert float((there * torch.tensor(2.0)).sum()) == 6, "single values may come from the CPU"
        assert float((there + here.to(device)).sum()) == 6
        with pytest.raises(AssertionError, match="two devices"):
            there + here
        with pytest.raises(AssertionError, match="two devices"):
            there.add_(torch.as_tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("recipe", list_recipes())
def test_volumes_are_drawn_on_the_device_asked_for(recipe):
    for shape, seeds in (((6, 48, 48), range(2)), ((1, 64, 64), range(2, 3))):
        with elsewhere() as device:
            there = [digest(v) for v in SynthFM3D(shape, recipe, device).sample_batch(seeds)]
        assert there == [digest(v) for v in SynthFM3D(shape, recipe).sample_batch(seeds)]
