"""Losses: calculated by hand, compared with scikit-learn, and in edge cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from infarct.lab.training.losses import (
    LossSettings,
    balanced_cross_entropy,
    component_dice_ce,
    generalised_dice,
    hardest_cross_entropy,
    hybrid,
    l1,
    nearest_component,
)


def volume(*values: float) -> torch.Tensor:
    """Return one sample with its voxels along z."""
    return torch.tensor(values).view(1, 1, 1, 1, -1)


def logits(*probabilities: float) -> torch.Tensor:
    return torch.logit(volume(*probabilities))


def test_generalised_dice_by_hand() -> None:
    # Lesion: 1 voxel, weight 1. Background: 3 voxels, weight 1/9.
    # Overlaps .8 and .9 + .6 + 1/2; totals .8 + .1 + .4 + .5 + 1 = 2.8 and 2.2 + 3 = 5.2.
    expected = 1 - 2 * (0.8 + 2.0 / 9) / (2.8 + 5.2 / 9)
    loss = generalised_dice(logits(0.8, 0.1, 0.4, 0.5), volume(1, 0, 0, 0))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_balanced_cross_entropy_by_hand() -> None:
    # Mean over the lesion voxel: -ln .8. Over the background: -(ln .9 + ln .6 + ln .5) / 3.
    expected = (-math.log(0.8) - math.log(0.9 * 0.6 * 0.5) / 3) / 2
    loss = balanced_cross_entropy(logits(0.8, 0.1, 0.4, 0.5), volume(1, 0, 0, 0))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("balance", [0.0, 0.4, 1.0])
def test_balanced_cross_entropy_is_the_weighted_log_loss_of_scikit_learn(balance: float) -> None:
    rng = np.random.default_rng(0)
    lesion = rng.random((6, 5, 4)) < 0.1
    p = rng.uniform(0.01, 0.99, lesion.shape)
    fraction = np.where(lesion, lesion.mean(), 1 - lesion.mean())
    oracle = log_loss(lesion.ravel(), p.ravel(), sample_weight=(fraction**-balance).ravel())
    ours = balanced_cross_entropy(
        torch.logit(torch.tensor(p))[None, None], torch.tensor(lesion)[None, None], balance
    )
    assert ours.item() == pytest.approx(oracle, rel=1e-5)


def test_l1_by_hand() -> None:
    assert l1(logits(0.8, 0.1, 0.4, 0.5)).item() == pytest.approx(1.8, abs=1e-6)


def test_hybrid_sums_final_and_side_outputs_with_the_weights_of_the_paper() -> None:
    torch.manual_seed(0)
    lesion = (torch.rand(2, 1, 4, 4, 4) > 0.9).float()
    answer, side = torch.randn(2, 1, 4, 4, 4), torch.randn(2, 1, 2, 2, 2)
    coarse = lesion.view(2, 1, 2, 2, 2, 2, 2, 2).amax((3, 5, 7))
    expected = generalised_dice(answer, lesion) + balanced_cross_entropy(answer, lesion)
    expected += generalised_dice(side, coarse) + balanced_cross_entropy(side, coarse)
    expected += 1e-5 * torch.sigmoid(answer).sum((1, 2, 3, 4)).mean()
    torch.testing.assert_close(hybrid((answer, side), lesion), expected)
    alone = hybrid((answer, side), lesion, LossSettings(side=0.0, l1=0.0))
    torch.testing.assert_close(alone, hybrid((answer,), lesion, LossSettings(l1=0.0)))


@pytest.mark.parametrize("lesion", [torch.zeros(2, 1, 4, 4, 4), torch.ones(2, 1, 4, 4, 4)])
@pytest.mark.parametrize("size", [0.0, 1.0, 200.0, -200.0])
def test_empty_and_full_masks_keep_loss_and_gradient_finite(
    lesion: torch.Tensor, size: float
) -> None:
    answer = torch.full((2, 1, 4, 4, 4), size, requires_grad=True)
    side = torch.full((2, 1, 2, 2, 2), size, requires_grad=True)
    loss = hybrid((answer, side), lesion)
    loss.backward()
    assert torch.isfinite(loss)
    for x in (answer, side):
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("balance", [0.5, 1.0])
def test_an_empty_reference_favours_an_empty_prediction(balance: float) -> None:
    answer = torch.zeros(1, 1, 4, 4, 4, requires_grad=True)
    hybrid((answer,), torch.zeros(1, 1, 4, 4, 4), LossSettings(balance=balance)).backward()
    assert answer.grad is not None
    assert (answer.grad > 0).all()


def test_a_perfect_prediction_costs_little_and_a_wrong_one_much() -> None:
    lesion = (torch.rand(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.9).float()
    sure = (lesion - 0.5) * 60
    settings = LossSettings(l1=0.0)
    assert hybrid((sure,), lesion, settings) < 1e-4
    assert hybrid((-sure,), lesion, settings) > 10


def test_half_precision_logits_give_the_float32_loss() -> None:
    lesion = (
        torch.rand(1, 1, 96, 112, 48, generator=torch.Generator().manual_seed(0)) > 0.99
    ).float()
    half = (torch.randn(lesion.shape, generator=torch.Generator().manual_seed(1)) - 4).bfloat16()
    loss = hybrid((half,), lesion)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, hybrid((half.double(),), lesion))


def test_every_voxel_belongs_to_the_nearest_component_of_its_sample() -> None:
    lesion = torch.cat([volume(1, 0, 0, 0, 0, 1, 1), volume(0, 0, 0, 0, 0, 0, 0)])
    regions, count = nearest_component(lesion)
    assert count == 3
    assert regions[0].flatten()[[0, 1, 2]].tolist() == [0, 0, 0]
    assert regions[0].flatten()[[4, 5, 6]].tolist() == [1, 1, 1]
    assert regions[1].unique().tolist() == [2]


def test_component_loss_by_hand() -> None:
    # Regions (0, 1, 2) and (3, 4, 5): Dice 2 * .8 / (1 + 1.0) and 2 * (.6 + .9) / (2 + 1.7).
    lesion = volume(1, 0, 0, 0, 1, 1)
    p = (0.8, 0.1, 0.1, 0.2, 0.6, 0.9)
    entropy = -np.log([0.8, 0.9, 0.9, 0.8, 0.6, 0.9])
    first = 1 - 1.6 / 2.0 + entropy[:3].mean()
    second = 1 - 3.0 / 3.7 + entropy[3:].mean()
    loss = component_dice_ce(logits(*p), lesion)
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-5)


def test_a_missed_focus_costs_the_same_regardless_of_its_size() -> None:
    lesion = torch.zeros(1, 1, 20, 20, 4)
    lesion[0, 0, 2, 2, 1] = 1
    lesion[0, 0, 12:18, 12:18, :] = 1
    sure = torch.where(lesion > 0, 12.0, -12.0)
    costs = []
    for box in ((slice(0, 6), slice(0, 6)), (slice(10, 20), slice(10, 20))):
        missed = sure.clone()
        missed[0, 0][box] = -12.0
        entropy = hybrid((missed,), lesion, LossSettings(dice=0, bce=0, l1=0, component=1))
        costs.append(float(entropy) - float(component_dice_ce(sure, lesion)))
    assert costs[0] > 0.49  # one of two regions has lost all of its Dice
    assert costs[1] > 0.49


def test_component_loss_of_lesion_free_samples_falls_with_fewer_false_positives() -> None:
    nothing = torch.zeros(1, 1, 4, 4, 4)
    quiet, loud = (torch.full_like(nothing, value) for value in (-8.0, 0.0))
    assert component_dice_ce(quiet, nothing) < 0.01 < component_dice_ce(loud, nothing)


def test_hardest_voxels_by_hand() -> None:
    p = logits(0.8, 0.1, 0.4, 0.5)
    loss = hardest_cross_entropy(p, volume(1, 0, 0, 0), 0.5)
    assert loss.item() == pytest.approx(-(math.log(0.6) + math.log(0.5)) / 2, abs=1e-6)
    whole = hardest_cross_entropy(p, volume(1, 0, 0, 0), 1.0)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(p, volume(1.0, 0, 0, 0))
    assert whole.item() == pytest.approx(expected.item(), abs=1e-6)
