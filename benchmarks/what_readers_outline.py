"""How much brighter than its surroundings is what experts outlined on real scans?

    python benchmarks/what_readers_outline.py [--data DIR]

Prints, for each connected part of each reference of the development data, its volume and its ratio
to the tissue around it on the DWI, as the scanner's reader sees it (`infarct.lab.reader`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from infarct.case import CaseFiles, open_case
from infarct.lab.reader import FAINTEST, TISSUE_ADC, contrasts
from infarct.quantify import pieces
from infarct.volume import read
from real_cases import jobs


def parts_of(files: CaseFiles, reference: Path) -> list[tuple[float, float]]:
    """Return volume (ml) and ratio of every part that was outlined on one scan, largest first."""
    case = open_case(files)
    parts = pieces(read(reference).data > 0)
    low, high = TISSUE_ADC
    tissue = case.brain & (case.adc.data > low) & (case.adc.data < high)
    x, y, _ = case.dwi.grid.spacing
    volumes = np.bincount(parts.ravel())[1:] * case.dwi.grid.voxel_ml
    ratios = contrasts(parts, case.dwi.data, tissue, (float(x), float(y)))
    return list(zip(volumes.tolist(), ratios, strict=True))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    table = Table("scan", "ml", "ratio on the DWI")
    every = []
    for job in jobs(options.data):
        for volume, ratio in parts_of(job.files, job.reference) if job.reference else ():
            table.add_row(job.name, f"{volume:.3f}", f"{ratio:.2f}")
            every.append(ratio)
    Console().print(table)
    print(f"{sum(r >= FAINTEST for r in every)} of {len(every)} at {FAINTEST} or more")


if __name__ == "__main__":
    main()
