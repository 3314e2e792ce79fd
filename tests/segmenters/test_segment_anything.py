"""Tests SAM and MedSAM: the official architecture with random weights, slice by slice, loaded strictly."""

import importlib.util
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from synthfm_env.errors import InputError
from synthfm_env.prompts import Box, Click, Prompt
from synthfm_env.segmenters import segment_anything as module
from synthfm_env.segmenters.segment_anything import MedSam, SegmentAnything, load_segment_anything, prompts_on_slice
from synthfm_env.testing import check_segmenter

if importlib.util.find_spec("segment_anything") is None:
    pytest.skip("needs the extra 'sam'", allow_module_level=True)
modeling = module.official_module("modeling", "the test")
MM = (2.0, 1.0, 1.0)
CPU = torch.device("cpu")


def small_sam(seed: int = 0) -> torch.nn.Module:
    """Return the official classes at 64 pixels, with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = modeling.Sam(
            image_encoder=modeling.ImageEncoderViT(
                depth=2,
                embed_dim=24,
                img_size=64,
                mlp_ratio=2,
                norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
                num_heads=2,
                patch_size=16,
                use_rel_pos=True,
                global_attn_indexes=[1],
                window_size=2,
                out_chans=32,
            ),
            prompt_encoder=modeling.PromptEncoder(
                embed_dim=32, image_embedding_size=(4, 4), input_image_size=(64, 64), mask_in_chans=4
            ),
            mask_decoder=modeling.MaskDecoder(
                num_multimask_outputs=3,
                transformer=modeling.TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=64, num_heads=2),
                transformer_dim=32,
            ),
        )
    return model.eval()


@pytest.fixture(scope="module")
def segmenter() -> SegmentAnything:
    return SegmentAnything("sam-small", small_sam())


def picture(shape: tuple[int, ...] = (6, 40, 56)) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, shape, dtype=np.uint8)


def test_sam_keeps_the_contract(segmenter: SegmentAnything) -> None:
    check_segmenter(segmenter)


def test_a_mask_equals_that_of_the_official_model_called_as_its_predictor_calls_it(
    segmenter: SegmentAnything,
) -> None:
    image, model = picture(), segmenter.model
    # 40 x 56 pixels become 46 x 64; the model pads them itself.
    rgb = Image.fromarray(np.repeat(image[2][..., None], 3, axis=-1)).resize((64, 46), Image.Resampling.BILINEAR)
    batch = {
        "image": torch.from_numpy(np.array(rgb)).permute(2, 0, 1),
        "original_size": (40, 56),
        "point_coords": torch.tensor([[[30 * 64 / 56, 11 * 46 / 40]]]),
        "point_labels": torch.tensor([[1]]),
    }
    first = model([batch], multimask_output=True)[0]
    best = int(first["iou_predictions"].argmax())
    batch |= {
        "point_coords": torch.tensor([[[30 * 64 / 56, 11 * 46 / 40], [5 * 64 / 56, 7 * 46 / 40]]]),
        "point_labels": torch.tensor([[1, 0]]),
        "mask_inputs": first["low_res_logits"][:, [best]],
    }
    second = model([batch], multimask_output=False)[0]
    with segmenter.start(image, MM) as session:
        assert np.array_equal(session.add(Click((2, 11, 30))).mask[2], first["masks"][0, best].numpy())
        assert np.array_equal(session.add(Click((2, 7, 5), False)).mask[2], second["masks"][0, 0].numpy())


def test_only_slices_with_a_positive_click_or_the_box_have_a_mask(segmenter: SegmentAnything) -> None:
    with segmenter.start(picture(), MM) as session:
        mask = session.prompt([Click((1, 20, 20)), Click((4, 20, 20)), Click((3, 5, 5), False)]).mask
        assert set(np.flatnonzero(mask.any(axis=(1, 2)))) <= {1, 4}
        mask = session.prompt(box=Box((2, 5, 5), (4, 30, 40))).mask
        assert set(np.flatnonzero(mask.any(axis=(1, 2)))) <= {1, 2, 3, 4}
        before = session.undo().mask
        assert not before[2:4].any()


def test_a_rectangle_is_xyxy_with_its_last_pixel_and_only_on_the_boxs_slices() -> None:
    prompts = Prompt((Click((3, 8, 9)), Click((2, 1, 1))), Box((3, 5, 6), (5, 20, 30)))
    there = prompts_on_slice(prompts, 3)
    assert there.box is not None
    assert there.box.tolist() == [6, 5, 29, 19]
    assert there.points.tolist() == [[9, 8]]
    assert prompts_on_slice(prompts, 5).box is None


def test_encoded_slices_are_kept_within_a_bound(segmenter: SegmentAnything, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT_SLICES", 2)
    with segmenter.start(picture(), MM) as session:
        for z in range(6):
            session.add(Click((z, 20, 20)))
        assert list(session._encoded) == [4, 5]


def test_medsam_takes_a_box_on_each_of_its_slices_and_no_clicks() -> None:
    medsam = MedSam("medsam-small", small_sam())
    with medsam.start(picture(), MM) as session:
        with pytest.raises(InputError, match="takes boxes alone"):
            session.add(Click((1, 20, 20)))
        with pytest.raises(InputError, match="takes boxes alone"):
            session.add(Click((1, 20, 20), False))
        with pytest.raises(InputError, match="takes boxes alone"):
            session.prompt(mask=np.ones((6, 40, 56), bool))
        assert session.clicks == ()
        mask = session.prompt(box=Box((1, 5, 5), (3, 30, 40))).mask
        assert set(np.flatnonzero(mask.any(axis=(1, 2)))) <= {1, 2}


@pytest.mark.parametrize("shape", [(1, 1, 200), (2, 300, 1), (1, 1, 1)])
def test_a_slice_thinner_than_a_pixel_of_the_model_is_answered(
    segmenter: SegmentAnything, shape: tuple[int, int, int]
) -> None:
    with segmenter.start(np.full(shape, 90, np.uint8), MM) as session:
        assert session.add(Click((0, shape[1] // 2, shape[2] // 2))).mask.shape == shape


def test_medsam_answers_as_the_authors_inference_script_does() -> None:
    medsam = MedSam("medsam-small", small_sam())
    image = picture((1, 40, 56))
    mask = medsam.start(image, MM).prompt(box=Box((0, 5, 8), (1, 31, 41))).mask  # type: ignore[attr-defined]
    # Written after MedSAM_Inference.py, step by step.
    model, side = medsam.model, 64
    square = module.transform.resize(
        np.repeat(image[0][..., None], 3, -1), (side, side), order=3, preserve_range=True, anti_aliasing=True
    ).astype(np.uint8)
    square = (square - square.min()) / np.clip(square.max() - square.min(), 1e-8, None)
    box = np.array([[8, 5, 40, 30]]) / np.array([56, 40, 56, 40]) * side
    with torch.no_grad():
        features = model.image_encoder(torch.tensor(square).float().permute(2, 0, 1)[None])
        sparse, dense = model.prompt_encoder(points=None, boxes=torch.tensor(box).float()[:, None], masks=None)
        logits, _ = model.mask_decoder(features, model.prompt_encoder.get_dense_pe(), sparse, dense, False)
        chance = torch.nn.functional.interpolate(torch.sigmoid(logits), (40, 56), mode="bilinear", align_corners=False)
    assert np.mean(mask[0] != (chance[0, 0] > 0.5).numpy()) < 1e-3


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sam.pth").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        load_segment_anything("sam-vit-b", tmp_path / "sam.pth", CPU)


def test_a_foreign_checkpoint_is_refused_with_what_differs(tmp_path: Path) -> None:
    torch.save(small_sam().state_dict(), tmp_path / "small.pth")
    with pytest.raises(InputError, match="missing"):
        load_segment_anything("sam-vit-b", tmp_path / "small.pth", CPU)


@pytest.mark.slow
def test_the_published_form_of_a_checkpoint_loads(tmp_path: Path) -> None:
    model = module.official_module("build_sam", "the test").sam_model_registry["vit_b"]()
    torch.save(model.state_dict(), tmp_path / "sam_vit_b_01ec64.pth")
    loaded = load_segment_anything("sam-vit-b", tmp_path / "sam_vit_b_01ec64.pth", CPU)
    assert loaded.name == "sam-vit-b"
    assert torch.equal(loaded.model.mask_decoder.iou_token.weight, model.mask_decoder.iou_token.weight)
