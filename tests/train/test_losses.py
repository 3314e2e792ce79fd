"""Tests losses against values computed by hand, and SAM 2's against its own code."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch

from synthfm_train.sam2.contrastive import contrastive_loss
from synthfm_train.sam2.losses import mask_loss


def test_mask_loss_of_a_flat_guess_is_the_hand_computed_one():
    truth = torch.zeros(1, 4, 4, dtype=torch.bool)
    truth[:, :2] = True  # 8 of 16 pixels
    found = mask_loss(torch.zeros(1, 1, 4, 4), truth, iou=torch.tensor([[0.3]]), score=torch.zeros(1))
    soft = 1 - (2 * 4 + 1) / (8 + 8 + 1)
    expected = soft + math.log(2) + 0.1 * 0.3 + math.log(2)
    assert found.total.tolist() == pytest.approx([expected], abs=1e-6)
    assert found.dice.item() == 0


def test_dice_alone_is_the_hand_computed_one_for_full_and_empty_truths():
    truth = torch.zeros(2, 4, 4, dtype=torch.bool)
    truth[0, :2] = True
    found = mask_loss(torch.zeros(2, 1, 4, 4), truth, torch.zeros(2, 1), torch.zeros(2), "dice")
    expected = [1 - (2 * 4 + 1) / (8 + 8 + 1) + math.log(2), 1 - 1 / (8 + 1) + math.log(2)]
    assert found.total.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["synthfm3d", "dice"])
def test_an_absent_object_teaches_an_empty_mask_and_a_low_score(name):
    logits = torch.zeros(2, 1, 4, 4, requires_grad=True)
    score = torch.zeros(2, requires_grad=True)
    absent = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask_loss(logits, absent, torch.zeros(2, 1), score, name, balance=0.5).total.sum().backward()
    assert (logits.grad > 0).all()
    assert (score.grad > 0).all()


def test_an_absent_object_teaches_the_object_score_alone_in_sam2():
    logits = torch.zeros(2, 3, 4, 4, requires_grad=True)
    score = torch.zeros(2, requires_grad=True)
    absent = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask_loss(logits, absent, torch.full((2, 3), 0.5), score, "sam2").total.sum().backward()
    assert not logits.grad.any()
    assert (score.grad > 0).all()


@pytest.mark.parametrize("name", ["synthfm3d", "sam2", "dice"])
def test_a_negative_object_score_does_not_stop_the_masks_gradient(name):
    logits = torch.zeros(1, 1, 4, 4, requires_grad=True)
    truth = torch.ones(1, 4, 4, dtype=torch.bool)
    mask_loss(logits, truth, torch.zeros(1, 1), torch.full((1,), -9.0), name).total.sum().backward()
    assert (logits.grad < 0).all()


@pytest.mark.parametrize("name", ["synthfm3d", "sam2", "dice"])
def test_the_best_of_three_masks_is_taught_and_the_one_with_the_highest_guess_measured(name):
    truth = torch.zeros(1, 4, 4, dtype=torch.bool)
    truth[:, :2] = True
    right = torch.where(truth, 4.0, -4.0)
    logits = torch.stack([-right, right, -right], 1).requires_grad_()
    found = mask_loss(logits, truth, torch.tensor([[0.1, 0.2, 0.9]]), torch.zeros(1), name)
    found.total.sum().backward()
    assert [bool(mask.any()) for mask in logits.grad[0]] == [False, True, False]
    assert found.dice.item() == 0  # the third one would be used


def test_sam2_agrees_with_the_code_of_sam2(monkeypatch):
    # Its trainer needs packages that the loss does not.
    monkeypatch.setitem(sys.modules, "training.trainer", SimpleNamespace(CORE_LOSS_KEY="core"))
    from training.loss_fns import MultiStepMultiMasksAndIous

    # The weights of sam2.1_hiera_b+_MOSE_finetune.yaml.
    reference = MultiStepMultiMasksAndIous(
        {"loss_mask": 20, "loss_dice": 1, "loss_iou": 1, "loss_class": 1},
        supervise_all_iou=True,
        iou_use_l1_loss=True,
        pred_obj_scores=True,
        focal_gamma_obj_score=0.0,
        focal_alpha_obj_score=-1.0,
    )
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, 8, 8, generator=generator) * 3
    truth = torch.rand(5, 8, 8, generator=generator) < 0.3
    truth[2] = False
    iou, score = torch.rand(5, 3, generator=generator), torch.randn(5, 1, generator=generator)
    outputs = {
        "multistep_pred_multimasks_high_res": [logits],
        "multistep_pred_ious": [iou],
        "multistep_object_score_logits": [score],
    }
    expected = reference([outputs], truth[None])["core"]
    found = mask_loss(logits, truth, iou, score[:, 0], "sam2").total.mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_contrastive_loss_matches_its_formula():
    generator = torch.Generator().manual_seed(1)
    z = torch.nn.functional.normalize(torch.randn(2, 5, 3, generator=generator), dim=-1)
    labels = torch.tensor([[0, 0, 1, 1, 2], [3, 3, 3, 1, 1]])
    rows = []
    for image, ids in zip(z, labels, strict=True):
        for i in range(5):
            others = [j for j in range(5) if j != i]
            same = [j for j in others if ids[j] == ids[i]]
            if same:
                total = sum(math.exp(float(image[i] @ image[j]) / 0.1) for j in others)
                rows.append(-sum(float(image[i] @ image[j]) / 0.1 - math.log(total) for j in same) / len(same))
    assert contrastive_loss(z, labels).item() == pytest.approx(sum(rows) / len(rows), rel=1e-5)
