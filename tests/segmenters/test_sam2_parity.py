"""Tests the engine against the stock SAM2VideoPredictor: the same clicks give the same logits.

Stock encodes slices one by one, exact mode several at once. Some CPUs round a slice in a batch otherwise than alone; on
those logits agree up to rounding only, unless exact mode encodes one by one, too.
"""

import numpy as np
import pytest
import sam2.sam2_video_predictor as stock
import torch
import torch.nn.functional as F
from small_sam2 import make_model

from synthfm_env.prompts import Box, Click
from synthfm_env.segmenters.sam2 import EngineOptions, SAM2Segmenter
from synthfm_env.segmenters.sam2.tracking import feature_cache

ROUNDING = 1e-4  # of logits; on an Intel CPU with AMX they differed by up to 8e-6
EPISODES = {
    "several slices": ((9, 30, 40), "4,15,20,+ 7,5,35,- 4,12,22,- 0,20,20,+ 8,1,1,+"),
    "one slice of many": ((6, 33, 20), "5,15,10,+ 5,1,1,- 5,30,12,+"),
    "2D image": ((1, 48, 64), "0,20,30,+ 0,2,2,- 0,25,33,+"),
}


def rounds_batches_alike(model, frames, batch):
    """Tell whether the image encoder gives frames (D, 3, S, S) the same bytes in batches as one by one."""
    with torch.inference_mode():
        together = [model.forward_image(part)["backbone_fpn"] for part in frames.split(batch)]
        alone = [model.forward_image(frame[None])["backbone_fpn"] for frame in frames]
    levels = range(len(alone[0]))
    return all(torch.equal(torch.cat([m[i] for m in together]), torch.cat([m[i] for m in alone])) for i in levels)


def assert_logits_are_stocks(logits, reference, bit_for_bit):
    """Compare logits of all slices (D, h, w)."""
    np.testing.assert_allclose(logits, reference, rtol=0, atol=0 if bit_for_bit else ROUNDING)


def assert_mask_is_stocks(mask, reference, bit_for_bit):
    """Compare a mask (D, H, W) with the logits (D, h, w) of stock, except for voxels that rounding may flip."""
    full = F.interpolate(torch.from_numpy(reference)[:, None], mask.shape[1:], mode="bilinear", align_corners=False)
    full = full[:, 0].numpy()
    sure = np.abs(full) > (-1 if bit_for_bit else ROUNDING)
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(mask[sure], full[sure] > 0)


@pytest.mark.parametrize("batch", [1, feature_cache._BATCH])
@pytest.mark.parametrize("episode", EPISODES)
def test_exact_mode_gives_the_stock_predictors_logits(episode, batch, monkeypatch):
    monkeypatch.setattr(feature_cache, "_BATCH", batch)
    shape, text = EPISODES[episode]
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    model = make_model()
    segmenter = SAM2Segmenter("small", model, torch.device("cpu"), exact=True)
    monkeypatch.setattr(stock, "tqdm", lambda order, **_: order)
    monkeypatch.setattr(stock, "load_video_frames", lambda **_: (segmenter.frames(image), *shape[1:]))
    bit_for_bit = rounds_batches_alike(model, segmenter.frames(image), batch)
    assert bit_for_bit or batch > 1
    state = model.init_state("unused")
    session = segmenter.start(image, (2.0, 1.0, 1.0))
    for click in map(Click.parse, text.split()):
        ours = session.add(click)
        z, y, x = click.zyx
        model.add_new_points_or_box(
            state,
            z,
            obj_id=1,
            points=[[float(x), float(y)]],
            labels=[int(click.positive)],
            clear_old_points=False,
        )
        if shape[0] == 1:  # stock divides 0 by 0 when a video of one frame is propagated and clicked again
            every = state["temp_output_dict_per_obj"][0]["cond_frame_outputs"]
        else:
            for reverse in (False, True):
                list(model.propagate_in_video(state, reverse=reverse))
            outputs = state["output_dict_per_obj"][0]
            every = outputs["non_cond_frame_outputs"] | outputs["cond_frame_outputs"]
        reference = torch.stack([every[t]["pred_masks"][0, 0] for t in range(shape[0])]).float().numpy()
        assert reference.std() > 0.01
        assert_logits_are_stocks(ours.logits, reference, bit_for_bit)
        assert_mask_is_stocks(ours.mask, reference, bit_for_bit)


