"""Learns how far a method can be trusted, on synthetic scans of heads that training never sees.

Every case takes the whole road of a user's scan: saved as some scanner would, read, placed,
outlined. What is kept of it are a few numbers, one JSON file for each case, so that a broken run
goes on and a fit takes a second.

References:
    Lei et al. 2018, J Am Stat Assoc 113, 1094: split conformal intervals.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from infarct import assets
from infarct.calibration import (
    COVERAGE,
    DEFAULT_POINT,
    Calibration,
    Interval,
    Logistic,
    OperatingPoint,
    features,
    likeliest,
    peak_of,
    scale_of,
    spread_of,
)
from infarct.case import Case, CaseFiles, open_case
from infarct.errors import InputFileError
from infarct.inference import load_network
from infarct.intensity import Mask
from infarct.lab import synth
from infarct.lab.bank import Bank
from infarct.lab.cohort import load_cohort
from infarct.prepare import Prepared, prepare
from infarct.quantify import measure, pieces
from infarct.reading import Reading, evidence_of, read_scan
from infarct.segmenters import BRAIN_NETWORK, get_segmenter
from infarct.templates import load_template
from infarct.volume import read

COHORT = "calibration"

FALSE_ALARMS = {"sensitive": 0.5, "balanced": 0.15, "specific": 0.05}
"""Share of the scans without infarct that each operating point may flag; the paper's network flags
about a quarter."""

_TRUE_SHARE = 0.25
"""A candidate is an infarct if so much of it is, or if it holds so much of one."""

_STRONG, _WEAK = 0.1, 10.0
"""Inverse strengths of the penalty of a regression, whose features are brought to one spread first.
Of nine features on some hundred candidates the likelihood is cross-validated best with a strong one
(log loss .387; .394 at .3, .423 at 1); one or two features need next to none."""

_FOLDS = 10
_FLOOR_ML = 0.1
_BASE_SPREAD = 0.2
_FEWEST_MISSED = 19
"""Of fewer, the largest alone would decide what nine in ten do not exceed."""


@dataclass(frozen=True)
class Row:
    """What is kept of one case.

    Attributes:
        case: Its name.
        true_ml: Volume of the infarcts; 0 without.
        candidates: `FEATURES` of each candidate, largest first.
        candidate_ml: Volume of each.
        is_infarct: Whether each is one.
        peak_logit: From `calibration.peak_of`.
        spread_ml: From `calibration.spread_of`.
    """

    case: str
    true_ml: float
    candidates: tuple[tuple[float, ...], ...]
    candidate_ml: tuple[float, ...]
    is_infarct: tuple[bool, ...]
    peak_logit: float
    spread_ml: tuple[float, float]

    @property
    def infarct(self) -> NDArray[np.bool_]:
        """Which candidates are infarcts."""
        return np.array(self.is_infarct, dtype=bool)


@dataclass(frozen=True)
class Order:
    """One case to be made.

    Attributes:
        bank: File of the bank.
        seed: Of the series.
        index: Of the case in it.
        models: Methods to ask.
        out: Folder of cases and rows.
    """

    bank: Path
    seed: int
    index: int
    models: tuple[str, ...]
    out: Path


@lru_cache(maxsize=1)
def _load_bank(path: Path) -> Bank:
    return Bank.load(path)


def collect(orders: Sequence[Order], workers: int) -> Iterator[dict[str, Row]]:
    """Yield the rows of every case, by method, from several processes; none is made twice.

    Args:
        orders: The cases.
        workers: Processes.
    """
    # The workers share the cores; they read this when they start.
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))
    with ProcessPoolExecutor(workers) as pool:
        for job in as_completed([pool.submit(make_rows, order) for order in orders]):
            yield job.result()


def make_rows(order: Order) -> dict[str, Row]:
    """Make one case, ask the methods about it, and keep what the fit needs."""
    name = f"{COHORT}-{order.seed:04d}-{order.index:04d}"
    kept = {model: order.out / model / f"{name}.json" for model in order.models}
    rows = {model: read_row(path) for model, path in kept.items() if path.is_file()}
    if len(rows) == len(kept):
        return rows
    folder = order.out / "cases" / name
    bank = _load_bank(order.bank)
    if not (folder / "record.json").is_file():
        synth.make_case(load_cohort(COHORT), bank, order.seed, order.index, folder)
    facts = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    dwi, b0, adc = (folder / f"{kind}.nii.gz" for kind in ("dwi", "b0", "adc"))
    case = open_case(CaseFiles(dwi, b0, adc, facts["bvalue"]))
    prepared = prepare(case, load_template(), load_network(BRAIN_NETWORK))
    reference = read(folder / "lesion.nii.gz").data > 0
    for model in kept.keys() - rows.keys():
        reading = read_scan(case, prepared, get_segmenter(model))
        rows[model] = row_of(case, prepared, reading, reference)
        write_row(rows[model], kept[model])
    return rows


def row_of(case: Case, prepared: Prepared, reading: Reading, reference: Mask) -> Row:
    """Keep of a case what the fit needs.

    Args:
        case: The scan; the folder of its DWI gives the name.
        prepared: The same, prepared.
        reading: What the method made of it.
        reference: The infarcts, on the grid of the DWI.

    Raises:
        InputFileError: If the method is no network.
    """
    evidence = evidence_of(case, prepared, reading)
    if evidence is None:
        raise InputFileError("a classical method is not calibrated; name a network")
    scan, candidates = evidence.scan, evidence.candidates
    measured = measure(candidates, scan, case.slice_axis)
    return Row(
        case=case.files.dwi.parent.name,
        true_ml=float(reference.sum()) * scan.grid.voxel_ml,
        candidates=tuple(features(evidence, measured)),
        candidate_ml=tuple(one.volume_ml for one in measured.lesions),
        is_infarct=tuple(bool(x) for x in true_candidates(candidates, reference)),
        peak_logit=peak_of(scan),
        spread_ml=spread_of(scan),
    )


def write_row(row: Row, path: Path) -> None:
    """Write a row as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(asdict(row)) + "\n", encoding="utf-8")
    draft.replace(path)


