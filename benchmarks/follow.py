"""Measure growth in simulated pairs of scans, and learn the correlation of the volume errors.

    python benchmarks/follow.py OUT --pairs 200 [--bank BANK] [--write]

Each pair is one patient scanned twice: unchanged (repeated, or a day later with the same volume),
grown, partly reversed, or with new emboli; in another pose, and half of them on another scanner.
Pairs that an earlier run finished are kept, so that the command can be repeated. Reported are the
growth found in unchanged pairs, the detection of growth above 10 ml, the agreement with the true
growth, the coverage of the interval, and the error of the registration. `--write` stores the
correlation in the package.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats

from infarct.core.nifti import read
from infarct.followup import paired_interval
from infarct.followup.paired_interval import PairedErrors, growth_interval
from infarct.followup.run import FollowRequest, follow
from infarct.lab.simulation.cohort import Cohort, load_cohort
from infarct.lab.simulation.pairs import CHANGES, make_pair
from infarct.lab.simulation.write_cases import files_of
from infarct.lab.sources.bank import Bank
from infarct.pipeline import RunRequest, run
from infarct.uncertainty.calibration import COVERAGE

SEED = 40
GROWN_ML = 10.0
FEWEST_PAIRS = 30
"""Pairs below which no correlation is learned: too few to show that the coverage is reached."""

CORRELATIONS = np.arange(0.0, 1.0, 0.05)


@dataclass(frozen=True)
class Result:
    """One pair: true and measured volumes.

    Attributes:
        name: Folder of the pair.
        change: What happened, see `infarct.lab.simulation.pairs.Change`.
        other_scanner: Whether the second scan was made on another scanner.
        true_ml: Volumes in the masks of the simulated reader.
        ml: Volumes measured.
        intervals_ml: Their intervals; None without one.
        registration_mm: Mean distance from the true position in the brain.
    """

    name: str
    change: str
    other_scanner: bool
    true_ml: tuple[float, float]
    ml: tuple[float, float]
    intervals_ml: tuple[tuple[float, float], tuple[float, float]] | None
    registration_mm: float

    @property
    def unchanged(self) -> bool:
        """Whether the infarct has the same volume in both scans."""
        return self.change in {"retest", "stable"}

    @property
    def true_growth(self) -> float:
        """True growth, ml."""
        return 0.0 if self.unchanged else self.true_ml[1] - self.true_ml[0]

    @property
    def growth(self) -> float:
        """Measured growth, ml."""
        return self.ml[1] - self.ml[0]

    def interval(self, correlation: float) -> tuple[float, float]:
        """Return the interval of the growth, ml; of infinite length without volume intervals."""
        if self.intervals_ml is None:
            return -np.inf, np.inf
        first, second = self.intervals_ml
        return growth_interval(self.ml[0], first, self.ml[1], second, correlation)


def cohort() -> Cohort:
    """Patients at the time when their infarct is largest; fewer very small ones than in reality."""
    return replace(load_cohort("day-after"), hyperacute=0.0, subacute=0.0, volume_log_sd=1.3)


def ensure_pair(index: int, folder: Path, bank: Bank) -> None:
    """Simulate, segment and compare one pair, unless an earlier run has."""
    if not (folder / "pair.json").is_file():
        make_pair(cohort(), bank, CHANGES[index % len(CHANGES)], SEED, index, folder)
    results = [folder / f"result-{number}" for number in (1, 2)]
    for number, result in enumerate(results, start=1):
        if not result.is_dir():
            run(RunRequest(files_of(folder / str(number)), result, keep_mni=False))
    if not (folder / "follow").is_dir():
        follow(FollowRequest((results[0], results[1]), folder / "follow"))


def read_result(folder: Path) -> Result:
    """Read a finished pair."""
    facts = json.loads((folder / "pair.json").read_text(encoding="utf-8"))
    found = json.loads((folder / "follow" / "follow.json").read_text(encoding="utf-8"))
    row = found["comparisons"][0]
    references = [read(folder / number / "lesion.nii.gz") for number in "12"]
    first, second = (float((r.data > 0).sum()) * r.grid.voxel_ml for r in references)
    bounds = [(row[f"{time}_low_ml"], row[f"{time}_high_ml"]) for time in ("first", "second")]
    return Result(
        folder.name,
        facts["change"],
        facts["other_scanner"],
        (first, second),
        (row["first_ml"], row["second_ml"]),
        None if None in {*bounds[0], *bounds[1]} else (bounds[0], bounds[1]),
        _registration_error(folder, facts["second_from_first"], row["second_from_first"]),
    )


def _registration_error(
    folder: Path, true: Sequence[Sequence[float]], found: Sequence[Sequence[float]]
) -> float:
    brain = read(folder / "1" / "brain.nii.gz")
    points = np.argwhere(brain.data > 0)[::29] @ brain.affine[:3, :3].T + brain.affine[:3, 3]
    apart = np.subtract(true, found)
    return float(np.linalg.norm(points @ apart[:3, :3].T + apart[:3, 3], axis=1).mean())


def learn(results: Sequence[Result]) -> PairedErrors:
    """Return the highest correlation with which the intervals still reach their coverage.

    With fewer than `FEWEST_PAIRS` pairs it is 0, which gives the widest intervals.
    """
    known = [result for result in results if result.intervals_ml is not None]
    if len(known) < FEWEST_PAIRS:
        return PairedErrors(0.0, 0)
    reached = [c for c in CORRELATIONS if coverage(known, c) >= COVERAGE]
    return PairedErrors(round(float(max(reached, default=0.0)), 2), len(known))


def coverage(results: Sequence[Result], correlation: float) -> float:
    """Return the share of intervals that contain the true growth."""
    inside = [
        low <= result.true_growth <= high
        for result in results
        for low, high in [result.interval(correlation)]
    ]
    return float(np.mean(inside)) if inside else 0.0


def auroc(results: Sequence[Result]) -> float:
    """Return the AUROC of the measured growth for true growth above `GROWN_ML`."""
    grown = [r.growth for r in results if r.true_growth > GROWN_ML]
    others = [r.growth for r in results if r.true_growth <= GROWN_ML]
    if not grown or not others:
        return float("nan")
    return float(stats.mannwhitneyu(grown, others).statistic / (len(grown) * len(others)))


def report(results: Sequence[Result], correlation: float) -> str:
    """Return all figures as text, with the number of pairs behind each."""
    still = [result for result in results if result.unchanged]
    falsely = sum(result.interval(correlation)[0] > 0 for result in still)
    grown = [result for result in results if result.true_growth > GROWN_ML]
    found = sum(result.interval(correlation)[0] > 0 for result in grown)
    errors = np.array([result.growth - result.true_growth for result in results])
    moved = [result.registration_mm for result in results]
    rank = stats.spearmanr([r.true_growth for r in results], [r.growth for r in results])
    spread = 1.96 * errors.std(ddof=1) if len(errors) > 1 else float("nan")
    return "\n".join(
        (
            f"pairs: {len(results)}; correlation of the errors: {correlation:.2f}",
            f"growth reported in unchanged pairs: {falsely} of {len(still)}",
            f"growth reported where it was above {GROWN_ML:.0f} ml: {found} of {len(grown)}",
            f"AUROC for growth above {GROWN_ML:.0f} ml: {auroc(results):.2f}",
            f"coverage of the interval: {coverage(results, correlation):.2f}",
            f"growth, measured - true: bias {errors.mean():+.1f} ml, limits of agreement "
            f"{errors.mean() - spread:+.1f} to {errors.mean() + spread:+.1f} ml; "
            f"Spearman {rank.statistic:.2f}",
            f"registration error, mean over the brain: median {np.median(moved):.2f} mm, "
            f"largest {max(moved):.2f} mm",
        )
    )


def main() -> None:
    """Run all pairs and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--bank", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    bank = Bank.load(options.bank) if options.bank else Bank.from_icbm()
    results = []
    for index in range(options.pairs):
        folder = options.out / f"pair-{index:04d}"
        ensure_pair(index, folder, bank)
        results.append(read_result(folder))
        one = results[-1]
        print(
            f"{one.name} {one.change}{' (other scanner)' if one.other_scanner else ''}: growth "
            f"{one.growth:+.1f} ml, true {one.true_growth:+.1f} ml",
            flush=True,
        )
    learned = learn(results)
    print(report(results, learned.correlation))
    if options.write:
        file = Path(paired_interval.__file__).with_name("paired_errors.json")
        file.write_text(json.dumps(asdict(learned)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
