"""Losses against values computed by hand."""

import math

import pytest
import torch

from synthfm_train.losses import contrastive_loss, mask_loss


def test_mask_loss_of_a_flat_guess_is_the_hand_computed_one():
    truth = torch.zeros(1, 4, 4, dtype=torch.bool)
    truth[:, :2] = True  # 8 of 16 pixels
    found = mask_loss(torch.zeros(1, 4, 4), truth, iou=torch.tensor([0.3]), score=torch.zeros(1), balance=0.0)
    soft = 1 - (2 * 4 + 1) / (8 + 8 + 1)
    expected = soft + math.log(2) + 0.1 * 0.3 + math.log(2)
    assert found.total.item() == pytest.approx(expected, abs=1e-6)
    assert found.dice.item() == 0


def test_an_absent_object_teaches_an_empty_mask_and_a_low_score():
    logits = torch.zeros(2, 4, 4, requires_grad=True)
    score = torch.zeros(2, requires_grad=True)
    absent = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask_loss(logits, absent, iou=torch.zeros(2), score=score, balance=0.5).total.backward()
    assert (logits.grad > 0).all()
    assert (score.grad > 0).all()


def test_a_negative_object_score_does_not_stop_the_masks_gradient():
    logits = torch.zeros(1, 4, 4, requires_grad=True)
    found = mask_loss(
        logits,
        torch.ones(1, 4, 4, dtype=torch.bool),
        torch.zeros(1),
        score=torch.full((1,), -9.0),
        balance=0.0,
    )
    found.total.backward()
    assert (logits.grad < 0).all()


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
