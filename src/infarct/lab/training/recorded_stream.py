"""Writes down what a stream gives, so that runs that learn from the same scans render them once.

A head takes seconds to render and a small network less to learn from. Where many networks are
compared on one stream, only the first to come renders.
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
    """A stream whose lesion batches are read from a folder where they are, else made and kept.

    Images are kept as float16, as a shelf keeps them. Heads are not kept: the brain-mask network
    learns alone.

    Args:
        open_source: Opens the stream that makes what is missing; not called while nothing is.
        folder: Of this stream and seed alone.
    """

    def __init__(self, open_source: Callable[[], Source], folder: Path) -> None:
        self._open = open_source
        self._folder = folder
        self._stream: Source | None = None
        self._given = 0
        folder.mkdir(parents=True, exist_ok=True)

    def batches(self) -> Iterator[Batch]:
        """Give lesion batches, without end."""
        making: Iterator[Batch] | None = None
        while True:
            file = self._file(self._given)
            if file.is_file():
                making = None  # others have written on; where this one stood is past
            else:
                making = making or self._make_from(self._given)
                self._keep(file, next(making))
            batch = _read(file)
            self._given += 1
            yield batch

    def head_batches(self) -> Iterator[HeadBatch]:
        """Make whole heads at 4 mm, without end and without a record."""
        return self._opened().head_batches()

    def slice_batches(self) -> Iterator[SliceBatch]:
        """Give scans on their measured slices, without end and without a record."""
        return self._opened().slice_batches()

    def state_dict(self) -> dict[str, Any]:
        """Return what the next batch depends on."""
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
        # Two runs may come to the same gap at once; each writes aside, and the files are equal.
        aside = file.with_suffix(f".{os.getpid()}")
        torch.save(kept, aside)
        aside.replace(file)


def _read(file: Path) -> Batch:
    kept = torch.load(file, weights_only=True)
    return Batch(*(kept[name].float() for name in ("image", "lesion", "brain")))


def open_recorded(bank: Path | None, recipe: Recipe, records: Path) -> OpenSource:
    """Return what opens the synthetic stream of a recipe from its record.

    A record is found by what its stream is drawn from: bank, cohort, settings and seed. It does not
    know the scanner's code; after a change to that, delete the records.

    Args:
        bank: As `sources.open_stream` takes it.
        recipe: Its batch size and the settings of the stream.
        records: Where records lie, a folder for each stream and seed.

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
