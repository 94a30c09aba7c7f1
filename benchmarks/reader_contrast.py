"""What do experts outline on real scans, and what does the scanner's reader on synthetic ones?

    python benchmarks/reader_contrast.py [--data DIR] [--bank bank.npz --scans 24]

Prints, for each connected part of each reference of the development data, its volume, its ratio to
the tissue around it on the DWI, as `infarct.lab.simulation.reader_outline` sees it, and how much of
its contrast its outermost voxels keep, and the voxels just beyond. With a bank, the same of
synthetic scans by size.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from infarct.core.diffusion import BRAIN_ADC
from infarct.core.nifti import read
from infarct.lab.simulation import acquisition, sampling, scanner, tissue
from infarct.lab.simulation.cohort import load_cohort
from infarct.lab.simulation.reader_outline import AROUND_MM, FAINTEST, contrasts
from infarct.lab.sources.bank import Bank
from infarct.measurement.volumetry import pieces
from infarct.preprocessing.case import CaseFiles
from infarct.preprocessing.load import open_case
from real_cases import jobs

SIZES_ML = (0.0, 0.2, 1.0, 5.0, np.inf)


@dataclass(frozen=True)
class Part:
    """A connected part of an outline.

    Attributes:
        scan: Where it was drawn.
        ml: Its volume.
        ratio: Of the DWI to the tissue around.
        inner: Contrast of its outermost voxels over that of its brightest tenth.
        outer: The same of the voxels just beyond.
    """

    scan: str
    ml: float
    ratio: float
    inner: float
    outer: float


def parts_of(
    scan: str,
    drawn: NDArray[np.bool_],
    dwi: NDArray[np.float32],
    solid: NDArray[np.bool_],
    spacing: tuple[float, float, float],
) -> Iterator[Part]:
    """Yield every part of an outline, largest first.

    Args:
        scan: Its name.
        drawn: (X, Y, Z), slices along Z.
        dwi: Same shape.
        solid: Same shape, tissue to compare with.
        spacing: mm along X, Y and Z.
    """
    numbered, pixel = pieces(drawn), spacing[:2]
    ratios = contrasts(numbered, dwi, solid, pixel)
    away = np.array([*pixel, 1e6])
    step = 1.01 * max(pixel)
    for number, ratio in enumerate(ratios, start=1):
        part = numbered == number
        outside = ndimage.distance_transform_edt(~part, sampling=away)
        inside = ndimage.distance_transform_edt(part, sampling=away)
        around = solid & ~drawn & (outside > AROUND_MM[0]) & (outside < AROUND_MM[1])
        rims = (part & (inside <= step), ~drawn & (outside <= step))
        if not all(rim.any() for rim in (around, *rims)):
            continue
        dark, bright = np.median(dwi[around]), np.percentile(dwi[part], 90)
        inner, outer = ((np.median(dwi[rim]) - dark) / (bright - dark) for rim in rims)
        ml = float(part.sum() * np.prod(spacing) / 1000)
        yield Part(scan, ml, ratio, float(inner), float(outer))


def real_parts(name: str, files: CaseFiles, reference: Path) -> Iterator[Part]:
    """Yield what was outlined on a real scan."""
    case = open_case(files)
    low, high = BRAIN_ADC
    solid = case.brain & (case.adc.data > low) & (case.adc.data < high)
    yield from parts_of(name, read(reference).data > 0, case.dwi.data, solid, case.dwi.grid.spacing)


def synthetic_parts(bank: Bank, scans: int) -> Iterator[Part]:
    """Yield what the reader outlines on scans of the cohort `test`."""
    low, high = BRAIN_ADC
    for index in range(scans):
        record = sampling.draw(load_cohort("test"), bank, 31, index)
        scan = scanner.acquire(tissue.build(record, bank, "cpu"), record)
        solid = (scan.true_brain & (scan.adc > low) & (scan.adc < high)).numpy()
        spacing = acquisition.grid(record.acquisition).spacing
        yield from parts_of(
            f"synthetic {index}", scan.lesion.numpy(), scan.dwi.numpy(), solid, spacing
        )


def by_size(name: str, parts: list[Part]) -> Table:
    """Return how much contrast the edges keep, by size, of what stands out at all."""
    table = Table(f"{name}: ml", "parts", "outermost voxels", "just beyond")
    for low, high in pairwise(SIZES_ML):
        some = [p for p in parts if low <= p.ml < high and p.ratio >= FAINTEST]
        if some:
            inner, outer = (np.median([getattr(p, k) for p in some]) for k in ("inner", "outer"))
            row = (f"{low:g} - {high:g}", f"{len(some)}", f"{inner:.2f}", f"{outer:.2f}")
            table.add_row(*row)
    return table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--bank", type=Path, help="look at synthetic scans too")
    parser.add_argument("--scans", type=int, default=24, help="synthetic ones")
    options = parser.parse_args()
    console = Console()
    with_reference = [job for job in jobs(options.data) if job.reference]
    every = [p for j in with_reference for p in real_parts(j.name, j.files, j.reference)]
    table = Table("scan", "ml", "ratio on the DWI", "outermost voxels", "just beyond")
    for p in every:
        table.add_row(p.scan, *(f"{x:.2f}" for x in (p.ml, p.ratio, p.inner, p.outer)))
    console.print(table)
    print(f"{sum(p.ratio >= FAINTEST for p in every)} of {len(every)} at {FAINTEST} or more")
    console.print(by_size("real", every))
    if options.bank:
        made = list(synthetic_parts(Bank.load(options.bank), options.scans))
        console.print(by_size("synthetic", made))


if __name__ == "__main__":
    main()
