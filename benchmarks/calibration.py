"""Check a calibration on scans it was not learned from: does it say what is true?

    python benchmarks/calibration.py OUT --model ensemble [--picture calibration.png]

OUT is the folder of `benchmarks/cohorts.py`. Prints, for all cohorts together and each alone, how
many true volumes lie inside their interval, how far off the probability that an infarct is visible
is, and what each operating point flags and misses.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import numpy as np
from matplotlib import pyplot as plt
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from infarct.lab.calibration.collect import Row, read_row
from infarct.lab.calibration.fit import check
from infarct.segmentation.models import DEFAULT
from infarct.uncertainty.calibration import COVERAGE, load_calibration


def cohort_of(row: Row) -> str:
    """Return the cohort of a case by its name, COHORT-SEED-INDEX."""
    return row.case.rsplit("-", 2)[0]


def share(value: float) -> str:
    """Say a share; a cohort without such scans has none."""
    return "-" if math.isnan(value) else f"{value:.0%}"


def draw(curve: Sequence[tuple[float, float, int]], title: str, to: Path) -> None:
    """Draw what was said against what is true, with 95% intervals (Wilson)."""
    figure, axes = plt.subplots(figsize=(4.6, 4.6))
    axes.plot([0, 1], [0, 1], color="0.7")
    said, true, count = (np.array(column) for column in zip(*curve, strict=True))
    hits = np.round(true * count).astype(int)
    bounds = [
        binomtest(k, n).proportion_ci(method="wilson") for k, n in zip(hits, count, strict=True)
    ]
    reach = np.array([(p - low, high - p) for p, (low, high) in zip(true, bounds, strict=True)]).T
    axes.errorbar(said, true, reach, fmt="o-", color="#0072B2", ecolor="0.4", capsize=3)
    axes.set(title=f"{title}, fifths of {count.sum()} candidates", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set(xlabel="probability said, mean of a fifth", ylabel="share that are infarcts")
    figure.savefig(to, dpi=120, bbox_inches="tight")


def main() -> None:
    """Print the tables, and draw what was said against what is true."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=DEFAULT)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    calibration = load_calibration(options.model)
    if calibration is None:
        parser.error(f"{options.model} was never calibrated")
    rows = [
        read_row(file) for file in sorted((options.out / "rows" / options.model).glob("*.json"))
    ]
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups["all"].append(row)
        groups[cohort_of(row)].append(row)
    covers = f"volume in its {COVERAGE:.0%} interval: outlined, empty"
    table = Table("cohort", "scans", covers, "Brier, visible")
    for name in calibration.points:
        table.add_column(f"{name}: flagged, missed")
    for name, group in groups.items():
        found = check(group, calibration)
        rates = [f"{share(false)}, {share(missed)}" for false, missed in found.points.values()]
        held = f"{share(found.coverage)}, {share(found.coverage_empty)}"
        table.add_row(name, str(found.scans), held, f"{found.brier_visible:.3f}", *rates)
    console = Console(width=140)
    console.print(table)
    curve = check(rows, calibration).curve
    for said, true, count in curve:
        console.print(f"candidates said to be infarcts with {said:.2f}: {true:.2f} are ({count})")
    if options.picture:
        draw(curve, f"{options.model}: {len(rows)} scans", options.picture)


if __name__ == "__main__":
    main()
