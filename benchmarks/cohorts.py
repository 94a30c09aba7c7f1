"""Run every method on the named synthetic cohorts, as a user would, and keep all masks.

    python benchmarks/cohorts.py --bank bank.npz --out OUT [--cases 200] [--workers 2]
        [--cohorts test ...] [--models ensemble dagmnet-ch3 cfuzzy tscore]

Cases are written to disk as a scanner saves them, read, placed and outlined; what is there already
is not made again, so that a model can be added later and a broken run goes on. What a model finds
before it is judged is kept in OUT/candidates, and judged by every run: a new calibration needs no
new reading; another bank or network needs another OUT. OUT/costs.tsv says what one scan costs by
each model named. Then:

    python benchmarks/calibration.py OUT --model ensemble
    infarct evaluate --reference OUT/cases --subjects OUT/cases/subjects.tsv --costs OUT/costs.tsv
        --prediction ensemble=OUT/ensemble --prediction cfuzzy=OUT/cfuzzy --out REPORT
        --dwi OUT/cases --adc OUT/cases --focus test
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path

import numpy as np
from rich.progress import track

from infarct.core.nifti import Volume, read, write
from infarct.inference.network import load_network
from infarct.lab.calibration.collect import NOTE, networks_of, read_row, row_of, write_row
from infarct.lab.provenance import claim
from infarct.lab.simulation import write_cases
from infarct.lab.simulation.cohort import load_cohort
from infarct.lab.sources.bank import Bank, made_from
from infarct.preprocessing.case import CaseFiles
from infarct.preprocessing.load import open_case
from infarct.preprocessing.preprocess import preprocess
from infarct.preprocessing.templates import load_template
from infarct.segmentation.models import BRAIN_NETWORK, get_model, model_names
from infarct.segmentation.predict import predict_several
from infarct.uncertainty.candidate_filter import keep_pieces
from real_cases import Job, run

COHORTS = ("test", "hyperacute", "day-after", "not-visible", "embolic")
SEED = 11


@cache
def load_bank(path: Path) -> Bank:
    """Load the bank once in each process."""
    return Bank.load(path)


def ensure_case(bank: Path, cohort: str, index: int, cases: Path) -> CaseFiles:
    """Return one case, made if it is not there."""
    folder = cases / cohort / f"{cohort}-{SEED:04d}-{index:04d}"
    return write_cases.ensure_case(load_cohort(cohort), load_bank(bank), SEED, index, folder)


def run_case(bank: Path, cohort: str, index: int, models: Sequence[str], out: Path) -> None:
    """Outline one case by every model that has not done so, and judge what all have found."""
    files = ensure_case(bank, cohort, index, out / "cases")
    name = files.dwi.parent.name
    candidates = {m: out / "candidates" / m / cohort / f"{name}.nii.gz" for m in models}
    rows = {m: out / "rows" / m / f"{name}.json" for m in models}
    open_work = [get_model(m) for m, file in candidates.items() if not file.is_file()]
    if open_work:
        case = open_case(files)
        prepared = preprocess(case, load_template(), load_network(BRAIN_NETWORK))
        reference = read(files.dwi.with_name("lesion.nii.gz")).data > 0
        predictions = predict_several(case, prepared, open_work)
        for model, prediction in zip(open_work, predictions, strict=True):
            if model.networks:
                row = row_of(case, prepared, prediction, reference)
                write_row(row, rows[model.name])
            save(case.dwi.like(prediction.candidates), candidates[model.name])
    for model, file in candidates.items():
        found = read(file)
        lesion = found.data > 0
        if candidate_filter := get_model(model).candidate_filter:
            features = read_row(rows[model]).candidates
            keep = candidate_filter.keeps(
                [candidate_filter.calibration.lesion_logit(row) for row in features]
            )
            lesion = keep_pieces(lesion, keep)
        save(found.like(lesion), out / model / cohort / name / "lesion_mask.nii.gz")


def claim_folders(bank: Path, models: Sequence[str], out: Path) -> None:
    """Refuse cases and candidates of another bank or network; folders without a note go on."""
    facts = {out / "cases": made_from(bank)}
    facts |= {out / "candidates" / model: dict(networks_of(model)) for model in models}
    for folder, made in facts.items():
        if (folder / NOTE).is_file() or not folder.is_dir():
            claim(folder / NOTE, made, "give another --out")


def save(mask: Volume, file: Path) -> None:
    """Write a mask, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"draft-{file.name}")
    write(mask.like(mask.data.astype(np.uint8)), draft, "uint8")
    draft.replace(file)


def parameters_of(model: str) -> int:
    """Count the parameters of a model that ships, as the cards of its networks say."""
    cards = [network.with_suffix(".md").read_text() for network in get_model(model).networks]
    counts = (re.search(r"([\d,]+) parameters", card) for card in cards)
    return sum(int(count[1].replace(",", "")) for count in counts if count)


def write_costs(files: CaseFiles, models: Sequence[str], to: Path) -> None:
    """Tabulate what each model costs who runs the command on one scan, on all cores."""
    with to.open("w", newline="") as file, tempfile.TemporaryDirectory() as scratch:
        table = csv.writer(file, delimiter="\t")
        table.writerow(("tool", "parameters", "seconds", "memory_gb"))
        for model in track(models, "costs"):
            job = Job(files.dwi.parent.name, files, None)
            seconds, megabytes = run(job, model, Path(scratch) / "result")
            memory = f"{megabytes / 1024:.2f}"
            table.writerow((model, parameters_of(model), f"{seconds:.1f}", memory))


def main() -> None:
    """Run it all, and write the table of costs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--cohorts", nargs="+", default=list(COHORTS))
    parser.add_argument("--models", nargs="*", default=model_names())
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    claim_folders(options.bank, options.models, options.out)
    # The workers share the cores; they read this when they start.
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // options.workers))
    with ProcessPoolExecutor(options.workers) as pool:
        jobs = [
            pool.submit(run_case, options.bank, cohort, index, options.models, options.out)
            for index in range(options.cases)
            for cohort in options.cohorts
        ]
        for job in track(as_completed(jobs), "cases", total=len(jobs)):
            job.result()
    write_cases.write_subjects(options.out / "cases")
    del os.environ["OMP_NUM_THREADS"]
    first = ensure_case(options.bank, options.cohorts[0], 0, options.out / "cases")
    write_costs(first, options.models, options.out / "costs.tsv")


if __name__ == "__main__":
    main()
