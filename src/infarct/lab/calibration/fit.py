"""Learns how far a method can be trusted, from what it found on scans whose truth is known.

References:
    Platt 1999 (logistic calibration); Lei et al. 2018, J Am Stat Assoc 113, 1094: split conformal
    intervals.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from infarct.core import assets
from infarct.core.atomic_write import atomic_file
from infarct.core.errors import InputFileError
from infarct.lab.calibration.collect import Row
from infarct.uncertainty.calibration import (
    COVERAGE,
    DEFAULT_POINT,
    Calibration,
    Interval,
    Logistic,
    OperatingPoint,
    Scale,
    calibration_name,
    likeliest,
    scale_of,
)

FALSE_ALARMS = {"sensitive": 0.5, "balanced": 0.15, "specific": 0.05}
"""Share of the scans without infarct that each operating point may flag; the paper's network flags
about a quarter."""

LEARNED_FROM = "synthetic scans"
"""All cases come from the bank of the synthetic scanner."""

_STRONG, _WEAK = 0.03, 10.0
"""Inverse strengths of the penalty of a regression, whose terms are brought to one spread first. Of
the products of ten features on some 270 candidates the likelihood is cross-validated best with a
strong one (mean log loss over three methods .338; .341 at .02, .340 at .1, .354 at .3; features
alone .478); one or two features need next to none."""

_FOLDS = 10
_FLOOR_ML = 0.1
_BASE_SPREAD = 0.2
_FEWEST_MISSED = 19
"""Of fewer, the largest alone would decide what nine in ten do not exceed."""


def fit(rows: Sequence[Row], model: str, networks: Sequence[Path] = ()) -> Calibration:
    """Learn the calibration of a method.

    What decides operating points and intervals is judged by regressions that did not see the scan,
    so that neither is flattered.

    Args:
        rows: Of all cases.
        model: Name of the method.
        networks: Their files: of others than these the calibration says nothing.

    Raises:
        InputFileError: If too few scans have a candidate to judge each by others.
    """
    rows = sorted(rows, key=lambda row: row.case)
    owner = np.concatenate([np.full(len(row.candidates), k) for k, row in enumerate(rows)])
    if len(set(owner.tolist())) < _FOLDS:
        raise InputFileError(
            f"{model} finds candidates in only {len(set(owner.tolist()))} of {len(rows)} scans; at "
            f"least {_FOLDS} are needed. Increase --cases; existing cases are reused"
        )
    every = np.array([one for row in rows for one in row.candidates])
    infarct = np.concatenate([row.infarct for row in rows])
    folds = GroupKFold(_FOLDS)
    by_products = make_pipeline(
        StandardScaler(), PolynomialFeatures(2, include_bias=False), _regression(_STRONG)
    )
    shrunk = cross_val_predict(
        by_products, every, infarct, groups=owner, cv=folds, method="decision_function"
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
    scaler, _, regression = by_products.fit(every, infarct)
    columns = zip(scaler.mean_, scaler.scale_, every.min(axis=0), every.max(axis=0), strict=True)
    return Calibration(
        model=model,
        scales=tuple(Scale(*map(float, column)) for column in columns),
        lesion=_stretched(_unscaled(regression), stretch),
        scan=_fitted(overall, visible, _WEAK),
        outlined=_interval(outlined),
        missed_ml=_conformal(_missed_ml(rows, logits, points)),
        points=points,
        scans=len(rows),
        lesion_free=int((~visible).sum()),
        networks=tuple(map(assets.sha256, networks)),
        learned_from=LEARNED_FROM,
    )


def _regression(c: float) -> Pipeline:
    # Ratios vary by tenths and logits by several: a penalty on bare weights would spare the logits.
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))


def _fitted(values: NDArray[np.float64], truth: NDArray[np.bool_], c: float) -> Logistic:
    return _unscaled(_regression(c).fit(values, truth))


def _unscaled(regression: Pipeline) -> Logistic:
    """Return what a regression has learned, on terms as they are."""
    scaler, found = regression
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
    logits = [np.array([calibration.lesion_logit(x) for x in row.candidates]) for row in rows]
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


def ship(calibration: Calibration, own: Path | None = None) -> Path:
    """Write a calibration where the method will find it.

    Args:
        calibration: Of the method.
        own: Folder of one's own networks, if there are such among the method's; else it is written
            into the package.
    """
    file = (own or assets.ROOT / "networks") / calibration_name(calibration.model)
    with atomic_file(file) as draft:
        draft.write_text(calibration.to_json(), encoding="utf-8")
    if own:
        return file
    where = file.relative_to(assets.ROOT).as_posix()
    source = (
        f"errors of {calibration.model} on {calibration.scans} {LEARNED_FROM} of heads that "
        "training never saw"
    )
    name = f"calibration/{calibration.model}"
    assets.register_asset(assets.Asset(name, where, assets.sha256(file), "Apache-2.0", source))
    return file