def read_row(path: Path) -> Row:
    """Read a row back."""
    table = json.loads(path.read_text(encoding="utf-8"))
    table["candidates"] = tuple(tuple(row) for row in table["candidates"])
    for name in ("candidate_ml", "is_infarct", "spread_ml"):
        table[name] = tuple(table[name])
    return Row(**table)


def true_candidates(candidates: Mask, reference: Mask) -> NDArray[np.bool_]:
    """Tell which candidates are infarcts, largest first.

    Args:
        candidates: (X, Y, Z) bool.
        reference: Same shape.
    """
    found, true = pieces(candidates), pieces(reference)
    labels = np.arange(1, found.max(initial=0) + 1)
    share = np.asarray(ndimage.mean(reference, found, labels))
    sizes = np.bincount(true.ravel())
    holds = np.zeros(len(labels), dtype=bool)
    for k in labels:
        inside = np.bincount(true[found == k], minlength=len(sizes))
        holds[k - 1] = bool((inside[1:] >= _TRUE_SHARE * sizes[1:]).any()) if len(sizes) > 1 else 0
    return np.asarray((share >= _TRUE_SHARE) | holds)


def fit(rows: Sequence[Row], model: str) -> Calibration:
    """Learn the calibration of a method.

    What decides operating points and intervals is judged by regressions that did not see the scan,
    so that neither is flattered.

    Args:
        rows: Of all cases.
        model: Name of the method.
    """
    rows = sorted(rows, key=lambda row: row.case)
    owner = np.concatenate([np.full(len(row.candidates), k) for k, row in enumerate(rows)])
    every = np.array([one for row in rows for one in row.candidates])
    infarct = np.concatenate([row.infarct for row in rows])
    folds = GroupKFold(_FOLDS)
    shrunk = cross_val_predict(
        _regression(_STRONG), every, infarct, groups=owner, cv=folds, method="decision_function"
    )
    # A strong penalty makes modest; what the scans it did not see say puts that right (Platt).
    stretch = _fitted(shrunk[:, None], infarct, _WEAK)
    unseen = np.array([stretch.logit([x]) for x in shrunk])
    logits = [unseen[owner == k] for k in range(len(rows))]
    overall = np.array(
        [(likeliest(x.tolist()), row.peak_logit) for x, row in zip(logits, rows, strict=True)]
    )
    visible = np.array([row.true_ml > 0 for row in rows])
    points = {name: _point(rows, logits, rate) for name, rate in FALSE_ALARMS.items()}
    volumes = _outlined_ml(rows, logits, points[DEFAULT_POINT].least_probability)
    scans = list(zip(rows, volumes, strict=True))
    # False alarms are what `lesion_visible` is about; here they would drag all intervals to zero.
    outlined = [(row, ml) for row, ml in scans if ml and row.true_ml]
    return Calibration(
        model=model,
        lesion=_stretched(_fitted(every, infarct, _STRONG), stretch),
        scan=_fitted(overall, visible, _WEAK),
        outlined=_interval(outlined),
        missed_ml=_conformal(_missed_ml(rows, logits, points)),
        points=points,
        scans=len(rows),
        lesion_free=int((~visible).sum()),
    )


