"""Tell from a cohort that was outlined what kind of infarct a method misses.

    python benchmarks/missed_infarcts.py OUT [--model ensemble] [--least-ml 1.7]

OUT is that of `benchmarks/cohorts.py`. The records of the synthetic scans say how old the largest
infarct is, how far its ADC and its signal are from normal tissue's, and how low it lies; mean Dice
is printed for each, of infarcts of `--least-ml` and more, for small ones are missed for their size.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from infarct.core.nifti import read
from infarct.evaluation.metrics import dice
from infarct.segmentation.models import DEFAULT

ADC_LIMITS = (0.0, 0.5, 0.6, 0.7, 0.8, 1.1)
HEIGHT_LIMITS_MM = (-90.0, -20.0, -5.0, 20.0, 90.0)


@dataclass(frozen=True)
class Infarct:
    """The largest infarct of a scan, and how well all of them were outlined.

    Attributes:
        name: Of the scan.
        dice: Of the outline.
        ml: Of the reference.
        phase: How old.
        adc_gain: ADC over that of normal tissue.
        b0_gain: Signal without diffusion weighting over that of normal tissue.
        height_mm: z of its centre in MNI space.
    """

    name: str
    dice: float
    ml: float
    phase: str
    adc_gain: float
    b0_gain: float
    height_mm: float


def read_infarct(case: Path, mask: Path) -> Infarct | None:
    """Score one scan; None without an infarct."""
    reference = read(case / "lesion.nii.gz")
    lesion = reference.data > 0
    if not lesion.any():
        return None
    record = json.loads((case / "record.json").read_text(encoding="utf-8"))
    largest = max(record["record"]["lesions"], key=lambda spot: float(spot["volume_ml"]))
    return Infarct(
        name=case.name,
        dice=float(dice(lesion, read(mask).data > 0)),
        ml=float(lesion.sum() * reference.grid.voxel_ml),
        phase=largest["kind"],
        adc_gain=largest["adc_gain"],
        b0_gain=largest["b0_gain"],
        height_mm=largest["centre_mm"][2],
    )


def line(what: str, chosen: list[Infarct]) -> str:
    """Return a row of the table."""
    scores = [infarct.dice for infarct in chosen]
    mean = f"{np.mean(scores):.2f}" if scores else "-"
    missed = sum(score == 0 for score in scores)
    return f"| {what} | {len(scores)} | {mean} | {missed} |"


def main() -> None:
    """Print the tables, and the worst by name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=DEFAULT)
    parser.add_argument("--least-ml", type=float, default=1.7)
    options = parser.parse_args()
    infarcts = []
    for mask in sorted((options.out / options.model).rglob("lesion_mask.nii.gz")):
        case = options.out / "cases" / mask.parent.parent.name / mask.parent.name
        infarct = read_infarct(case, mask)
        if infarct and infarct.ml >= options.least_ml:
            infarcts.append(infarct)
    print("| infarcts | scans | mean Dice | not found |\n|---|---|---|---|")
    print(line("all", infarcts))
    for phase in sorted({infarct.phase for infarct in infarcts}):
        print(line(phase, [i for i in infarcts if i.phase == phase]))
    for low, high in pairwise(ADC_LIMITS):
        print(line(f"ADC {low} - {high}", [i for i in infarcts if low <= i.adc_gain < high]))
    for low, high in pairwise(HEIGHT_LIMITS_MM):
        chosen = [i for i in infarcts if low <= i.height_mm < high]
        print(line(f"z {low:.0f} - {high:.0f} mm", chosen))
    for i in sorted(infarcts, key=lambda i: i.dice)[:12]:
        look = f"{i.phase}, ADC {i.adc_gain:.2f}, b0 {i.b0_gain:.2f}, z {i.height_mm:.0f} mm"
        print(f"{i.name}: Dice {i.dice:.2f}, {i.ml:.1f} ml, {look}")


if __name__ == "__main__":
    main()
