"""Try the settings that a search found best, beside the paper's, on scans it did not search on.

    python benchmarks/classical_settings.py --bank bank.npz --search OUT [--data DIR] [--scans 20]

OUT is the folder of `infarct lab search`. Prints Dice (or, without a lesion, falsely outlined ml)
on synthetic cohorts of heads and lesions that were not searched on, on the MNI grid; then on the
real scans of the development data, on their own grid.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Iterator
from dataclasses import fields
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from infarct.core.diffusion import Image
from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume, read
from infarct.evaluation.metrics import dice
from infarct.inference.network import load_network
from infarct.lab.simulation.scanner import SimulatedScan
from infarct.lab.sources.bank import Bank
from infarct.lab.training.stream import Stream, StreamSettings
from infarct.lab.tuning.grids import METHODS, Settings, keep, load_pool, score_points
from infarct.preprocessing.load import open_case
from infarct.preprocessing.preprocess import Prepared, preprocess, restore
from infarct.preprocessing.templates import load_template
from infarct.segmentation.classical import FuzzySettings, is_map, t_score_mask
from infarct.segmentation.controls import load_healthy
from infarct.segmentation.models import BRAIN_NETWORK, get_model
from infarct.segmentation.postprocess import outline
from real_cases import jobs

COHORTS = ("test", "hyperacute", "not-visible")
SEED = 11


def best_of(search: Path, name: str) -> Settings:
    """Return the settings of the highest Dice; among equals, that which outlines least falsely."""
    with (search / "search.tsv").open(newline="") as file:
        mine = [row for row in csv.DictReader(file, delimiter="\t") if row["method"] == name]
    row = min(mine, key=lambda r: (-float(r["dice"]), float(r["false_ml"])))
    kind = type(METHODS[name].paper)
    return kind(**{f.name: float(row[f.name]) for f in fields(kind)})


def on_cohort(
    bank: Bank, cohort: str, scans: int, tried: list[tuple[str, Settings]]
) -> list[float]:
    """Return the mean score of each method and settings on one synthetic cohort."""
    healthy = load_healthy()
    stream = Stream(bank, StreamSettings(split="test", cohort=cohort), SEED)
    with TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number:04d}.npz" for number in range(scans)]
        for file, scan in zip(files, _showing(stream), strict=False):
            np.savez(file, **keep(scan, healthy))
        scores = []
        for name, settings in tried:
            points = score_points(
                METHODS[name], [settings], lambda fwhm: load_pool(files, fwhm, healthy.n)
            )
            scores += [float(of_cases.mean()) for _, of_cases in points]
    return scores


def _showing(stream: Stream) -> Iterator[SimulatedScan]:
    """Yield the scans that belong to a cohort: of one of infarcts, those that show any."""
    for number in count():
        scan = stream.scan(number)
        if stream.cohort.lesion_free or (scan.lesion & scan.brain).any():
            yield scan


def probability(settings: Settings, scan: Prepared) -> Image:
    """Return the map that is outlined above one half."""
    images = (scan.dwi_normalised, scan.adc_normalised, scan.brain, load_healthy())
    if isinstance(settings, FuzzySettings):
        return is_map(*images, settings)
    return t_score_mask(*images, settings).astype(np.float32)


def main() -> None:
    """Print both tables."""
    root = Path(__file__).parents[1]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("INFARCT_DATA", root / ".." / "shared" / "data")
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--search", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--scans", type=int, default=20)
    options = parser.parse_args()
    tried = [
        (name, settings)
        for name, method in METHODS.items()
        for settings in (method.paper, best_of(options.search, name))
    ]
    for name, settings in tried:
        print(name, settings)
    titles = [f"{name}, {who}" for name in METHODS for who in ("paper", "best here")]
    print("\n| scans | " + " | ".join(titles) + " |\n|---|" + "---|" * len(titles))
    bank = Bank.load(options.bank)
    for cohort in COHORTS:
        scores = on_cohort(bank, cohort, options.scans, tried)
        print(f"| {cohort} | " + " | ".join(f"{s:.2f}" for s in scores) + " |", flush=True)
    for job in jobs(options.data):
        case = open_case(job.files)
        scan = preprocess(case, load_template(), load_network(BRAIN_NETWORK))
        drawn = read(job.reference).data if job.reference else np.zeros(case.dwi.data.shape)
        reference = drawn > 0.5
        cells = []
        for name, settings in tried:
            native = restore(
                Volume(probability(settings, scan), MNI_GRID.affine), case, scan.registration
            )
            limit = get_model(name).threshold
            mask = outline(native, limit, scan.brain_native, case.slice_axis)
            false_ml = (mask & ~reference).sum() * case.dwi.grid.voxel_ml
            agreement = f"{dice(reference, mask):.2f} " if reference.any() else ""
            cells.append(f"{agreement}({false_ml:.1f} ml)")
        print(f"| {job.name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
