"""Opens the streams of training data."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from infarct.lab.networks import DESIGNS
from infarct.lab.training.config import Recipe, parse
from infarct.lab.training.data_loader import OpenSource, Source, Split

if TYPE_CHECKING:
    from infarct.lab.training.stream import StreamSettings

_ONE_VOLUNTEER = "siemens-prisma-hf"
"""Backgrounds with this prefix show one volunteer in several positions of the head."""


def open_stream(bank: Path | None, recipe: Recipe) -> OpenSource:
    """Return a function that opens the synthetic stream.

    Args:
        bank: Packed anatomies, lesions and backgrounds; the ICBM head only if None.
        recipe: Batch size and settings of the stream.
    """
    return partial(_open_stream, bank, recipe)


def describe_stream(bank: Path | None, recipe: Recipe) -> str:
    """Describe the training data of a run in Markdown, for its model card.

    Args:
        bank: As for `open_stream`.
        recipe: Settings of the stream.
    """
    from infarct.lab.sources.bank import Bank  # noqa: PLC0415

    held = Bank.load(bank) if bank else Bank.from_icbm()
    settings = stream_settings(recipe, "train")
    left_out, split = settings.leave_out, settings.split
    from infarct.lab.training.real_cases import split_cases  # noqa: PLC0415

    heads = held.anatomies_of(split)
    seen = held.without_backgrounds(left_out).backgrounds_of(split)
    seeks_lesions = DESIGNS[recipe.network].answers == "lesion"
    if not seeks_lesions:
        seen = []  # `Stream.head_batches` draws none
    real = "no patient scans."
    if recipe.cases.folder and seeks_lesions:
        count, apart = map(len, split_cases(recipe.cases))
        real = f"and, for {recipe.cases.share:.0%} of the volumes, {count} real cases with masks."
        if apart:
            real += f" {apart} more were held out for validation (seed {recipe.cases.split})."
    held_out = [f"background {name}" for name in left_out]
    for other in ("validation", "test"):
        theirs = held.anatomies_of(other)
        # A split without its own anatomies uses all of them.
        names = theirs if set(theirs).isdisjoint(heads) else []
        counted = [*names, f"{len(held.lesions.of(other))} lesion masks"]
        held_out.append(f"{', '.join(counted)} for {other}")
    lines = [
        f"Synthetic scans from `infarct.lab.training.stream`; {real}",
        "",
        f"- anatomies ({len(heads)}): {', '.join(heads)}",
        f"- real lesion masks: {len(held.lesions.of(split))}, in addition to procedural shapes",
        f"- real lesion-free backgrounds: {', '.join(seen) or 'none'}",
        f"- held out: {'; '.join(held_out)}",
    ]
    volunteer = [name for name in seen if name.startswith(_ONE_VOLUNTEER)]
    if len(volunteer) > 1:
        lines.insert(-1, f"- {', '.join(volunteer)}: one volunteer in {len(volunteer)} positions")
    return "\n".join(lines) + "\n"


def stream_settings(recipe: Recipe, split: Split) -> StreamSettings:
    """Return the stream settings of a recipe.

    Args:
        recipe: Batch size and settings of the stream.
        split: Training or validation. The validation stream is the same for every recipe, except
            for the batch size.
    """
    # Imported here: networks can be exported and measured without the simulator.
    from infarct.lab.training.stream import StreamSettings  # noqa: PLC0415

    table = {"batch": 1 if recipe.shelf.size else recipe.batch, "split": split}
    if split == "train":
        table |= recipe.stream
    else:
        # The same for every run, regardless of what its training leaves out. Every sample is from a
        # different head, which makes the scores more precise.
        table["phases_per_volume"] = 1
    return parse(StreamSettings, table, "stream.")


def _open_stream(bank: Path | None, recipe: Recipe, seed: int, split: Split, device: str) -> Source:
    from infarct.lab.sources.bank import Bank  # noqa: PLC0415
    from infarct.lab.training.real_cases import Mixed  # noqa: PLC0415
    from infarct.lab.training.stream import Stream  # noqa: PLC0415

    chosen = stream_settings(recipe, split)
    stream = Stream(Bank.load(bank) if bank else Bank.from_icbm(), chosen, seed, device)
    # Validation stays synthetic, so that runs with and without real cases are comparable.
    if recipe.cases.folder and split == "train":
        return Mixed(stream, recipe.cases, chosen.batch, seed)
    return stream
