"""Measure the atlases: against a reference, on held-out lesions, and ASPECTS on synthetic scans.

    python benchmarks/territories.py [--data DIR] [--bank FILE] [--cases N] [--cohort NAME]

Four tables. Dice of each major territory with the reference, over the voxels it labels. How often
both atlases name the same dominant territory, over the 300 lesions that did not go into ours.
ASPECTS of synthetic scans by the outlined mask and by the true one, the true one also through the
geometry the scan was made with. Sizes of the files that ship.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infarct.core import assets
from infarct.core.geometry import Affine
from infarct.core.nifti import read
from infarct.core.resampling import resample
from infarct.evaluation.metrics import dice
from infarct.lab.atlases.territories import held_out
from infarct.lab.simulation import write_cases
from infarct.lab.simulation.cohort import load_cohort
from infarct.lab.sources.bank import LARGEST_LESION_ML, Bank
from infarct.measurement.aspects import score
from infarct.measurement.atlas import load_atlas
from infarct.pipeline import segment_case
from infarct.preprocessing.load import open_case

SEED = 0
REFERENCE = "ArterialAtlas136"
MAJORS = [f"{name} {side}" for name in ("ACA", "MCA", "PCA", "VB") for side in ("left", "right")]


@dataclass(frozen=True, eq=False)
class Pair:
    """Both atlases on the reference's grid: 0 none, else 1 + the place in `MAJORS`."""

    ours: NDArray[np.intp]
    reference: NDArray[np.intp]


def load_pair(folder: Path) -> Pair:
    """Read the reference and bring ours onto its grid."""
    volume = read(folder / f"{REFERENCE}.nii.gz")
    table = np.zeros(256, dtype=np.intp)
    for line in (folder / f"{REFERENCE}.txt").read_text().splitlines():
        index, *_, major = line.split("|")
        # Its majors 9 and 10 are the ventricles, which no artery feeds.
        table[int(index)] = int(major) if int(major) <= len(MAJORS) else 0
    atlas = load_atlas("territories")
    own = np.zeros(256, dtype=np.intp)
    for entry in atlas.entries:
        own[entry.index] = 1 + MAJORS.index(f"{entry.group} {entry.side}")
    labels = resample(atlas.labels, volume.grid, labels=True)
    return Pair(own[labels], table[volume.data.astype(int)])


def print_overlaps(pair: Pair) -> None:
    """Print Dice per territory, and the share of voxels both give to the same one."""
    where = pair.reference > 0
    print(f"{'territory':12} {'Dice':>6} {'ours ml':>8} {'ref. ml':>8}")
    for number, name in enumerate(MAJORS, start=1):
        ours, reference = (pair.ours == number) & where, pair.reference == number
        ml = (ours.sum() / 1000, reference.sum() / 1000)
        print(f"{name:12} {dice(reference, ours):6.3f} {ml[0]:8.1f} {ml[1]:8.1f}")
    both = where & (pair.ours > 0)
    print(f"same territory in {(pair.ours == pair.reference)[both].mean():.1%} of the voxels\n")


def print_agreement(pair: Pair, lesions: Path) -> None:
    """Print how often both atlases name the same dominant territory of held-out lesions."""
    names = held_out(file.name for file in lesions.glob("*.nii.gz"))
    same = same_artery = n = 0
    apart: dict[str, int] = {}
    for name in sorted(names):
        lesion = read(lesions / name).data > 0.5
        if not 0 < lesion.sum() / 1000 <= LARGEST_LESION_ML:
            continue
        ours, reference = (dominant(atlas[lesion]) for atlas in (pair.ours, pair.reference))
        if not ours or not reference:
            continue
        n += 1
        same += ours == reference
        same_artery += ours.split()[0] == reference.split()[0]
        if ours != reference:
            key = f"{reference} -> {ours}"
            apart[key] = apart.get(key, 0) + 1
    print(f"{n} held-out lesions: same territory {same / n:.1%}, same artery {same_artery / n:.1%}")
    common = sorted(apart.items(), key=lambda pair: -pair[1])[:6]
    print("reference -> ours: " + ", ".join(f"{key} {count}" for key, count in common) + "\n")


def dominant(labels: NDArray[np.intp]) -> str:
    """Return the territory with most voxels, or nothing."""
    counts = np.bincount(labels, minlength=len(MAJORS) + 1)[1:]
    return MAJORS[int(counts.argmax())] if counts.any() else ""


def print_aspects(bank: Path, cohort: str, cases: int) -> None:
    """Print ASPECTS of synthetic cases by the outlined and the true mask."""
    print(f"{'case':22} {'true ml':>8} {'found ml':>8} {'true':>5} {'found':>5} {'geometry':>8}")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        drawn, source = load_cohort(cohort), Bank.load(bank)
        for index, home in enumerate(
            write_cases.synthesise(drawn, source, cases, SEED, Path(scratch))
        ):
            row = one_case(home, write_cases.mni_from_native(write_cases.draw_saving(SEED, index)))
            if row is None:
                continue
            rows.append(row)
            ml = f"{row[0]:8.2f} {row[1]:8.2f}"
            print(f"{home.name:22} {ml} {row[2]:5.0f} {row[3]:5.0f} {row[4]:8.0f}", flush=True)
    _, _, true, found, geometry = np.array(rows).T
    for name, other in (("outlined mask", found), ("true mask, true geometry", geometry)):
        apart = np.abs(other - true)
        print(f"{name}: mean difference {apart.mean():.2f}, within one {(apart <= 1).mean():.0%}")
    print()


def one_case(home: Path, mni_from_native: Affine) -> tuple[float, float, int, int, int] | None:
    """Return true ml, found ml, and ASPECTS by true mask, outlined mask, and true geometry.

    Args:
        home: Folder of the case.
        mni_from_native: (4, 4), as the head lay.
    """
    result = segment_case(open_case(write_cases.files_of(home)))
    truth = read(home / "lesion.nii.gz")
    lesion, grid = truth.data > 0.5, truth.grid
    true = score(lesion, grid, result.refinement.mni_from_native)[0]
    geometry = score(lesion, grid, mni_from_native)[0]
    if true is None or geometry is None:
        return None
    found = result.anatomy.aspects.score if result.anatomy.aspects else 10
    ml = (lesion.sum() * grid.voxel_ml, result.measurements.lesion_volume_ml)
    return *ml, true.score, found, geometry.score


def print_sizes() -> None:
    """Print the sizes of the files that ship."""
    total = 0
    for name, asset in assets.index().items():
        if name.startswith("atlas/"):
            size = (assets.ROOT / asset.file).stat().st_size
            total += size
            print(f"{asset.file:42} {size:8,} bytes")
    print(f"{'together':42} {total:8,} bytes")


def main() -> None:
    """Print the tables."""
    root = Path(__file__).parents[1]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("INFARCT_DATA", root / ".." / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--bank", type=Path, help="from `infarct lab bank`; no ASPECTS without")
    parser.add_argument("--cohort", default="test")
    parser.add_argument("--cases", type=int, default=20)
    options = parser.parse_args()
    pair = load_pair(Path(options.data) / "atlas")
    print_overlaps(pair)
    print_agreement(pair, Path(options.data) / "lesions")
    if options.bank:
        print_aspects(options.bank, options.cohort, options.cases)
    print_sizes()


if __name__ == "__main__":
    main()
