"""How hard the named cohorts are for the classical methods, beside what the paper reports.

    python benchmarks/scanner_difficulty.py --bank bank.npz [--cases 100] [--out table.json]

Every case goes the long way: written to disk as a scanner would save it, read, registered,
normalised, outlined and brought back, as `infarct segment` does. The brain mask is given, so that
the method alone is judged.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from infarct.core.nifti import read
from infarct.evaluation.metrics import dice
from infarct.lab.simulation import write_cases
from infarct.lab.simulation.cohort import load_cohort
from infarct.lab.sources.bank import Bank
from infarct.pipeline import segment_case
from infarct.preprocessing.case import CaseFiles
from infarct.preprocessing.load import open_case
from infarct.segmentation.models import get_model
from infarct.segmentation.predict import predict

PAPER = {
    "test": "c-fuzzy .45, t-score .37",
    "hyperacute": "c-fuzzy .23",
    "day-after": "c-fuzzy .48",
    "not-visible": "",
}


@dataclass(frozen=True)
class Score:
    """One case: lesion volume, contrast, and how each method did."""

    name: str
    ml: float
    dwi_ratio: float
    adc_ratio: float
    dice_cfuzzy: float
    dice_tscore: float
    false_ml_cfuzzy: float
    false_ml_tscore: float


def score(folder: Path) -> Score:
    """Segment a saved case and score both methods in its own space."""
    dwi, b0, adc, lesion, brain = (
        folder / f"{kind}.nii.gz" for kind in ("dwi", "b0", "adc", "lesion", "brain")
    )
    case = open_case(CaseFiles(dwi, b0, adc, brain=brain))
    result = segment_case(case, "cfuzzy")
    by_tscore = predict(case, result.prepared, get_model("tscore"))
    masks = result.lesion.data.astype(bool), by_tscore.candidates
    truth = read(lesion).data > 0.5
    voxel_ml = case.dwi.grid.voxel_ml
    normal = case.brain & ~truth & (case.adc.data > 0.4e-3) & (case.adc.data < 1.3e-3)
    some = bool(truth.any())
    kappas = [
        float(image.data[truth].mean() / image.data[normal].mean()) if some else np.nan
        for image in (case.dwi, case.adc)
    ]
    overlaps = [dice(mask, truth) if some else np.nan for mask in masks]
    false_ml = [float((mask & ~truth).sum()) * voxel_ml for mask in masks]
    return Score(folder.name, float(truth.sum()) * voxel_ml, *kappas, *overlaps, *false_ml)


def scores(name: str, bank: Bank, count: int) -> Iterator[Score]:
    """Draw, save, segment and score the cases of a cohort, one at a time."""
    cohort = load_cohort(name)
    with tempfile.TemporaryDirectory() as folder:
        for index in range(count):
            home = Path(folder) / f"{name}-{index}"
            write_cases.make_case(cohort, bank, 11, index, home)
            yield score(home)
            for file in home.iterdir():
                file.unlink()


def summary(name: str, found: list[Score]) -> str:
    """Format what a cohort came to."""

    def quartiles(field: str) -> str:
        values = [v for s in found if not np.isnan(v := getattr(s, field))]
        if not values:
            return "-"
        low, middle, high = np.percentile(values, [25, 50, 75])
        return f"{middle:.2f} [{low:.2f}, {high:.2f}]"

    def mean(field: str) -> str:
        values = [v for s in found if not np.isnan(v := getattr(s, field))]
        return f"{np.mean(values):.3f}" if values else "-"

    return (
        f"{name} ({len(found)}): mean Dice c-fuzzy {mean('dice_cfuzzy')}, "
        f"t-score {mean('dice_tscore')} (paper: {PAPER[name] or '-'})\n"
        f"  ml {quartiles('ml')}, kappa_DWI {quartiles('dwi_ratio')}, "
        f"kappa_ADC {quartiles('adc_ratio')}\n"
        f"  false ml c-fuzzy {quartiles('false_ml_cfuzzy')}, "
        f"t-score {quartiles('false_ml_tscore')}"
    )


def main() -> None:
    """Score the cohorts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--cohorts", nargs="+", default=list(PAPER))
    parser.add_argument("--out", type=Path, help="every score, as JSON")
    options = parser.parse_args()
    bank = Bank.load(options.bank)
    everything = []
    for name in options.cohorts:
        found = list(scores(name, bank, options.cases))
        everything += [asdict(s) for s in found]
        print(summary(name, found), flush=True)
    if options.out:
        options.out.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
