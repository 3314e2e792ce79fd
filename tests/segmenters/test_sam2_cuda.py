"""Tests SAM 2 on a CUDA device: the masks of the CPU up to rounding, and the contract of sessions."""

import numpy as np
import pytest
import sam2.sam2_video_predictor as stock
import torch
from small_sam2 import make_model

from synthfm_env import Click, make_segmenter
from synthfm_env.metrics import dice
from synthfm_env.segmenters.sam2 import SAM2Segmenter
from synthfm_env.synthesis import SynthFM3D

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

MM = (2.0, 1.0, 1.0)
CLICKS = [Click((4, 15, 20)), Click((7, 5, 35)), Click((4, 12, 22), False), Click((0, 20, 20))]


@pytest.fixture(scope="module")
def volume():
    return SynthFM3D((24, 96, 96), "clear").sample(5)


def inside(volume, count):
    """Return clicks in the middle of the largest structure's slices, spread over its extent."""
    mask = volume.label == 1 + np.bincount(volume.label.ravel())[1:].argmax()
    found = np.flatnonzero(mask.any((1, 2)))
    places = ((z, np.argwhere(mask[z])) for z in np.linspace(found[0], found[-1], count + 2).astype(int)[1:-1])
    return [Click((int(z), *map(int, pixels[len(pixels) // 2]))) for z, pixels in places]


def test_exact_mode_gives_the_stock_predictors_logits(monkeypatch):
    image = np.random.default_rng(1).integers(0, 256, (9, 30, 40), dtype=np.uint8)
    segmenter = SAM2Segmenter("small", make_model(), torch.device("cuda"), exact=True)
    monkeypatch.setattr(stock, "tqdm", lambda order, **_: order)
    monkeypatch.setattr(stock, "load_video_frames", lambda **_: (segmenter.frames(image), 30, 40))
    state = segmenter.model.init_state("unused")
    session = segmenter.start(image, MM)
    for click in CLICKS:
        ours = session.add(click).logits
        z, y, x = click.zyx
        segmenter.model.add_new_points_or_box(
            state, z, obj_id=1, points=[[float(x), float(y)]], labels=[int(click.positive)], clear_old_points=False
        )
        for reverse in (False, True):
            list(segmenter.model.propagate_in_video(state, reverse=reverse))
        outputs = state["output_dict_per_obj"][0]
        every = outputs["non_cond_frame_outputs"] | outputs["cond_frame_outputs"]
        reference = torch.stack([every[t]["pred_masks"][0, 0] for t in range(9)]).float().cpu().numpy()
        assert reference.std() > 0.01
        np.testing.assert_allclose(ours, reference, atol=1e-3)


@pytest.mark.parametrize(("mode", "alike"), [("exact", 0.97), ("fast", 0.9)])  # fast mode multiplies in bfloat16
def test_masks_are_those_of_the_cpu(volume, mode, alike):
    found = {}
    for device in ("cpu", "cuda"):
        with make_segmenter("synthfm3d-nano", device, mode).start(volume.image, volume.spacing) as session:
            found[device] = [session.add(click).mask for click in inside(volume, 3)]
    for cpu, cuda in zip(found["cpu"], found["cuda"], strict=True):
        assert cpu.any()
        assert dice(cuda, cpu) > alike


def test_the_default_view_answers_undoes_and_answers_again(volume):
    with make_segmenter("synthfm3d-nano", "cuda").start(volume.image, volume.spacing) as session:
        first, second = inside(volume, 2)
        before = session.add(first)
        after = session.add(second)
        assert after.mask[second.zyx]
        back = session.undo()
        np.testing.assert_array_equal(back.mask, before.mask)
        np.testing.assert_array_equal(back.logits, before.logits)
        assert dice(session.add(second).mask, after.mask) > 0.99


def test_sessions_answered_together_answer_as_alone(volume):
    segmenter = make_segmenter("synthfm3d-nano", "cuda", "fast")
    clicks = inside(volume, 3)
    alone = [segmenter.start(volume.image, volume.spacing).add(click).mask for click in clicks]
    sessions = [segmenter.start(volume.image, volume.spacing) for _ in clicks]
    together = segmenter.add_many(sessions, clicks)
    for one, many in zip(alone, together, strict=True):
        assert dice(one, many.mask) > 0.99
