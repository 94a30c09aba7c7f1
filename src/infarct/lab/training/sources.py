"""Opens the streams that a training learns from."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from infarct.lab.networks import DESIGNS
from infarct.lab.training.config import Recipe, parse
from infarct.lab.training.data_loader import OpenSource, Source, Split

if TYPE_CHECKING:
    from infarct.lab.training.stream import StreamSettings


def open_stream(bank: Path | None, recipe: Recipe) -> OpenSource:
    """Return what opens the synthetic stream.

    Args:
        bank: Packed anatomies, lesions and backgrounds; the one ICBM head if None.
        recipe: Its batch size and the settings of the stream.
    """
    return partial(_open_stream, bank, recipe)


def describe_stream(bank: Path | None, recipe: Recipe) -> str:
    """Return in words what a run learns from, for its model card.

    Args:
        bank: As given to `open_stream`.
        recipe: Its settings of the stream.
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
    real = "no scan of a patient."
    if recipe.cases.folder and seeks_lesions:
        count, aside = map(len, split_cases(recipe.cases))
        real = f"and, for {recipe.cases.share:.0%} of the volumes, {count} real cases with masks."
        if aside:
            real += f" {aside} more were held out for validation (seed {recipe.cases.split})."
    held_out = [f"background {name}" for name in left_out]
    for other in ("validation", "test"):
        theirs = held.anatomies_of(other)
        # A split without anatomies of its own sees all of them.
        names = theirs if set(theirs).isdisjoint(heads) else []
        counted = [*names, f"{len(held.lesions.of(other))} lesion masks"]
        held_out.append(f"{', '.join(counted)} for {other}")
    lines = [
        f"Synthetic scans made by `infarct.lab.training.stream`; {real}",
        "",
        f"- anatomies ({len(heads)}): {', '.join(heads)}",
        f"- real lesion masks: {len(held.lesions.of(split))}, beside procedural shapes",
        f"- real lesion-free backgrounds seen: {', '.join(seen) or 'none'}",
        f"- held out: {'; '.join(held_out)}",
    ]
    return "\n".join(lines) + "\n"


def stream_settings(recipe: Recipe, split: Split) -> StreamSettings:
    """Return what the stream of a recipe gives.

    Args:
        recipe: Its batch size and the settings of the stream.
        split: Validation is the same for every recipe but for the size of its batches.
    """
    # Here, not above: the networks can be exported and measured without the scanner.
    from infarct.lab.training.stream import StreamSettings  # noqa: PLC0415

    table = {"batch": 1 if recipe.shelf.size else recipe.batch, "split": split}
    if split == "train":
        table |= recipe.stream
    else:
        # The same for every run, whatever it leaves out of its training; and every sample another
        # head, for more of them say more.
        table["phases_per_volume"] = 1
    return parse(StreamSettings, table, "stream.")


def _open_stream(bank: Path | None, recipe: Recipe, seed: int, split: Split, device: str) -> Source:
    from infarct.lab.sources.bank import Bank  # noqa: PLC0415
    from infarct.lab.training.real_cases import Mixed  # noqa: PLC0415
    from infarct.lab.training.stream import Stream  # noqa: PLC0415

    chosen = stream_settings(recipe, split)
    stream = Stream(Bank.load(bank) if bank else Bank.from_icbm(), chosen, seed, device)
    # Validation stays synthetic, so that runs with and without real cases can be compared.
    if recipe.cases.folder and split == "train":
        return Mixed(stream, recipe.cases, chosen.batch, seed)
    return stream