def test_features_beyond_the_budget_are_encoded_again_and_nothing_changes():
    image = np.random.default_rng(1).integers(0, 256, (20, 30, 40), dtype=np.uint8)
    clicks = [Click((9, 15, 20)), Click((17, 3, 5), False), Click((2, 20, 30))]
    answers, kept, encoded = {}, {}, {}
    for budget in (2**30, 1):
        options = EngineOptions(feature_budget=budget)
        segmenter = SAM2Segmenter("small", make_model(), torch.device("cpu"), exact=True, options=options)
        session = segmenter.start(image, (1.0, 1.0, 1.0))
        calls = []
        forward = segmenter.model.forward_image
        segmenter.model.forward_image = lambda batch, calls=calls, forward=forward: (
            calls.append(len(batch)) or forward(batch)
        )
        answers[budget] = [session.add(click).logits for click in clicks]
        kept[budget], encoded[budget] = session._stack.features.kept_bytes, sum(calls)
    assert encoded[2**30] == 20  # each slice once, for all clicks
    assert encoded[1] > 3 * 20
    assert kept[1] * 2 < kept[2**30]
    np.testing.assert_array_equal(answers[1], answers[2**30])


PROMPTS = {
    "several points": ["4,15,20,+ 4,12,22,- 4,20,25,+", "7,5,35,- 7,8,30,+"],
    "a box, then a point": ["box", "4,15,20,+"],
    "a box with a point": ["box 4,15,20,+"],
    "a mask, then points": ["mask", "4,15,20,+ 4,3,3,-"],
    "a mask on another slice": ["7,15,20,+", "mask"],
}
BOX, MASKED = Box((4, 6, 9), (5, 21, 33)), 4


@pytest.mark.parametrize("batch", [1, feature_cache._BATCH])
@pytest.mark.parametrize("episode", PROMPTS)
def test_exact_mode_takes_prompts_as_the_stock_predictor_does(episode, batch, monkeypatch):
    monkeypatch.setattr(feature_cache, "_BATCH", batch)
    shape = (9, 30, 40)
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, shape, dtype=np.uint8)
    mask = np.zeros(shape, bool)
    mask[MASKED, 7:19, 12:30] = True
    model = make_model()
    segmenter = SAM2Segmenter("small", model, torch.device("cpu"), exact=True)
    monkeypatch.setattr(stock, "tqdm", lambda order, **_: order)
    monkeypatch.setattr(stock, "load_video_frames", lambda **_: (segmenter.frames(image), *shape[1:]))
    bit_for_bit = rounds_batches_alike(model, segmenter.frames(image), batch)
    assert bit_for_bit or batch > 1
    state = model.init_state("unused")
    session = segmenter.start(image, (2.0, 1.0, 1.0))
    for text in PROMPTS[episode]:
        words = text.split()
        clicks = [Click.parse(word) for word in words if "," in word]
        box = BOX if "box" in words else None
        ours = session.prompt(clicks, box=box, mask=mask if "mask" in words else None)
        if "mask" in words:
            model.add_new_mask(state, MASKED, obj_id=1, mask=torch.from_numpy(mask[MASKED]))
        else:
            (z0, y0, x0), (_, y1, x1) = BOX.start, BOX.stop
            model.add_new_points_or_box(
                state,
                clicks[0].zyx[0] if clicks else z0,
                obj_id=1,
                points=[[float(c.zyx[2]), float(c.zyx[1])] for c in clicks] or None,
                labels=[int(c.positive) for c in clicks] or None,
                box=[x0, y0, x1 - 1, y1 - 1] if box else None,
                clear_old_points=bool(box),
            )
        for reverse in (False, True):
            list(model.propagate_in_video(state, reverse=reverse))
        outputs = state["output_dict_per_obj"][0]
        every = outputs["non_cond_frame_outputs"] | outputs["cond_frame_outputs"]
        reference = torch.stack([every[t]["pred_masks"][0, 0] for t in range(shape[0])]).float().numpy()
        assert_logits_are_stocks(ours.logits, reference, bit_for_bit)
