"""Loss functions: Eq. 6-9 of the paper, and component-wise and hardest-voxel terms.

All sums are computed in float32 on logits, regardless of the precision of the network: bfloat16
cannot sum half a million voxels, and the logarithm of a rounded sigmoid can be infinite.

References:
    Liu et al. 2021, Methods, "Loss function", Eq. 6-9.
    Sudre et al. 2017, Generalised Dice overlap.
    Xie and Tu 2015, Holistically-nested edge detection (balanced cross-entropy).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

_SPACE = (1, 2, 3, 4)


@dataclass(frozen=True)
class LossSettings:
    """Weights of the hybrid loss; the defaults are the paper's.

    Attributes:
        dice: Weight of the generalised Dice loss.
        bce: Weight of the balanced binary cross-entropy.
        l1: Weight of the sum of probabilities of the final answer.
        side: Weight of each side output; 0 disables deep supervision.
        balance: 1 weighs lesion and background equally in the cross-entropy regardless of their
            sizes (the paper), 0 weighs all voxels equally. In between, a class with a fraction f of
            the voxels has the weight f^(1 - balance).
        component: Weight of the component-wise loss of the final output, in which every focus has
            equal weight regardless of its size; computed on the CPU.
        hardest: Weight of the cross-entropy over the hardest voxels of the final output.
        hardest_share: Fraction of the voxels used by `hardest`.
    """

    dice: float = 1.0
    bce: float = 1.0
    l1: float = 1e-5
    side: float = 1.0
    balance: float = 1.0
    component: float = 0.0
    hardest: float = 0.0
    hardest_share: float = 0.02


def generalised_dice(logits: Tensor, lesion: Tensor) -> Tensor:
    """Return one minus the generalised Dice overlap of lesion and background.

    Each class has the weight 1 / (number of its voxels)^2, so that a small lesion counts as much as
    the background. An empty class gets the weight of the other one: an empty reference then favours
    an empty prediction, and there is no division by zero.

    Args:
        logits: (N, 1, X, Y, Z).
        lesion: Same shape, 0 or 1.

    Returns:
        Mean over the samples, in 0 - 1.

    References:
        Sudre et al. 2017, Eq. 3.
    """
    p = torch.sigmoid(logits.float())
    reference = lesion.float()
    classes = torch.stack([reference.sum(_SPACE), (1 - reference).sum(_SPACE)])
    weights = torch.where(classes > 0, classes, classes.amax(0)) ** -2.0
    # Relative to the larger weight: 1 / 500,000^2 would lose precision in float32.
    weights = weights / weights.amax(0)
    background = (1 - p) * (1 - reference)
    overlap = torch.stack([(p * reference).sum(_SPACE), background.sum(_SPACE)])
    total = torch.stack([(p + reference).sum(_SPACE), (2 - p - reference).sum(_SPACE)])
    return (1 - 2 * (weights * overlap).sum(0) / (weights * total).sum(0)).mean()


def balanced_cross_entropy(logits: Tensor, lesion: Tensor, balance: float = 1.0) -> Tensor:
    """Return the class-balanced binary cross-entropy.

    Args:
        logits: (N, 1, X, Y, Z).
        lesion: Same shape, 0 or 1.
        balance: See `LossSettings.balance`. At 1, the mean of the mean over lesion voxels and the
            mean over background voxels; for lesion-free samples, the background only.

    Returns:
        Mean over the samples, nats per voxel.

    References:
        Xie and Tu 2015, Eq. 2, with both weights divided by their sum over the voxels: in the
        original form lesion-free samples have no weight, and false positives no cost.
    """
    reference = lesion.float()
    surprise = functional.binary_cross_entropy_with_logits(
        logits.float(), reference, reduction="none"
    )
    voxels = torch.stack([reference.sum(_SPACE), (1 - reference).sum(_SPACE)])
    means = torch.stack(
        [(surprise * reference).sum(_SPACE), (surprise * (1 - reference)).sum(_SPACE)]
    ) / voxels.clamp(min=1)
    fractions = voxels / voxels.sum(0)
    weights = torch.where(voxels > 0, fractions ** (1 - balance), 0.0)
    return ((weights * means).sum(0) / weights.sum(0)).mean()


def l1(logits: Tensor) -> Tensor:
    """Return the sum of all probabilities, Eq. 9, which penalises false positives.

    Args:
        logits: (N, 1, X, Y, Z).

    Returns:
        Mean over the samples, voxels.
    """
    return torch.sigmoid(logits.float()).sum(_SPACE).mean()


def nearest_component(lesion: Tensor) -> tuple[Tensor, int]:
    """Assign every voxel to the nearest lesion component, by distance in voxels.

    Args:
        lesion: (N, 1, X, Y, Z), 0 or 1.

    Returns:
        (N, 1, X, Y, Z) int64 index of the component, counted over the batch (a lesion-free sample
        is one region), and the number of regions.
    """
    regions, count = [], 0
    for sample in lesion[:, 0].cpu().numpy() > 0:
        labels, found = ndimage.label(sample, np.ones((3, 3, 3)))
        if found:
            nearest = ndimage.distance_transform_edt(
                labels == 0, return_distances=False, return_indices=True
            )
            labels = labels[tuple(nearest)] - 1
        regions.append(torch.from_numpy(labels.astype(np.int64) + count))
        count += max(found, 1)
    return torch.stack(regions)[:, None].to(lesion.device), count


def component_dice_ce(logits: Tensor, lesion: Tensor) -> Tensor:
    """Return Dice loss plus cross-entropy, averaged over the regions of the lesion components.

    Args:
        logits: (N, 1, X, Y, Z).
        lesion: Same shape, 0 or 1.

    Returns:
        Mean over regions. A lesion-free sample contributes its cross-entropy and its mean
        probability.

    References:
        arXiv:2511.17146 (CC-DiceCE); Jaus et al. 2024, Every component counts (CC-Metrics).
    """
    regions, count = nearest_component(lesion)
    index = regions.flatten()

    def total(values: Tensor) -> Tensor:
        return torch.zeros(count, device=index.device).index_add(0, index, values.flatten())

    p, reference = torch.sigmoid(logits.float()), lesion.float()
    surprise = functional.binary_cross_entropy_with_logits(
        logits.float(), reference, reduction="none"
    )
    voxels, wanted, found = total(torch.ones_like(p)), total(reference), total(p)
    overlap = 2 * total(p * reference) / (wanted + found).clamp(min=1e-6)
    missed = torch.where(wanted > 0, 1 - overlap, found / voxels)
    return (missed + total(surprise) / voxels).mean()


def hardest_cross_entropy(logits: Tensor, lesion: Tensor, share: float) -> Tensor:
    """Return the mean cross-entropy over the hardest voxels of each sample.

    Args:
        logits: (N, 1, X, Y, Z).
        lesion: Same shape, 0 or 1.
        share: Fraction of the voxels, in 0 - 1.

    References:
        Wu et al. 2016, Bridging category-level and instance-level semantic segmentation (top-k).
    """
    surprise = functional.binary_cross_entropy_with_logits(
        logits.float(), lesion.float(), reduction="none"
    ).flatten(1)
    return surprise.topk(max(1, round(share * surprise.shape[1])), sorted=False).values.mean()


def hybrid(
    outputs: tuple[Tensor, ...], lesion: Tensor, settings: LossSettings | None = None
) -> Tensor:
    """Return the hybrid loss of the paper: that of the final output plus those of side outputs.

    Args:
        outputs: Logits of a network: the final output (N, 1, X, Y, Z), then side outputs whose axes
            are integer fractions of it.
        lesion: (N, 1, X, Y, Z), 0 or 1.
        settings: Weights of the terms; the paper's if None.

    Returns:
        The loss, a scalar.

    References:
        Liu et al. 2021, Eq. 6-8.
    """
    s = settings or LossSettings()
    total = s.l1 * l1(outputs[0])
    if s.component:
        total = total + s.component * component_dice_ce(outputs[0], lesion)
    if s.hardest:
        total = total + s.hardest * hardest_cross_entropy(outputs[0], lesion, s.hardest_share)
    for k, logits in enumerate(outputs):
        # Maximum instead of mean: a small lesion persists at every level.
        reference = functional.adaptive_max_pool3d(lesion, logits.shape[2:])
        overlap = s.dice * generalised_dice(logits, reference)
        entropy = s.bce * balanced_cross_entropy(logits, reference, s.balance)
        total = total + (1.0 if k == 0 else s.side) * (overlap + entropy)
    return total
