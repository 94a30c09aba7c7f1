"""Real cases with masks, for who has them: mixed into the synthetic stream, or scored beside it.

Cases are prepared once, see `infarct.lab.casebook`; what is read here needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from infarct.errors import InputFileError
from infarct.folders import matching
from infarct.interleave import PHASES, STRIDE
from infarct.lab.feed import Source
from infarct.lab.recipes import CasesSettings

_LEFT_RIGHT = 1

_PARTS = ("image", "lesion", "brain")
"""Of a prepared case."""


@dataclass(frozen=True)
class RealBatch:
    """Sub-volumes of real cases, shaped as a batch of the stream.

    Attributes:
        image: (N, 3, 96, 112, 48) float32: DWI and ADC z-scored in the brain, IS raw.
        lesion: (N, 1, 96, 112, 48) float32, 0 or 1.
        brain: Same shape.
    """

    image: Tensor
    lesion: Tensor
    brain: Tensor


def list_cases(folder: Path) -> list[Path]:
    """List the prepared cases of a folder, each of them opened: learning takes hours until then.

    Raises:
        InputFileError: If there are none, or a file is something else.
    """
    files = matching(folder, "*.npz")
    if not files:
        raise InputFileError(
            f"{folder}: no prepared cases (*.npz); run `infarct lab prepare-cases`"
        )
    for file in files:
        try:
            with np.load(file) as stored:
                whole = set(_PARTS) <= set(stored.files)
        except (OSError, ValueError, EOFError, TypeError, BadZipFile):
            whole = False
        if not whole:
            raise InputFileError(
                f"{file}: is no prepared case, or a damaged one; delete it, and run "
                "`infarct lab prepare-cases` again"
            )
    return files


def read_case(file: Path, phases: Sequence[int]) -> list[tuple[Tensor, ...]]:
    """Read sub-volumes of a prepared case.

    Args:
        file: From `list_cases`.
        phases: Which of the 16 of `interleave.PHASES`.

    Returns:
        Of each phase image (3, 96, 112, 48), lesion and brain (1, 96, 112, 48), float32.
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


class Mixed:
    """A stream in which a share of the batches are real.

    Args:
        stream: Gives the synthetic ones.
        settings: Folder and share.
        batch: Volumes in a batch.
        seed: Of what is drawn.
    """

    def __init__(self, stream: Source, settings: CasesSettings, batch: int, seed: int) -> None:
        self.stream = stream
        self.files = list_cases(Path(settings.folder))
        self.share = settings.share
        self.batch = batch
        self.generator = torch.Generator().manual_seed(seed)

    def batches(self) -> Iterator[Any]:
        """Make batches, synthetic or real, by the toss of a biased coin."""
        synthetic = self.stream.batches()
        while True:
            if float(torch.rand((), generator=self.generator)) < self.share:
                drawn = [self._draw() for _ in range(self.batch)]
                yield RealBatch(*(torch.stack(parts) for parts in zip(*drawn, strict=True)))
            else:
                yield next(synthetic)

    def head_batches(self) -> Iterator[Any]:
        """Make heads: all synthetic, for real cases come without a drawn brain."""
        return self.stream.head_batches()

    def slice_batches(self) -> Iterator[Any]:
        """Make scans on their measured slices: all synthetic, for real cases are sub-volumes."""
        return self.stream.slice_batches()

    def state_dict(self) -> dict[str, Any]:
        """Return what the next batch depends on."""
        return {"stream": self.stream.state_dict(), "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.stream.load_state_dict(state["stream"])
        self.generator.set_state(state["generator"].cpu())

    def _draw(self) -> tuple[Tensor, ...]:
        """Return image, lesion and brain of one sub-volume of one case."""
        case, phase, flip = (
            int(torch.randint(n, (), generator=self.generator))
            for n in (len(self.files), len(PHASES), 2)
        )
        parts = read_case(self.files[case], [phase])[0]
        return tuple(part.flip(_LEFT_RIGHT) for part in parts) if flip else parts
