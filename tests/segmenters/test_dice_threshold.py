import pytest
import torch

from synthfm_env.segmenters.sam2.multiview.dice_threshold import dice_threshold


def expected_dice(probability: torch.Tensor, mask: torch.Tensor) -> float:
    return float(2 * probability[mask].sum() / (probability.sum() + mask.sum()))


@pytest.mark.parametrize("clicks", [1, 2, 5])
@pytest.mark.parametrize("inside", [20, 400])
def test_no_threshold_has_a_greater_expected_dice(clicks: int, inside: int) -> None:
    draws = torch.Generator().manual_seed(clicks)
    logits = torch.cat((torch.randn(inside, generator=draws) * 3 + 2, torch.randn(2000, generator=draws) - 6))
    probability = (logits.clamp(-8, 8).double() / (1 + 1 / clicks)).sigmoid()
    best = max(expected_dice(probability, probability >= lowest) for lowest in probability)
    threshold = dice_threshold(logits, clicks)
    assert -4 <= threshold <= 0
    if threshold > -4:
        assert expected_dice(probability, logits > threshold) == pytest.approx(best, abs=2e-3)


def test_rounding_of_logits_hardly_moves_the_threshold() -> None:
    draws = torch.Generator().manual_seed(3)
    logits = torch.randn(5000, generator=draws) * 2 - 3
    rounded = logits + 1e-3 * torch.randn(5000, generator=draws)
    assert dice_threshold(rounded, 1) == pytest.approx(dice_threshold(logits, 1), abs=2e-3)


def test_voxels_that_are_sure_to_be_outside_never_belong_to_the_mask() -> None:
    assert dice_threshold(torch.full((100, 100), -7.0), 1) == -4
