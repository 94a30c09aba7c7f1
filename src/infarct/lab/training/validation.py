"""Validation of a run on a fixed synthetic set and, optionally, on real cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from infarct.core.errors import InputFileError
from infarct.inference.subvolumes import PHASES
from infarct.lab.networks import DESIGNS
from infarct.lab.training.config import Recipe
from infarct.lab.training.data_loader import Example, OpenSource, crop, crop_slices, examples
from infarct.lab.training.losses import LossSettings, hybrid
from infarct.lab.training.real_cases import list_cases, read_case, split_cases

SEED = 2021
"""Seed of the validation stream, the same for every run, so that runs are comparable."""

REAL_PHASES = tuple(PHASES.index(offset) for offset in ((0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 3)))
"""Sub-volumes of a real case that are scored; together they cover all of its slices."""

_SPACE = (1, 2, 3, 4)


@dataclass(frozen=True)
class Scores:
    """Scores of a network on the validation set.

    Attributes:
        loss: Training loss of the final output, without side outputs.
        dice: Mean Dice over samples with a lesion.
        false_voxels: Mean number of false-positive voxels in lesion-free samples; NaN if there are
            none.
        real_dice: As `dice`, over the sub-volumes of real cases; NaN if there are none.
        real_false_voxels: As `false_voxels`, on real cases; NaN if there are none.
        real_loss: As `loss`, on real cases; NaN if there are none.
    """

    loss: float
    dice: float
    false_voxels: float
    real_dice: float = math.nan
    real_false_voxels: float = math.nan
    real_loss: float = math.nan

    def deciding(self, recipe: Recipe) -> tuple[float, float]:
        """Return the loss and Dice that guide a run: those of held-out patients, if any."""
        held_out = recipe.cases.validation > 0
        return (self.real_loss, self.real_dice) if held_out else (self.loss, self.dice)


@dataclass(frozen=True)
class ValidationSet:
    """Validation data of a run.

    Attributes:
        synthetic: Synthetic samples, in main memory.
        real: Files of prepared real cases.
        channels: Number of input channels of the network.
        slices: Whether the synthetic scans are measured slices.
    """

    synthetic: list[Example]
    real: list[Path]
    channels: int
    slices: bool = False

    def real_examples(self) -> Iterator[Example]:
        """Yield the sub-volumes `REAL_PHASES` of every real case."""
        for file in self.real:
            for image, lesion, brain in read_case(file, REAL_PHASES):
                yield Example(image[None, : self.channels], lesion[None], brain[None])


def fixed_set(open_source: OpenSource, recipe: Recipe, device: str) -> ValidationSet:
    """Build the validation set: the first samples of the validation stream, and the real cases.

    Args:
        open_source: Opens the stream.
        recipe: Network and number of samples, rounded up to whole batches.
        device: Device to render on.

    Raises:
        InputFileError: If the folder of real cases is empty, contains other files, is also used
            for training, or cannot be used by the network.
    """
    design, cases = DESIGNS[recipe.network], recipe.validation.cases
    if cases and (design.answers != "lesion" or design.slices):
        raise InputFileError(
            f"validation.cases = {cases!r}: {recipe.network} cannot use prepared cases; "
            "remove validation.cases"
        )
    learned_from = recipe.cases.folder
    if cases and learned_from and Path(cases).resolve() == Path(learned_from).resolve():
        raise InputFileError(
            f"validation.cases = {cases!r} equals cases.folder; a network cannot be validated on "
            "its training cases. Put the validation cases in a separate folder"
        )
    kept: list[Example] = []
    made = examples(open_source(SEED, "validation", device), recipe.network)
    while sum(len(example.image) for example in kept) < recipe.validation.samples:
        kept.append(next(made).to("cpu"))
    real = list_cases(Path(cases)) if cases else []
    if recipe.cases.folder and design.answers == "lesion":
        real += split_cases(recipe.cases)[1]
    return ValidationSet(kept, real, len(design.channels), design.slices)


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """Return the Dice of each sample at probability .5; NaN for lesion-free samples.

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


def score(network: nn.Module, kept: ValidationSet, loss: LossSettings, device: str) -> Scores:
    """Score a network on whole brains.

    Args:
        network: The network; its mode is restored.
        kept: From `fixed_set`.
        loss: Settings of the loss to report.
        device: Device of the network.
    """
    mode = network.training
    network.eval()
    cut = crop_slices if kept.slices else crop
    synthetic = _means(network, kept.synthetic, cut, loss, device)
    real = _means(network, kept.real_examples(), crop, loss, device)
    real_loss, real_dice, real_false = real
    network.train(mode)
    return Scores(*synthetic, real_dice, real_false, real_loss)


@torch.no_grad()
def _means(
    network: nn.Module,
    batches: Iterable[Example],
    cut: Callable[[Example], Example],
    loss: LossSettings,
    device: str,
) -> tuple[float, float, float]:
    """Return mean loss, Dice and false voxels; NaN without batches."""
    losses, dices, false = [], [], []
    for batch in batches:
        # One by one: a batch of whole brains may not fit into memory during training.
        for n in range(len(batch.image)):
            parts = (batch.image, batch.target, batch.brain)
            one = cut(Example(*(x[n : n + 1] for x in parts))).to(device)
            target = one.target
            logits = network(one.image)[0]
            losses.append(hybrid((logits,), target, loss).cpu())
            # As in the runtime: predictions outside the brain are discarded.
            logits = logits.masked_fill(one.brain == 0, -torch.inf)
            dices.append(dice(logits, target).cpu())
            outlined = (logits > 0).sum().cpu().float()
            false.append(torch.where(target.any().cpu(), torch.nan, outlined))
    if not losses:
        return math.nan, math.nan, math.nan
    return (
        float(torch.stack(losses).mean()),
        float(torch.cat(dices).nanmean()),
        float(torch.stack(false).nanmean()),
    )
