"""Real cases with lesion masks (optional), mixed into the synthetic stream or used for validation.

Cases are prepared once, see `infarct.lab.training.prepare_real_cases`; reading them needs only
numpy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from infarct.core.errors import InputFileError
from infarct.core.file_search import matching
from infarct.inference.subvolumes import PHASES, STRIDE
from infarct.lab.training.config import CasesSettings, Recipe
from infarct.lab.training.data_loader import Source

_LEFT_RIGHT = 1

_PARTS = ("image", "lesion", "brain")
"""Arrays of a prepared case."""


@dataclass(frozen=True)
class RealBatch:
    """Sub-volumes of real cases, shaped as a batch of the stream.

    Attributes:
        image: (N, 3, 96, 112, 48) float32: DWI and ADC z-scored in the brain, IS map unscaled.
        lesion: (N, 1, 96, 112, 48) float32, 0 or 1.
        brain: Same shape.
    """

    image: Tensor
    lesion: Tensor
    brain: Tensor


def list_cases(folder: Path) -> list[Path]:
    """List and check the prepared cases of a folder, so that errors appear before training.

    Raises:
        InputFileError: If there are none, or a file is not a prepared case.
    """
    files = matching(folder, "*.npz")
    if not files:
        raise InputFileError(
            f"{folder}: no prepared cases (*.npz); run `infarct lab prepare-cases`"
        )
    for file in files:
        try:
            with np.load(file) as stored:
                complete = set(_PARTS) <= set(stored.files)
        except (OSError, ValueError, EOFError, TypeError, BadZipFile):
            complete = False
        if not complete:
            raise InputFileError(
                f"{file}: not a prepared case, or damaged; delete it and run "
                "`infarct lab prepare-cases` again"
            )
    return files


def read_case(file: Path, phases: Sequence[int]) -> list[tuple[Tensor, ...]]:
    """Read sub-volumes of a prepared case.

    Args:
        file: From `list_cases`.
        phases: Indices into `subvolumes.PHASES`.

    Returns:
        For each phase: image (3, 96, 112, 48), lesion and brain (1, 96, 112, 48), float32.
    """
    with np.load(file) as stored:
        whole = [stored[name] for name in _PARTS]
    parts = []
    for phase in phases:
        offsets = zip(PHASES[phase], STRIDE, strict=True)
        every = tuple(slice(offset, None, step) for offset, step in offsets)
        parts.append(
            tuple(torch.from_numpy(array[:, *every].astype(np.float32)) for array in whole)
        )
    return parts


def split_cases(settings: CasesSettings) -> tuple[list[Path], list[Path]]:
    """Split the prepared cases of a folder at random into training and held-out cases.

    The split is by patient, not by scan: all sessions of one patient (`sub-X_ses-...`) stay
    together.

    Args:
        settings: Folder, fraction of the patients held out, and random seed.

    Returns:
        Training files and held-out files, each in alphabetical order.

    Raises:
        InputFileError: If there are no cases, or too few patients to hold some out.
    """
    files = list_cases(Path(settings.folder))
    if not settings.validation:
        return files, []
    patients = sorted({_patient(file) for file in files})
    count = max(1, round(settings.validation * len(patients)))
    if count >= len(patients):
        raise InputFileError(
            f"{settings.folder}: {len(patients)} patients are too few to hold out "
            f"{settings.validation:.0%}; prepare more cases or set cases.validation = 0"
        )
    drawn = np.random.default_rng(settings.split).permutation(len(patients))[:count]
    held_out = {patients[index] for index in drawn}
    return (
        [file for file in files if _patient(file) not in held_out],
        [file for file in files if _patient(file) in held_out],
    )


def _patient(file: Path) -> str:
    return file.stem.split("_ses-")[0]


def on_patients(recipe: Recipe, folder: Path | None, split: int | None) -> Recipe:
    """Return a recipe that trains on the prepared cases of a folder.

    Args:
        recipe: The recipe as read. If all of its samples are real, an epoch becomes one pass over
            the training cases.
        folder: Output of `infarct lab prepare-cases`; None keeps the recipe's.
        split: Random seed of the validation split; None keeps the recipe's.

    Raises:
        InputFileError: If there are no cases, or too few patients to hold some out.
    """
    cases = recipe.cases
    if folder is not None:
        cases = replace(cases, folder=str(folder))
    if split is not None:
        cases = replace(cases, split=split)
    recipe = replace(recipe, cases=cases)
    if cases.folder and cases.share >= 1:
        recipe = replace(recipe, epoch=len(split_cases(cases)[0]))
    return recipe


class Mixed:
    """A stream in which a fraction of the batches are real.

    Args:
        stream: Stream of the synthetic batches.
        settings: Folder and fraction of real batches.
        batch: Volumes per batch.
        seed: Random seed of the draws.
    """

    def __init__(self, stream: Source, settings: CasesSettings, batch: int, seed: int) -> None:
        self.stream = stream
        self.files, _ = split_cases(settings)
        self.share = settings.share
        self.batch = batch
        self.generator = torch.Generator().manual_seed(seed)
        self.left: list[int] = []

    def batches(self) -> Iterator[Any]:
        """Yield batches, each synthetic or real at random."""
        synthetic = self.stream.batches()
        while True:
            if float(torch.rand((), generator=self.generator)) < self.share:
                drawn = [self._draw() for _ in range(self.batch)]
                yield RealBatch(*(torch.stack(parts) for parts in zip(*drawn, strict=True)))
            else:
                yield next(synthetic)

    def head_batches(self) -> Iterator[Any]:
        """Yield heads, all synthetic: real cases have no reference brain mask."""
        return self.stream.head_batches()

    def slice_batches(self) -> Iterator[Any]:
        """Yield scans on their measured slices, all synthetic: real cases are sub-volumes."""
        return self.stream.slice_batches()

    def state_dict(self) -> dict[str, Any]:
        """Return the state that determines the next batch."""
        return {
            "stream": self.stream.state_dict(),
            "generator": self.generator.get_state(),
            "left": list(self.left),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.stream.load_state_dict(state["stream"])
        self.generator.set_state(state["generator"].cpu())
        self.left = list(state.get("left", ()))

    def _draw(self) -> tuple[Tensor, ...]:
        """Return image, lesion and brain of one sub-volume of one case."""
        # Every case is used once before any is repeated, as in the paper's epochs.
        if not self.left:
            self.left = torch.randperm(len(self.files), generator=self.generator).tolist()
        case = self.left.pop()
        phase, flip = (
            int(torch.randint(n, (), generator=self.generator)) for n in (len(PHASES), 2)
        )
        parts = read_case(self.files[case], [phase])[0]
        return tuple(part.flip(_LEFT_RIGHT) for part in parts) if flip else parts
