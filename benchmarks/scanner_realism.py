"""Synthetic scans beside real ones: a contact sheet, histograms, and the quantiles of lesions.

    python benchmarks/scanner_realism.py --bank bank.npz --data DATA --out OUT [--lesions 1000]

Writes `sheet.png`, `synthetic.png` (nothing real in it) and `histograms.png`, and prints one table:
lesion volume, contrast and ADC ratio of each cohort beside the paper's, and how far the histograms
of real and synthetic scans overlap.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from infarct.core.diffusion import Mask
from infarct.core.normalisation import fit_tissue_peak, normalise
from infarct.lab.simulation import sampling, scanner
from infarct.lab.simulation.cohort import Cohort, load_cohort
from infarct.lab.simulation.scanner import SimulatedScan
from infarct.lab.sources.bank import Bank
from infarct.preprocessing.case import CaseFiles
from infarct.preprocessing.load import open_case
from infarct.preprocessing.preprocess import preprocess
from infarct.preprocessing.templates import load_template

PAPER_ML = {
    "test": (1.09, 4.62, 27.84),
    "hyperacute": (1.44, 7.15, 28.36),
    "day-after": (3.21, 17.48, 64.43),
}
PAPER_KAPPA = {
    "test": (2.23, 3.26, 4.41),
    "hyperacute": (1.24, 1.67, 2.48),
    "day-after": (2.31, 3.13, 3.99),
}
SLICES = range(28, 150, 17)


@dataclass(frozen=True)
class Shown:
    """One scan on the MNI grid, in tissue-peak units."""

    name: str
    dwi: NDArray[np.float32]
    adc: NDArray[np.float32]
    brain: Mask
    lesion: Mask | None
    synthetic_only: bool


def real_scans(data: Path) -> Iterator[Shown]:
    """Prepare the real scans and the real normals."""
    found = [
        ("openads", CaseFiles(*_paths(data / "real/openads-02e8eb42", "{}.nii.gz"))),
        ("ads-02", CaseFiles(*_paths(data / "real/ads-subject02", "{}.nii.gz"))),
        ("isles22", _without_b0(data / "real/isles22-case0009")),
    ]
    for home in sorted((data / "normals").iterdir()):
        bvalue = json.loads((home / f"{home.name}.json").read_text())["bvalue_s_per_mm2"]
        files = CaseFiles(*_paths(home, home.name + "_{}.nii.gz"), bvalue=bvalue)
        found.append((home.name, files))
    for name, files in found:
        ready = preprocess(open_case(files), load_template())
        yield Shown(name, ready.dwi_normalised, ready.adc_normalised, ready.brain, None, False)


def _paths(home: Path, pattern: str) -> tuple[Path, Path, Path]:
    dwi, b0, adc = (home / pattern.format(kind) for kind in ("dwi", "b0", "adc"))
    return dwi, b0, adc


def _without_b0(home: Path) -> CaseFiles:
    return CaseFiles(home / "dwi.nii.gz", None, home / "adc.nii.gz")


def shown(scan: SimulatedScan, name: str) -> Shown:
    """Normalise a synthetic scan as `prepare` does."""
    brain = scan.brain.numpy()
    dwi, adc = (
        normalise(image, fit_tissue_peak(image, brain))
        for image in (scan.dwi.numpy(), scan.adc.numpy())
    )
    return Shown(name, dwi, adc, brain, scan.lesion.numpy(), not scan.record.background)


def draw_sheet(scans: list[Shown], file: Path) -> None:
    """Draw DWI over ADC of every scan at the same windows; synthetic lesions outlined."""
    rows, columns = 2 * len(scans), len(SLICES)
    figure, axes = plt.subplots(rows, columns, figsize=(1.6 * columns, 1.8 * rows))
    for number, scan in enumerate(scans):
        for column, z in enumerate(SLICES):
            for row, image, window in ((0, scan.dwi, (-5, 7)), (1, scan.adc, (-5, 12))):
                axis = axes[2 * number + row, column]
                low, high = window
                axis.imshow(image[:, :, z].T, origin="lower", cmap="gray", vmin=low, vmax=high)
                if scan.lesion is not None and scan.lesion[:, :, z].any() and row == 1:
                    axis.contour(scan.lesion[:, :, z].T, [0.5], colors="#00e5ff", linewidths=1.2)
                axis.axis("off")
        for row, kind in enumerate(("DWI", "ADC")):
            corner = axes[2 * number + row, 0]
            label = f"{scan.name}, {kind}"
            corner.text(0.02, 0.97, label, color="w", size=8, va="top", transform=corner.transAxes)
    figure.subplots_adjust(0, 0, 1, 0.99, 0.01, 0.05)
    figure.savefig(file, dpi=70, facecolor="white")
    plt.close(figure)


def histogram(scan: Shown, image: str) -> NDArray[np.float64]:
    """Return the density of normalised DWI or ADC in the brain over -6 to 12."""
    values = getattr(scan, image)[scan.brain]
    return np.histogram(np.clip(values, -6, 12), bins=90, range=(-6, 12), density=True)[0]


def draw_histograms(real: list[Shown], made: list[Shown], file: Path) -> None:
    """Draw the densities of real scans over the range of the synthetic, and print the overlap."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4))
    centres = np.linspace(-6, 12, 91)[:-1] + 0.1
    for axis, image in zip(axes, ("dwi", "adc"), strict=True):
        ours = np.array([histogram(scan, image) for scan in made])
        low, middle, high = np.percentile(ours, [5, 50, 95], axis=0)
        axis.fill_between(centres, low, high, color="0.8", label="synthetic, 5 - 95%")
        axis.plot(centres, middle, "k", label="synthetic, median")
        theirs = np.array([histogram(scan, image) for scan in real])
        for scan, curve in zip(real, theirs, strict=True):
            axis.plot(centres, curve, lw=0.8, label=scan.name)
        mean_ours, mean_theirs = ours.mean(axis=0), theirs.mean(axis=0)
        overlap = np.minimum(mean_ours, mean_theirs).sum() * 0.2
        inside = ((theirs >= ours.min(axis=0)) & (theirs <= ours.max(axis=0))).mean()
        print(f"{image}: overlap of mean densities {overlap:.2f}; real within range {inside:.2f}")
        axis.set(title=f"{image} / tissue-peak SD", yscale="linear")
        axis.legend(fontsize=6)
    figure.savefig(file, dpi=90)
    plt.close(figure)