def _regression(c: float) -> Pipeline:
    # Ratios vary by tenths and logits by several: a penalty on bare weights would spare the logits.
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))


def _fitted(values: NDArray[np.float64], truth: NDArray[np.bool_], c: float) -> Logistic:
    scaler, found = _regression(c).fit(values, truth)
    weights = found.coef_[0] / scaler.scale_
    offset = found.intercept_[0] - weights @ scaler.mean_
    return Logistic(tuple(float(w) for w in weights), float(offset))


def _stretched(shrunk: Logistic, stretch: Logistic) -> Logistic:
    """Return one regression for two, the second on the logit of the first."""
    (factor,) = stretch.weights
    weights = tuple(factor * w for w in shrunk.weights)
    return Logistic(weights, stretch.logit([shrunk.offset]))


def _point(
    rows: Sequence[Row], logits: Sequence[NDArray[np.float64]], rate: float
) -> OperatingPoint:
    """Return the boldest point that flags no more of the scans without infarct than `rate`."""
    clean = [x for x, row in zip(logits, rows, strict=True) if not row.true_ml]
    ranked = sorted((float(expit(max(x, default=-math.inf))) for x in clean), reverse=True)
    allowed = int(rate * len(ranked))
    # Just above the likeliest candidate of the first scan that may not be flagged.
    least = math.nextafter([*ranked, 0.0][allowed], 1.0)
    return OperatingPoint(least, *_rates(rows, logits, least))


def _rates(
    rows: Sequence[Row], logits: Sequence[NDArray[np.float64]], least: float
) -> tuple[float, float]:
    """Return the share of clean scans that are flagged, and of infarcts that are missed."""
    flagged, missed = [], []
    for row, x in zip(rows, logits, strict=True):
        kept = expit(x) >= least
        if row.true_ml:
            missed.append(not (kept & row.infarct).any())
        else:
            flagged.append(kept.any())
    return _share(flagged), _share(missed)


def _share(hits: Sequence[bool]) -> float:
    return float(np.mean(hits)) if hits else math.nan


def _missed_ml(
    rows: Sequence[Row], logits: Sequence[NDArray[np.float64]], points: dict[str, OperatingPoint]
) -> list[float]:
    """Return the volumes of infarcts on whose scans nothing would be outlined.

    The usual point misses too few to learn from. Those that the strictest misses too, and the next
    to be missed, are like them and rather larger, so that the bound errs to the safe side.
    """
    strictest = max(point.least_probability for point in points.values())
    infarcts = sorted((likeliest(x.tolist()), k) for k, x in enumerate(logits) if rows[k].true_ml)
    count = sum(float(expit(best)) < strictest for best, _ in infarcts)
    return [rows[k].true_ml for _, k in infarcts[: max(count, _FEWEST_MISSED)]]


