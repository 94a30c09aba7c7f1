"""Run every method on the named synthetic cohorts, as a user would, and keep all masks.

    python benchmarks/cohorts.py --bank bank.npz --out OUT [--cases 200] [--workers 2]
        [--cohorts test ...] [--models ensemble dagmnet-ch3 cfuzzy tscore]

Cases are written to disk as a scanner saves them, read, placed and outlined; what is there already
is not made again, so that a model can be added later and a broken run goes on. Then:

    python benchmarks/calibration.py OUT --model ensemble
    infarct evaluate --reference OUT/cases --subjects OUT/cases/subjects.tsv --costs OUT/costs.tsv
        --prediction ensemble=OUT/ensemble --prediction cfuzzy=OUT/cfuzzy --out REPORT
        --dwi OUT/cases --adc OUT/cases --focus test
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path

import numpy as np
from rich.progress import track

from infarct.calibration import judge
from infarct.case import CaseFiles, open_case
from infarct.inference import load_network
from infarct.lab import synth
from infarct.lab.bank import Bank
from infarct.lab.candidates import row_of, write_row
from infarct.lab.cohort import load_cohort
from infarct.prepare import prepare
from infarct.reading import evidence_of, read_scan
from infarct.segmenters import BRAIN_NETWORK, get_segmenter, segmenter_names
from infarct.templates import load_template
from infarct.volume import read, write

COHORTS = ("test", "hyperacute", "day-after", "not-visible")
SEED = 11


@cache
def load_bank(path: Path) -> Bank:
    """Load the bank once in each process."""
    return Bank.load(path)


def make_case(bank: Path, cohort: str, index: int, cases: Path) -> Path:
    """Draw and save one case if it is not there; return its folder."""
    folder = cases / cohort / f"{cohort}-{SEED:04d}-{index:04d}"
    if not (folder / "record.json").is_file():
        synth.make_case(load_cohort(cohort), load_bank(bank), SEED, index, folder)
    return folder


def run_case(
    bank: Path, cohort: str, index: int, models: Sequence[str], out: Path
) -> dict[str, float]:
    """Outline one case by every model that has not done so; return the seconds of each."""
    folder = make_case(bank, cohort, index, out / "cases")
    masks = {m: out / m / cohort / folder.name / "lesion_mask.nii.gz" for m in models}
    open_work = [model for model, mask in masks.items() if not mask.is_file()]
    if not open_work:
        return {}
    bvalue = json.loads((folder / "record.json").read_text(encoding="utf-8"))["bvalue"]
    dwi, b0, adc = (folder / f"{kind}.nii.gz" for kind in ("dwi", "b0", "adc"))
    start = time.perf_counter()
    case = open_case(CaseFiles(dwi, b0, adc, bvalue))
    prepared = prepare(case, load_template(), load_network(BRAIN_NETWORK))
    common = time.perf_counter() - start
    reference = read(folder / "lesion.nii.gz").data > 0
    seconds = {}
    for model in open_work:
        start = time.perf_counter()
        segmenter = get_segmenter(model)
        reading = read_scan(case, prepared, segmenter)
        lesion = reading.candidates
        evidence = evidence_of(case, prepared, reading)
        if segmenter.judge and evidence:
            lesion = judge(evidence, segmenter.judge).lesion
        seconds[model] = common + time.perf_counter() - start
        if segmenter.networks:
            row = row_of(case, prepared, reading, reference)
            write_row(row, out / "rows" / model / f"{folder.name}.json")
        masks[model].parent.mkdir(parents=True, exist_ok=True)
        write(case.dwi.like(lesion.astype(np.uint8)), masks[model], "uint8")
    return seconds


def main() -> None:
    """Run it all, and write the table of costs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--cohorts", nargs="+", default=list(COHORTS))
    parser.add_argument("--models", nargs="*", default=segmenter_names())
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    # The workers share the cores; they read this when they start.
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // options.workers))
    spent: dict[str, list[float]] = defaultdict(list)
    with ProcessPoolExecutor(options.workers) as pool:
        jobs = [
            pool.submit(run_case, options.bank, cohort, index, options.models, options.out)
            for index in range(options.cases)
            for cohort in options.cohorts
        ]
        for job in track(as_completed(jobs), "cases", total=len(jobs)):
            for model, seconds in job.result().items():
                spent[model].append(seconds)
    synth.write_subjects(options.out / "cases")
    with (options.out / "costs.tsv").open("w", newline="") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow(("tool", "seconds"))
        table.writerows((model, f"{np.mean(values):.1f}") for model, values in spent.items())


if __name__ == "__main__":
    main()
