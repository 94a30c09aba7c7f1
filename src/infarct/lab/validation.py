"""The fixed synthetic set that scores a run, and the scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from infarct.lab.feed import Example, OpenSource, crop, examples
from infarct.lab.losses import LossSettings, hybrid
from infarct.lab.recipes import Recipe

SEED = 2021
"""Of the validation stream, the same for every run: scores of two runs can be compared."""

_SPACE = (1, 2, 3, 4)


@dataclass(frozen=True)
class Scores:
    """How a network does on the validation set.

    Attributes:
        loss: The loss it is trained with, on its answer alone.
        dice: Mean Dice over samples that have something to find.
        false_voxels: Mean number of voxels outlined in samples that have nothing; NaN without any.
    """

    loss: float
    dice: float
    false_voxels: float


def fixed_set(open_source: OpenSource, recipe: Recipe, device: str) -> list[Example]:
    """Make the validation set: the first samples of the validation stream.

    Args:
        open_source: Opens the stream.
        recipe: Whose network, and how many samples; whole batches are kept.
        device: Where to make them; they are kept in main memory.
    """
    kept: list[Example] = []
    made = examples(open_source(SEED, "validation", device), recipe.network)
    while sum(len(example.image) for example in kept) < recipe.validation.samples:
        kept.append(next(made).to("cpu"))
    return kept


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """Return the Dice of each sample at probability .5; NaN where there is nothing to find.

    Args:
        logits: (N, 1, X, Y, Z).
        target: Same shape, 0 or 1.

    Returns:
        (N,).
    """
    answer = (logits > 0).float()
    both = 2 * (answer * target).sum(_SPACE)
    found = both / (answer + target).sum(_SPACE)
    return torch.where(target.sum(_SPACE) > 0, found, torch.nan)


@torch.no_grad()
def score(network: nn.Module, kept: list[Example], loss: LossSettings, device: str) -> Scores:
    """Score a network on whole brains.

    Args:
        network: Left in the mode it came in.
        kept: From `fixed_set`.
        loss: Settings of the loss to report.
        device: Where the network is.
    """
    mode = network.training
    network.eval()
    losses, dices, false = [], [], []
    for batch in kept:
        # One by one: a batch of whole brains at full width may not fit beside the training.
        for n in range(len(batch.image)):
            parts = (batch.image, batch.target, batch.brain)
            one = crop(Example(*(x[n : n + 1] for x in parts))).to(device)
            target = one.target
            logits = network(one.image)[0]
            losses.append(hybrid((logits,), target, loss).cpu())
            # As the runtime does: nothing outside the brain is ever reported.
            logits = logits.masked_fill(one.brain == 0, -torch.inf)
            dices.append(dice(logits, target).cpu())
            outlined = (logits > 0).sum().cpu().float()
            false.append(torch.where(target.any().cpu(), torch.nan, outlined))
    network.train(mode)
    return Scores(
        float(torch.stack(losses).mean()),
        float(torch.cat(dices).nanmean()),
        float(torch.stack(false).nanmean()),
    )