def _interval(scans: Sequence[tuple[Row, float]]) -> Interval:
    """Return the split conformal interval of the error.

    Both sides share one quantile: each its own would rest on a handful of scans.

    Args:
        scans: Each with the volume outlined on it.
    """
    plain = Interval(0.0, 0.0, _FLOOR_ML, _BASE_SPREAD)
    most = _conformal(
        abs(math.log((row.true_ml + _FLOOR_ML) / (ml + _FLOOR_ML))) / scale_of(row.spread_ml, plain)
        for row, ml in scans
    )
    return Interval(-most, most, _FLOOR_ML, _BASE_SPREAD)


def _conformal(values: Iterable[float]) -> float:
    """Return what the next value exceeds with a probability of no more than 1 - `COVERAGE`."""
    ranked = sorted(values)
    # With n values, the quantile of the next is that of n + 1.
    n = len(ranked)
    return ranked[min(math.ceil(COVERAGE * (n + 1)), n) - 1]


def _outlined_ml(
    rows: Sequence[Row], logits: Sequence[NDArray[np.float64]], least: float
) -> list[float]:
    return [
        float(np.array(row.candidate_ml)[expit(x) >= least].sum())
        for row, x in zip(rows, logits, strict=True)
    ]


@dataclass(frozen=True)
class Check:
    """How a calibration does on scans it was not learned from.

    Attributes:
        scans: How many.
        coverage: Share of the true volumes inside their interval, where there is an infarct and
            something is outlined.
        coverage_empty: The same where there is an infarct and nothing is outlined.
        brier_visible: Mean squared error of `lesion_visible`; .25 is a coin.
        points: Operating point -> (false alarm rate, miss rate); NaN without such scans.
        curve: For each fifth of the lesion probabilities: (mean said, share true, how many).
    """

    scans: int
    coverage: float
    coverage_empty: float
    brier_visible: float
    points: dict[str, tuple[float, float]]
    curve: tuple[tuple[float, float, int], ...]


def check(rows: Sequence[Row], calibration: Calibration) -> Check:
    """Try a calibration on other scans.

    Args:
        rows: Of scans that `fit` did not see.
        calibration: To be tried.
    """
    logits = [np.array([calibration.lesion.logit(x) for x in row.candidates]) for row in rows]
    volumes = _outlined_ml(rows, logits, calibration.points[DEFAULT_POINT].least_probability)
    outlined: list[bool] = []
    empty: list[bool] = []
    errors = []
    for row, x, ml in zip(rows, logits, volumes, strict=True):
        low, high = calibration.interval_of(ml, row.spread_ml)
        inside = low <= row.true_ml <= high
        if row.true_ml:
            (outlined if ml else empty).append(inside)
        seen = expit(calibration.scan.logit((likeliest(x.tolist()), row.peak_logit)))
        errors.append(float(seen) - (row.true_ml > 0))
    said = expit(np.concatenate(logits))
    truth = np.concatenate([row.infarct for row in rows])
    parts = [part for part in np.array_split(np.argsort(said), 5) if len(part)]
    return Check(
        scans=len(rows),
        coverage=_share(outlined),
        coverage_empty=_share(empty),
        brier_visible=float(np.mean(np.square(errors))),
        points={
            name: _rates(rows, logits, point.least_probability)
            for name, point in calibration.points.items()
        },
        curve=tuple((float(said[p].mean()), float(truth[p].mean()), len(p)) for p in parts),
    )


def ship(calibration: Calibration) -> Path:
    """Write a calibration into the package."""
    where = f"networks/{calibration.model}.calibration.json"
    file = assets.ROOT / where
    file.write_text(calibration.to_json(), encoding="utf-8")
    source = (
        f"errors of {calibration.model} on {calibration.scans} synthetic scans of heads that "
        "training never saw"
    )
    name = f"calibration/{calibration.model}"
    assets.register_asset(assets.Asset(name, where, assets.sha256(file), "Apache-2.0", source))
    return file
