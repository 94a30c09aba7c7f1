"""Try the comparison of both sides on cohorts that were outlined: whom does it warn of what?

    python benchmarks/asymmetry.py OUT [--model ensemble] [--workers 2]

OUT is the folder of `benchmarks/cohorts.py`. Prints how many scans are warned of among those whose
large infarct was outlined badly, outlined well, small, or absent, and the volumes behind that.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from infarct.core.nifti import read
from infarct.evaluation.metrics import dice
from infarct.inference.network import load_network
from infarct.lab.simulation import write_cases
from infarct.preprocessing.load import open_case
from infarct.preprocessing.preprocess import preprocess
from infarct.preprocessing.templates import load_template
from infarct.segmentation.measured_slices import measured_slices, onto_slices
from infarct.segmentation.models import BRAIN_NETWORK, DEFAULT
from infarct.uncertainty.asymmetry import LARGE_ML, asymmetry_beyond

LARGE_INFARCT_ML = 30.0
BADLY = 0.6


def look_at(mask: Path, cases: Path) -> tuple[str, str, float]:
    """Return the group of a scan, its name, and the ml that look ischemic beyond its outline."""
    folder = cases / mask.parent.parent.name / mask.parent.name
    case = open_case(write_cases.files_of(folder))
    scan = preprocess(case, load_template(), load_network(BRAIN_NETWORK))
    outlined, true = read(mask).data > 0, read(folder / "lesion.nii.gz").data > 0
    slices = measured_slices(case, scan)
    mask = onto_slices(outlined.astype(np.float32), case, scan.registration, slices.grid) >= 0.5
    spacing_mm = float(slices.grid.spacing[2])
    found = asymmetry_beyond(slices.dwi, slices.adc, slices.brain, mask, spacing_mm)
    ml = float(true.sum()) * case.dwi.grid.voxel_ml
    if not ml:
        group = "no infarct"
    elif ml < LARGE_INFARCT_ML:
        group = f"infarct below {LARGE_INFARCT_ML:.0f} ml"
    else:
        well = dice(true, outlined) >= BADLY
        group = f"larger, Dice {'from' if well else 'below'} {BADLY}"
    return group, folder.name, found.volume_ml


def main() -> None:
    """Run over all masks of a model and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=DEFAULT)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    masks = sorted((options.out / options.model).rglob("lesion_mask.nii.gz"))
    if not masks:
        parser.error(f"{options.out / options.model} holds no masks; run benchmarks/cohorts.py")
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // options.workers))
    groups: dict[str, list[tuple[float, str]]] = defaultdict(list)
    with ProcessPoolExecutor(options.workers) as pool:
        done = pool.map(partial(look_at, cases=options.out / "cases"), masks)
        for group, name, ml in track(done, "scans", total=len(masks)):
            groups[group].append((ml, name))
    table = Table("scans", "how many", "warned", "median ml", "largest ml", "of")
    for group, found in sorted(groups.items()):
        volumes = [ml for ml, _ in found]
        warned = sum(ml >= LARGE_ML for ml in volumes)
        numbers = (len(found), warned, f"{np.median(volumes):.1f}", f"{max(volumes):.1f}")
        table.add_row(group, *map(str, numbers), max(found)[1])
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
