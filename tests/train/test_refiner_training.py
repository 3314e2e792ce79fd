"""Tests the refiner's training: recorded inputs, their crops, and resumed runs."""

import json
import math
import os
import signal
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from synthfm_env import Click
from synthfm_env.errors import InputError
from synthfm_env.segmenters.sam2 import RefinerInput, load_refiner
from synthfm_env.segmenters.sam2.multiview.click_prior import ClickPrior
from synthfm_train.display import Display
from synthfm_train.refiner.crop_dataset import Crops
from synthfm_train.refiner.objective import refiner_loss
from synthfm_train.refiner.recipe import load_refiner_recipe
from synthfm_train.refiner.recording import RecordedInput, load_input, save_input
from synthfm_train.run import train

TINY = (
    "data.shape=[[12,32,32],[9,32,32]]",
    "data.recipe='clear'",
    "structures=1",
    "clicks=2",
    "keep=1.0",
    "crop=[12,16]",
    "batch=1",
    "checkpoint_every=1",
    "rounds=[{volumes=2,steps=3,warmup=1},{volumes=2,steps=2,warmup=1}]",
)
RUN = {"recipe": "synthfm3d-refiner", "overrides": TINY, "device": "cpu", "workers": 0}


def recorded(shape: tuple[int, int, int] = (5, 20, 30)) -> RecordedInput:
    rng = np.random.default_rng(0)
    views, near, far, grey = (
        torch.from_numpy(rng.uniform(low, high, size).astype(np.float32))
        for low, high, size in ((-8, 8, (3, *shape)), (-1, 1, shape), (-1, 1, shape), (0, 255, shape))
    )
    clicks = [Click((1, 10, 20)), Click((4, 2, 3), False)]
    box = (slice(0, 5), slice(4, 24), slice(2, 62))
    return RecordedInput(RefinerInput(box, views, ClickPrior(far, near), grey, clicks), (grey > 128).float())


def test_an_input_comes_back_from_its_file_but_for_rounding(tmp_path: Path) -> None:
    kept = recorded()
    save_input(tmp_path / "d.npz", kept)
    back = load_input(tmp_path / "d.npz")
    assert back.inputs.crop == kept.inputs.crop
    assert back.inputs.clicks == kept.inputs.clicks
    assert torch.equal(back.truth, kept.truth)
    np.testing.assert_allclose(back.inputs.views, kept.inputs.views, atol=8 / 127 / 2 + 1e-6)
    np.testing.assert_allclose(torch.stack(back.inputs.prior), torch.stack(kept.inputs.prior), atol=1 / 127)
    np.testing.assert_allclose(back.inputs.grey, kept.inputs.grey, atol=0.5)


def test_crops_are_parts_of_an_input_oriented_like_its_truth(tmp_path: Path) -> None:
    kept = recorded((14, 20, 30))
    truth = (kept.inputs.views[0] > 3).float()
    save_input(tmp_path / "d.npz", RecordedInput(kept.inputs, truth))
    crops = Crops([tmp_path / "d.npz"], (8, 12), seed=3, first=0, count=30)
    shapes = set()
    for i in range(30):
        channels, logits, share = crops[i]
        assert channels.shape[1:] == logits.shape == share.shape
        assert min(share.shape) >= 8
        assert max(share.shape) <= 12
        clear = (channels[1] * 8 - 3).abs() > 0.1
        assert torch.equal(share[clear] > 0.5, channels[1][clear] * 8 > 3)
        shapes.add(tuple(share.shape))
    assert len(shapes) > 5
    later = Crops([tmp_path / "d.npz"], (8, 12), seed=3, first=7, count=3)
    assert all(torch.equal(a, b) for a, b in zip(later[0], crops[7], strict=True))


def test_a_thin_stack_keeps_its_axis(tmp_path: Path) -> None:
    save_input(tmp_path / "d.npz", recorded((5, 20, 30)))
    crops = Crops([tmp_path / "d.npz"], (8, 12), seed=0, first=0, count=10)
    assert {len(crops[i].truth) for i in range(10)} == {5}


def test_the_loss_is_cross_entropy_and_soft_dice() -> None:
    logits, truth = torch.tensor([[[2.0, -1.0]]]), torch.tensor([[[1.0, 0.0]]])
    p, q = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))
    entropy = (-math.log(p) - math.log(1 - q)) / 2
    dice = 1 - (2 * p + 20) / (p + q + 1 + 20)
    assert float(refiner_loss(logits, truth)) == pytest.approx(entropy + dice, rel=1e-5)


@pytest.mark.slow
def test_a_run_stopped_anywhere_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = load_file(train(out=tmp_path / "straight", **RUN))
    shown = Display.step

    def press_ctrl_c(self: Display, done: int, *rest: float) -> None:
        shown(self, done, *rest)
        if done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    broken = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr("synthfm_train.refiner.recording.save_input", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt, match="go on with: synthfm train synthfm3d-refiner --resume"):
            train(out=broken, **RUN)  # before the first volume is whole
    with monkeypatch.context() as patch:
        patch.setattr(Display, "step", press_ctrl_c)
        with pytest.raises(KeyboardInterrupt, match="go on with: synthfm train synthfm3d-refiner --resume"):
            train(out=broken, resume=True, **RUN)
        unfinished = broken / "drafts" / "round0" / ".synthfm-0123456789abcdef.part"
        unfinished.mkdir()  # as a kill in the middle of a volume leaves it
        with pytest.raises(KeyboardInterrupt):
            train(out=broken, resume=True, **RUN)  # in the second round now
    resumed = load_file(train(out=broken, resume=True, **RUN))
    assert all(torch.equal(resumed[name], value) for name, value in straight.items())
    assert not unfinished.exists()
    rows = [json.loads(line) for line in (broken / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["phase"], row["step"]) for row in rows if "val_refined" in row] == [(0, 3), (1, 2)]
    assert any(bool((value != 0).any()) for name, value in resumed.items() if name.startswith("head"))
    load_refiner(broken / "weights.safetensors")


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("clickers=['ritm-3d']", "did you mean ritm-3d-v1"),
        ("rounds.0.volume=3", r"key of rounds.0 'volume': did you mean volumes"),
        ("rounds.0.volumes=1", "rounds.0.volumes"),
        ("data.recipe=cta", "did you mean ct"),
        ("stepz=3", "recipe key 'stepz'"),
    ],
)
def test_a_bad_value_is_named(override: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        load_refiner_recipe("synthfm3d-refiner", (override,))


def test_several_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trains a refiner on one device"):
        train(out=tmp_path, devices=2, **RUN)


def test_rounds_without_inputs_are_named(tmp_path: Path) -> None:
    """Images are left as recorded, so there is nothing to learn from them."""
    images = (*TINY, "data.shape=[1,32,32]")
    with pytest.raises(InputError, match="none of the 2 volumes of round 1 gave an input"):
        train(out=tmp_path, **(RUN | {"overrides": images}))