def contrasts(scan: SimulatedScan) -> tuple[float, float, float] | None:
    """Return lesion ml, kappa_DWI and kappa_ADC: lesion against normal tissue (ADC .4 - 1.3)."""
    lesion, brain, adc = scan.lesion.numpy(), scan.brain.numpy(), scan.adc.numpy()
    if not lesion.any():
        return None
    tissue = brain & ~lesion & (adc > 0.4e-3) & (adc < 1.3e-3)
    dwi = scan.dwi.numpy()
    kappas = (float(image[lesion].mean() / image[tissue].mean()) for image in (dwi, adc))
    dwi_ratio, adc_ratio = kappas
    return float(lesion.sum()) / 1000, dwi_ratio, adc_ratio


def quantiles(values: list[float]) -> str:
    """Format the quartiles, the median first."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:6.2f} [{low:.2f}, {high:.2f}]"


def print_drawn(cohort: Cohort, bank: Bank, count: int) -> None:
    """Print the volumes aimed at in `count` drawn records with lesions."""
    records = [sampling.draw(cohort, bank, 1, i) for i in range(count)]
    volumes = [sum(s.volume_ml for s in r.lesions) for r in records if r.lesions]
    small = np.mean(np.array(volumes) < 1.7)
    free = np.mean([not r.lesions for r in records])
    print(
        f"{cohort.name:12s} drawn {count}: ml {quantiles(volumes)}, "
        f"{small:.0%} below 1.7 ml, {free:.0%} without lesion"
    )


def main() -> None:
    """Make the pictures and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--lesions", type=int, default=1000, help="records drawn per cohort")
    parser.add_argument("--scans", type=int, default=40, help="scans rendered per cohort")
    parser.add_argument("--made", type=int, default=24, help="scans for the pictures")
    options = parser.parse_args()
    mpl.use("Agg")
    options.out.mkdir(parents=True, exist_ok=True)
    bank = Bank.load(options.bank)

    training = load_cohort("training")
    made = [
        shown(scanner.render(sampling.draw(training, bank, 2, i), bank), f"synthetic {i}")
        for i in range(options.made)
    ]
    real = list(real_scans(options.data))
    paired = [s for pair in zip(real, made, strict=False) for s in pair]
    draw_sheet(paired, options.out / "sheet.png")
    draw_sheet([s for s in made if s.synthetic_only][:5], options.out / "synthetic.png")
    draw_histograms(real, made, options.out / "histograms.png")

    for name in ("training", *PAPER_ML):
        cohort = load_cohort(name)
        print_drawn(cohort, bank, options.lesions)
        with_lesion = replace(cohort, lesion_free=0.0)
        scans = (
            scanner.render(sampling.draw(with_lesion, bank, 3, i), bank)
            for i in range(options.scans)
        )
        measured = [c for c in map(contrasts, scans) if c]
        ml, dwi_ratio, adc_ratio = (list(column) for column in zip(*measured, strict=True))
        print(f"{name:12s} rendered {len(ml)}: ml {quantiles(ml)}")
        print(f"{'':12s} kappa_DWI {quantiles(dwi_ratio)}, kappa_ADC {quantiles(adc_ratio)}")
        if name in PAPER_ML:
            low, middle, high = PAPER_ML[name]
            print(f"{'':12s} paper ml {middle} [{low}, {high}], kappa_DWI {PAPER_KAPPA[name]}")


if __name__ == "__main__":
    main()
