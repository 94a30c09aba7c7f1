"""Segment and evaluate a public dataset as it is distributed; see isles22.py and soop.py."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

INFARCT = (sys.executable, "-m", "infarct")


@dataclass(frozen=True)
class Dataset:
    """A public dataset.

    Attributes:
        name: Name for messages.
        get: How to get it.
        references: Folder of the reference masks, relative to the dataset.
        label: Label of the masks of acute lesions, if there are several kinds.
        published: Rows of figures for comparison: method, data, figures, source.
    """

    name: str
    get: str
    references: str
    label: str | None
    published: tuple[tuple[str, str, str, str], ...]


def commands(dataset: Dataset, folder: Path, out: Path, model: str) -> list[tuple[str, ...]]:
    """Return the commands that segment the dataset and evaluate the masks."""
    masks = out / "masks"
    evaluate = (
        *(*INFARCT, "evaluate", "--overwrite", "--out", str(out / "evaluation")),
        *("--reference", str(folder / dataset.references), "--prediction", f"{model}={masks}"),
        *("--dwi", str(folder), "--adc", str(folder)),
        *(("--label", dataset.label) if dataset.label else ()),
    )
    return [
        (*INFARCT, "bids", str(folder), str(masks), "participant", "--model", model),
        (*INFARCT, "bids", str(folder), str(masks), "group"),
        evaluate,
    ]


def main(dataset: Dataset, arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, segment, evaluate, and print published figures next to the result.

    Segmentation continues where it was interrupted. Failed scans (exit code 9) do not prevent the
    evaluation, which counts them as missing.
    """
    parser = argparse.ArgumentParser(description=f"Segment and evaluate {dataset.name}.")
    parser.add_argument("folder", type=Path, help=dataset.get)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="ensemble")
    args = parser.parse_args(arguments)
    references = args.folder / dataset.references
    if not references.is_dir():
        parser.error(f"{references} not found. {dataset.get}")
    for command in commands(dataset, args.folder, args.out, args.model):
        if (code := subprocess.run(command, check=False).returncode) not in (0, 9):
            raise SystemExit(code)
    print(f"\nPublished figures, for comparison with {args.out / 'evaluation'}:")
    for method, data, figures, source in dataset.published:
        print(f"- {method}, {data}: {figures} ({source})")
