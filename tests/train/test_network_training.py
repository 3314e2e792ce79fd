"""Tests the training of the volume network: resumed runs, simulated clicks, losses."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from synthfm_env import Click, make_segmenter
from synthfm_env.errors import InputError
from synthfm_env.segmenters.focus import FocusPolicy
from synthfm_env.segmenters.volume_network.network import NetworkOutput
from synthfm_train.loop import BatchLoss
from synthfm_train.run import train
from synthfm_train.volume_network.episodes import EpisodePool, damaged, with_leak
from synthfm_train.volume_network.losses import losses
from synthfm_train.volume_network.objective import NetworkObjective
from synthfm_train.volume_network.recipe import load_network_recipe
from synthfm_train.volume_network.volumes import TrainingVolume, augment

TINY = (
    "widths=[8,8]",
    "pool=4",
    "data.shapes=[[16,32,32]]",
    "data.recipes=['clear']",
    "flat_data.shapes=[[3,32,32]]",
    "flat_data.recipes=['clear']",
    "validation_volumes=1",
    "evaluate_every=100",
    "checkpoint_every=1",
    "phases=[{steps=3,grid=[8,8,8],batch=2,flat_grid=[4,8,8],flat_share=0.4},{steps=4,grid=[12,12,12],batch=2}]",
)


def run(out, *, resume=False):
    return train("synthfm3d-unet", out=out, overrides=TINY, device="cpu", workers=0, resume=resume)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    out = tmp_path_factory.mktemp("straight")
    run(out)
    return out


@pytest.mark.parametrize("stopped_at", [(0, 2), (1, 0), (1, 3)])
def test_a_run_that_broke_off_resumes_to_the_same_bytes(straight, tmp_path, monkeypatch, stopped_at):
    loss = NetworkObjective.loss

    def failing(self, phase: int, step: int) -> BatchLoss:
        if (phase, step) == stopped_at:
            raise RuntimeError("the machine went away")
        return loss(self, phase, step)

    monkeypatch.setattr(NetworkObjective, "loss", failing)
    with pytest.raises(RuntimeError, match="went away"):
        run(tmp_path)
    monkeypatch.undo()
    run(tmp_path, resume=True)
    expected, found = (load_file(out / "weights.safetensors") for out in (straight, tmp_path))
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    logs = [
        [{k: v for k, v in json.loads(line).items() if k not in ("wait", "seconds", "minutes")} for line in text]
        for text in ((out / "metrics.jsonl").read_text(encoding="utf-8").splitlines() for out in (straight, tmp_path))
    ]
    assert logs[0] == logs[1]


def test_trained_weights_are_a_segmenter(straight):
    segmenter = make_segmenter(str(straight / "weights.safetensors"))
    with segmenter.start(np.zeros((16, 32, 32), np.uint8), (1, 1, 1)) as session:
        assert session.add(Click((8, 16, 16))).mask[8, 16, 16]


def test_a_run_draws_a_picture_of_its_validation(straight):
    assert sorted(path.name for path in (straight / "pictures").iterdir()) == [
        "phase1-step000003.png",
        "phase2-step000004.png",
    ]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("widths=[12,16]", "multiples of 8 from 8 to 2048, got 12"),
        ("phases.0.grid=[9,8,8]", "must be a multiple of"),
        ("phases.0.batch=99", "lower it"),
        ("dat.shapes=[[8,8,8]]", "did you mean data"),
        ("data.recipes=['ani']", "did you mean any"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused_by_name(change, named):
    with pytest.raises(InputError, match=named):
        load_network_recipe("synthfm3d-unet", (*TINY, change))


def ball(shape=(24, 24, 24), radius=6.0):
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum((axis - n / 2) ** 2 for axis, n in zip(axes, shape, strict=True)) < radius**2


def pool_on(truth, size=4, threads=1):
    image = np.where(truth, 160, 60).astype(np.uint8)
    volume = TrainingVolume(torch.from_numpy(image), torch.from_numpy(truth[None]), (1.0, 1.0, 1.0), 0)

    def stream(taken):
        while True:
            yield volume, 0

    return EpisodePool(size, FocusPolicy(), stream, threads)


def test_first_clicks_of_undamaged_episodes_are_inside_the_structure():
    truth, rng = ball(), np.random.default_rng(0)
    pool = pool_on(truth, size=40)
    for episode in pool.draw(40, (16, 16, 16), rng):
        if episode.logits is None:
            assert truth[episode.clicks[0].zyx]
            assert episode.clicks[0].positive


def test_a_click_follows_the_larger_error():
    truth, rng, grid = ball(), np.random.default_rng(1), (16, 16, 16)
    pool = pool_on(truth)
    episodes = pool.draw(4, grid, rng)
    everything, nothing = torch.full((4, *grid), 5.0), torch.full((4, *grid), -5.0)
    before = [list(episode.clicks) for episode in episodes]
    pool.advance(everything, grid, rng)
    for episode, clicks in zip(episodes, before, strict=True):
        if len(episode.clicks) > len(clicks) and episode.view(grid)[2] == 1:
            assert not episode.clicks[-1].positive
    pool = pool_on(truth)
    episodes = pool.draw(4, grid, rng)
    before = [list(episode.clicks) for episode in episodes]
    pool.advance(nothing, grid, rng)
    for episode, clicks in zip(episodes, before, strict=True):
        if len(episode.clicks) > len(clicks):
            assert episode.clicks[-1].positive


def test_threads_change_nothing():
    grid, states = (16, 16, 16), []
    for threads in (1, 3):
        pool, rng = pool_on(ball(), size=6, threads=threads), np.random.default_rng(0)
        for step in range(6):
            pool.draw(4, grid, rng)
            pool.advance(torch.randn(4, *grid, generator=torch.Generator().manual_seed(step)), grid, rng)
        states.append(pool.state())
    one, three = ([(e["clicks"], e["crop"], e["left"]) for e in state["episodes"]] for state in states)
    assert one == three


def test_a_pool_goes_on_from_its_state():
    grid, truth = (16, 16, 16), ball()
    straight, kept = pool_on(truth), pool_on(truth)
    for step in range(6):
        rng = np.random.default_rng(step)
        straight.draw(2, grid, rng)
        straight.advance(torch.randn(2, *grid, generator=torch.Generator().manual_seed(step)), grid, rng)
        if step == 2:
            kept.restore(straight.state())
        if step > 2:
            rng = np.random.default_rng(step)
            kept.draw(2, grid, rng)
            kept.advance(torch.randn(2, *grid, generator=torch.Generator().manual_seed(step)), grid, rng)
    first, second = straight.state(), kept.state()
    assert first["taken"] == second["taken"]
    for one, other in zip(first["episodes"], second["episodes"], strict=True):
        assert one["clicks"] == other["clicks"]
        assert one["crop"] == other["crop"]
        assert (one["logits"] is None) == (other["logits"] is None)
        assert one["logits"] is None or torch.equal(one["logits"], other["logits"])


@pytest.mark.parametrize("shape", [(16, 16, 16), (8, 24, 24), (1, 32, 32)])
def test_damaged_masks_are_finite_logits_on_the_grid(shape):
    truth = torch.zeros(shape)
    truth[tuple(slice(n // 4, n // 4 + max(1, n // 2)) for n in shape)] = 1
    for seed in range(20):
        logits = damaged(truth, np.random.default_rng(seed))
        assert tuple(logits.shape) == shape
        assert logits.isfinite().all()
        assert logits.abs().max() <= 8


def test_a_leak_holds_the_structure_and_what_is_as_grey():
    truth = torch.zeros(4, 4, 4)
    truth[0] = 1
    image = torch.full((4, 4, 4), 200.0)
    image[:2] = 50.0
    leaked = with_leak(image, truth, np.random.default_rng(0))
    assert leaked[:2].eq(1).all()
    assert leaked[2:].eq(0).all()


@pytest.mark.parametrize("shape", [(12, 20, 24), (3, 30, 30), (1, 40, 40)])
def test_augmentation_keeps_shape_and_type(shape):
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    for seed in range(12):
        changed = augment(image, np.random.default_rng(seed))
        assert changed.shape == shape
        assert changed.dtype == np.uint8


def test_a_perfect_answer_costs_nothing_and_dice_counts_what_the_crop_leaves_out():
    truth = torch.zeros(2, 4, 4, 4)
    truth[:, :2] = 1
    logits = (truth * 2 - 1) * 40
    loss = losses(NetworkOutput(logits, torch.tensor([1.0, 2 / 3])), truth, torch.tensor([1.0, 0.5]))
    assert float(loss.total) == pytest.approx(0, abs=1e-4)
    assert loss.dice.tolist() == pytest.approx([1.0, 2 / 3])
