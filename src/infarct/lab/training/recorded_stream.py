"""Records a stream, so that several runs on the same scans render them only once.

A head takes seconds to render, but less to train a small network on. When several networks are
compared on one stream, only the first run renders.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from infarct.lab.simulation.cohort import load_cohort
from infarct.lab.training.config import Recipe
from infarct.lab.training.data_loader import OpenSource, Source, Split
from infarct.lab.training.sources import open_stream, stream_settings
from infarct.lab.training.stream import Batch, HeadBatch, SliceBatch


class Recorded:
    """A stream that reads recorded lesion batches and records missing ones.

    Images are stored as float16, as in a shelf. Heads are not recorded, because the brain-mask
    network is trained alone.

    Args:
        open_source: Opens the stream that renders missing batches; called only when needed.
        folder: Folder of this stream and seed.
    """

    def __init__(self, open_source: Callable[[], Source], folder: Path) -> None:
        self._open = open_source
        self._folder = folder
        self._stream: Source | None = None
        self._given = 0
        folder.mkdir(parents=True, exist_ok=True)

    def batches(self) -> Iterator[Batch]:
        """Yield lesion batches endlessly."""
        making: Iterator[Batch] | None = None
        while True:
            file = self._file(self._given)
            if file.is_file():
                making = None  # another run has recorded more; this stream is behind
            else:
                making = making or self._make_from(self._given)
                self._keep(file, next(making))
            batch = _read(file)
            self._given += 1
            yield batch

    def head_batches(self) -> Iterator[HeadBatch]:
        """Yield whole heads at 4 mm endlessly, without recording them."""
        return self._opened().head_batches()

    def slice_batches(self) -> Iterator[SliceBatch]:
        """Yield scans on their measured slices endlessly, without recording them."""
        return self._opened().slice_batches()

    def state_dict(self) -> dict[str, Any]:
        """Return the state that determines the next batch."""
        return {"given": self._given}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self._given = state["given"]

    def _opened(self) -> Source:
        if self._stream is None:
            self._stream = self._open()
        return self._stream

    def _make_from(self, number: int) -> Iterator[Batch]:
        """Continue the stream where the record ends."""
        if number:
            kept = torch.load(self._file(number - 1), weights_only=True)
            self._opened().load_state_dict(kept["after"])
        return self._opened().batches()

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:05d}.pt"

    def _keep(self, file: Path, batch: Batch) -> None:
        kept = {
            "image": batch.image.half(),
            "lesion": batch.lesion.bool(),
            "brain": batch.brain.bool(),
            "after": self._opened().state_dict(),
        }
        # Two runs may reach the same gap at once; each writes its own draft, with equal content.
        draft = file.with_suffix(f".{os.getpid()}")
        torch.save(kept, draft)
        draft.replace(file)


def _read(file: Path) -> Batch:
    kept = torch.load(file, weights_only=True)
    return Batch(*(kept[name].float() for name in ("image", "lesion", "brain")))


def open_recorded(bank: Path | None, recipe: Recipe, records: Path) -> OpenSource:
    """Return a function that opens the recorded synthetic stream of a recipe.

    Bank, cohort, settings and seed identify a record. The code of the simulator does not: delete
    the records after changing it.

    Args:
        bank: As for `sources.open_stream`.
        recipe: Batch size and settings of the stream.
        records: Folder of the records, with one subfolder for each stream and seed.

    Raises:
        ValueError: If the recipe mixes in real cases, which must not be copied.
    """
    if recipe.cases.folder:
        raise ValueError(f"cases.folder = {recipe.cases.folder!r}: real cases cannot be recorded")
    return partial(_open, bank, replace(recipe, network="", seed=0), records)


def _open(
    bank: Path | None, recipe: Recipe, records: Path, seed: int, split: Split, device: str
) -> Source:
    settings = stream_settings(recipe, split)
    drawn_from = {
        "bank": hashlib.sha256(bank.read_bytes()).hexdigest() if bank else "",
        "cohort": asdict(load_cohort(settings.cohort)),
        "stream": asdict(settings),
    }
    mark = hashlib.sha256(json.dumps(drawn_from, sort_keys=True).encode()).hexdigest()[:12]
    open_source = partial(open_stream(bank, recipe), seed, split, device)
    return Recorded(open_source, records / f"{split}-{seed}-{mark}")
