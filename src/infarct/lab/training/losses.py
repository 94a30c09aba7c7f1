"""What the networks are asked to make small: Eq. 6-9 of the paper.

All sums run in float32 on logits, whatever precision the network ran in: half a million voxels do
not add up in bfloat16, and the logarithm of a rounded sigmoid is infinite.

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
        side: Weight of each side output; 0 switches deep supervision off.
        balance: 1 gives lesion and background the same say in the cross-entropy however few voxels
            the lesion has (the paper), 0 gives every voxel the same say. In between, a class of a
            fraction f of the voxels has a say of f^(1 - balance).
        component: Weight of the component-wise loss of the final answer, so that every focus counts
            alike, however small; computed on the CPU.
        hardest: Weight of the cross-entropy over the hardest voxels of the final answer.
        hardest_share: Fraction of the voxels that are the hardest.
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

    Each class weighs 1 / (its voxels)^2, so that a small lesion counts as much as the brain around
    it. A class without a voxel weighs as much as the other, so that an empty mask asks for an empty
    answer instead of a division by zero.

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
    # In units of the heavier weight: 1 / 500,000^2 is close to where float32 loses its last bits.
    weights = weights / weights.amax(0)
    background = (1 - p) * (1 - reference)
    overlap = torch.stack([(p * reference).sum(_SPACE), background.sum(_SPACE)])
    total = torch.stack([(p + reference).sum(_SPACE), (2 - p - reference).sum(_SPACE)])
    return (1 - 2 * (weights * overlap).sum(0) / (weights * total).sum(0)).mean()


def balanced_cross_entropy(logits: Tensor, lesion: Tensor, balance: float = 1.0) -> Tensor:
    """Return the cross-entropy in which a few lesion voxels can outweigh many others.

    Args:
        logits: (N, 1, X, Y, Z).
        lesion: Same shape, 0 or 1.
        balance: See `LossSettings.balance`. At 1, the mean of the mean over lesion voxels and the
            mean over background; a sample without lesion has its background only.

    Returns:
        Mean over the samples, nats per voxel.

    References:
        Xie and Tu 2015, Eq. 2, with both weights divided by their sum over the voxels: in the
        original form a sample without lesion would weigh nothing, and false alarms cost nothing.
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
    says = torch.where(voxels > 0, fractions ** (1 - balance), 0.0)
    return ((says * means).sum(0) / says.sum(0)).mean()


def l1(logits: Tensor) -> Tensor:
    """Return the sum of all probabilities, Eq. 9: what a false alarm costs.

    Args:
        logits: (N, 1, X, Y, Z).

    Returns:
        Mean over the samples, voxels.
    """
    return torch.sigmoid(logits.float()).sum(_SPACE).mean()


def nearest_component(lesion: Tensor) -> tuple[Tensor, int]:
    """Assign every voxel to the lesion component that lies nearest, in voxels.

    Args:
        lesion: (N, 1, X, Y, Z), 0 or 1.

    Returns:
        (N, 1, X, Y, Z) int64, the number of the component, counted over the batch; a sample without
        lesion is one region. And the number of regions.
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
        Mean over regions. A region without lesion, of a sample that has none, adds its
        cross-entropy and the share of its voxels that are taken for lesion.

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
    """Return the loss of the paper: the final answer's, plus that of every side output.

    Args:
        outputs: Logits of a network: the answer (N, 1, X, Y, Z), then side outputs whose axes are
            whole fractions of it.
        lesion: (N, 1, X, Y, Z), 0 or 1.
        settings: The paper's if None.

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
        # The largest, not the mean: a small lesion stays a lesion at every level.
        reference = functional.adaptive_max_pool3d(lesion, logits.shape[2:])
        overlap = s.dice * generalised_dice(logits, reference)
        entropy = s.bce * balanced_cross_entropy(logits, reference, s.balance)
        total = total + (1.0 if k == 0 else s.side) * (overlap + entropy)
    return total
