"""Tests the encoder, decoder and memory encoder of fast mode against those of stock SAM 2."""

import pytest
import torch
import torch.nn.functional as F
from small_sam2 import make_model

from synthfm_env.segmenters.sam2.fast import onednn
from synthfm_env.segmenters.sam2.fast.image_encoder import FastImageEncoder
from synthfm_env.segmenters.sam2.fast.mask_decoder import FastMaskDecoder
from synthfm_env.segmenters.sam2.fast.memory_encoder import FastMemoryEncoder
from synthfm_env.segmenters.sam2.fast.onednn import attention, key_padding, linear, linear_activation


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def one_mask_of_three(model):
    """Let a model track as Meta's do: the best of three masks, and its own token as the pointer."""
    model.multimask_output_in_sam = model.multimask_output_for_tracking = True
    model.multimask_min_pt_num = 0
    model.sam_mask_decoder.use_multimask_token_for_obj_ptr = True


def object_sometimes_gone(model):
    """Let the object's score follow the slice, around 0."""
    drawn = torch.Generator().manual_seed(1)
    torch.nn.init.normal_(model.sam_mask_decoder.pred_obj_score_head.layers[-1].weight, generator=drawn)
    torch.nn.init.constant_(model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 3.6)


@pytest.mark.parametrize("change", [lambda model: None, one_mask_of_three, object_sometimes_gone])
@torch.inference_mode()
def test_the_decoder_gives_stock_masks_pointers_and_scores(change):
    model = make_model()
    change(model)
    seen, fine, middle = random(6, 32, 4, 4), random(6, 4, 16, 16), random(6, 8, 8, 8)
    multimask = model._use_multimask(False, None)
    stock = model._forward_sam_heads(seen, high_res_features=[fine, middle], multimask_output=multimask)
    ours = FastMaskDecoder(model)(seen.flatten(2).transpose(1, 2), fine, middle)
    if change is object_sometimes_gone:
        assert 0 < int((stock[6] > 0).sum()) < 6
    for got, expected in ((ours.masks, stock[3]), (ours.pointers, stock[5]), (ours.scores, stock[6])):
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    there = stock[6][:, 0] > 0
    torch.testing.assert_close(ours.ious, stock[2].amax(-1) * there)


@pytest.mark.parametrize("levels", [[0, 1, 2, 3], [2, 3]])
@torch.inference_mode()
def test_the_encoder_gives_stock_maps(levels):
    """Meta's models add coarser maps to two levels only, ours to all; windows of the last stages overhang."""
    model = make_model()
    model.image_encoder.neck.fpn_top_down_levels = levels
    frames = random(3, 3, 64, 64)
    stock = model.forward_image(frames)["backbone_fpn"]
    for got, expected in zip(FastImageEncoder(model)(frames), stock, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_memories_are_stock_memories():
    model = make_model()
    torch.nn.init.constant_(model.no_obj_embed_spatial, 0.5)
    for block in model.memory_encoder.fuser.layers:
        torch.nn.init.ones_(block.gamma)  # 1e-6 at first: what a block adds would not show
    coarse, masks, scores = random(3, 32, 4, 4), 5 * random(3, 1, 16, 16), torch.tensor([[1.0], [-1.0], [2.0]])
    stock, _ = model._encode_new_memory(
        current_vision_feats=[coarse.flatten(2).permute(2, 0, 1)],
        feat_sizes=[(4, 4)],
        pred_masks_high_res=F.interpolate(masks, size=(64, 64), mode="bilinear", align_corners=False),
        object_score_logits=scores,
        is_mask_from_pts=False,
    )
    ours = FastMemoryEncoder(model)(coarse, masks, scores)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), stock, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("rows", [3, 3000])
@pytest.mark.parametrize("gaps", [False, True])
def test_products_of_any_size_and_layout_are_right(rows, gaps):
    x, weight, bias = random(2, rows, 40), random(90, 64, seed=1), random(90, seed=2)
    weight = weight[:, :40] if gaps else weight[:, :40].contiguous()
    torch.testing.assert_close(linear(x, weight, bias), F.linear(x, weight, bias), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rows", [3, 3000])
@pytest.mark.parametrize(
    "activation",
    [torch.nn.ReLU(), F.relu, torch.nn.GELU(), torch.nn.GELU(approximate="tanh"), torch.nn.SiLU()],
    ids=["ReLU", "relu", "GELU", "GELU-tanh", "SiLU"],
)
def test_a_layer_and_its_activation_are_one_after_the_other(rows, activation):
    layer = torch.nn.utils.skip_init(torch.nn.Linear, 40, 90)
    layer.load_state_dict({"weight": random(90, 40, seed=1), "bias": random(90, seed=2)})
    x = random(2, rows, 40)
    with torch.no_grad():
        torch.testing.assert_close(linear_activation(layer, activation, x), activation(layer(x)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mkl", [False, True])
@pytest.mark.parametrize("tokens", [5, 700])
def test_keys_that_fill_up_are_not_attended_to(tokens, mkl, monkeypatch):
    """With oneDNN and with MKL, whichever is faster on this CPU."""
    monkeypatch.setattr(onednn, "_mkl_is_faster", lambda: mkl)
    queries, keys, values = random(2, 900, 16), random(2, tokens, 16, seed=1), random(2, tokens, 16, seed=2)
    expected = F.scaled_dot_product_attention(queries, keys, values, scale=1.0)
    fill = random(2, key_padding(tokens, keys), 16, seed=3)
    found = attention(queries, torch.cat([keys, fill], 1), torch.cat([values, fill], 1), tokens)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
