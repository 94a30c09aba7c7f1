"""Fits the calibration of a method to its results on scans with known references.

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
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from infarct.core import assets
from infarct.core.atomic_write import atomic_file
from infarct.core.errors import InputFileError
from infarct.lab.calibration.collect import Row
from infarct.uncertainty.calibration import (
    COVERAGE,
    DEFAULT_POINT,
    FAILED_DICE,
    Calibration,
    FailureGate,
    Interval,
    Logistic,
    OperatingPoint,
    Scale,
    calibration_name,
    failure_terms,
    likeliest,
    scale_of,
)

FALSE_ALARMS = {"sensitive": 0.5, "balanced": 0.1, "specific": 0.05}
"""Largest fraction of lesion-free scans that each operating point may flag; the paper's network
flags about a quarter."""

LEARNED_FROM = "synthetic scans"
"""All cases come from the simulator."""

_STRONG, _WEAK = 0.03, 10.0
"""Inverse regularisation strengths of logistic regressions on standardised terms. With the products
of ten features on about 270 candidates, strong regularisation has the best cross-validated
likelihood (mean log loss over three methods .338; .341 at .02, .340 at .1, .354 at .3; features
without products .478). One or two features need almost none."""

_GATE, _GATE_ALARMS = 1.0, 0.1
"""Inverse regularisation strength of the failure gate, and the share of other masks it may warn
of."""

_FEWEST_FAILED = 5
"""With fewer failed masks, nothing is predicted."""

_FOLDS = 10
_FLOOR_ML = 0.1
_BASE_SPREAD = 0.2
_FEWEST_MISSED = 3
"""Fewer missed infarcts say nothing. With fewer than nine, their largest is the 90% bound. Infarcts
that are found with certainty are never taken instead, because some of them are very large."""


def fit(rows: Sequence[Row], model: str, networks: Sequence[Path] = ()) -> Calibration:
    """Fit the calibration of a method.

    Operating points and intervals are based on cross-validated predictions, so that they are not
    biased towards the scans used for fitting.

    Args:
        rows: Rows of all cases.
        model: Name of the method.
        networks: Network files of the method; the calibration is valid only for these.

    Raises:
        InputFileError: If too few scans have a candidate for cross-validation.
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
    # Strong regularisation shrinks the logits; Platt scaling on held-out scans corrects this.
    stretch = _fitted(shrunk[:, None], infarct, _WEAK)
    unseen = np.array([stretch.logit([x]) for x in shrunk])
    logits = [unseen[owner == k] for k in range(len(rows))]
    overall = np.array(
        [(likeliest(x.tolist()), row.peak_logit) for x, row in zip(logits, rows, strict=True)]
    )
    visible = np.array([row.true_ml > 0 for row in rows])
    points = {name: _point(rows, logits, rate) for name, rate in FALSE_ALARMS.items()}
    least = points[DEFAULT_POINT].least_probability
    volumes = _outlined_ml(rows, logits, least)
    scans = list(zip(rows, volumes, strict=True))
    # Without false positives: `infarct_probability` covers them, and they would pull intervals
    # to zero.
    outlined = [(row, ml) for row, ml in scans if ml and row.true_ml]
    scaler, _, regression = by_products.fit(every, infarct)
    columns = zip(scaler.mean_, scaler.scale_, every.min(axis=0), every.max(axis=0), strict=True)
    return Calibration(
        model=model,
        scales=tuple(Scale(*map(float, column)) for column in columns),
        lesion=_stretched(_unscaled(regression), stretch),
        scan=_fitted(overall, visible, _WEAK),
        outlined=_interval(outlined),
        missed_ml=_conformal(_missed_ml(rows, logits)),
        points=points,
        scans=len(rows),
        lesion_free=int((~visible).sum()),
        networks=tuple(map(assets.sha256, networks)),
        learned_from=LEARNED_FROM,
        failure=_failure_gate(rows, logits, least),
    )


def _regression(c: float) -> Pipeline:
    # Standardised: ratios vary by tenths, logits by several units, and the penalty must be fair.
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))


def _fitted(values: NDArray[np.float64], truth: NDArray[np.bool_], c: float) -> Logistic:
    return _unscaled(_regression(c).fit(values, truth))


def _unscaled(regression: Pipeline) -> Logistic:
    """Return a regression expressed in the original, unscaled terms."""
    scaler, found = regression
    weights = found.coef_[0] / scaler.scale_
    offset = found.intercept_[0] - weights @ scaler.mean_
    return Logistic(tuple(float(w) for w in weights), float(offset))


def _stretched(shrunk: Logistic, stretch: Logistic) -> Logistic:
    """Combine two regressions, the second on the logit of the first, into one."""
    (factor,) = stretch.weights
    weights = tuple(factor * w for w in shrunk.weights)
    return Logistic(weights, stretch.logit([shrunk.offset]))


def _point(
    rows: Sequence[Row], logits: Sequence[NDArray[np.float64]], rate: float
) -> OperatingPoint:
    """Return the most sensitive point that flags at most a fraction `rate` of lesion-free scans."""
    clean = [x for x, row in zip(logits, rows, strict=True) if not row.true_ml]
    ranked = sorted((float(expit(max(x, default=-math.inf))) for x in clean), reverse=True)
    allowed = int(rate * len(ranked))
    # Just above the most probable candidate of the first scan that must not be flagged.
    least = math.nextafter([*ranked, 0.0][allowed], 1.0)
    return OperatingPoint(least, *_rates(rows, logits, least))


def _rates(
    rows: Sequence[Row], logits: Sequence[NDArray[np.float64]], least: float
) -> tuple[float, float]:
    """Return the fraction of lesion-free scans flagged, and that of infarcts missed."""
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


def _missed_ml(rows: Sequence[Row], logits: Sequence[NDArray[np.float64]]) -> list[float]:
    """Return the volumes of infarcts that stand for those on scans with an empty lesion mask.

    The default point misses too few infarcts for an estimate. Those without a candidate that is
    more probable than not are similar and rather larger, so that the bound is conservative.
    """
    infarcts = sorted((likeliest(x.tolist()), k) for k, x in enumerate(logits) if rows[k].true_ml)
    count = sum(best < 0 for best, _ in infarcts)
    return [rows[k].true_ml for _, k in infarcts[: max(count, _FEWEST_MISSED)]]


def _failure_gate(
    rows: Sequence[Row], logits: Sequence[NDArray[np.float64]], least: float
) -> FailureGate | None:
    """Return the prediction of failed masks; None if there are too few to learn from.

    The limit follows from cross-validated predictions, like the operating points.
    """
    values, failed = [], []
    volumes = _outlined_ml(rows, logits, least)
    for row, x, volume in zip(rows, logits, volumes, strict=True):
        if volume:
            shared = float(np.array(row.overlap_ml)[expit(x) >= least].sum())
            failed.append(2 * shared / (volume + row.true_ml) < FAILED_DICE)
            values.append(failure_terms(volume, row.spread_ml, likeliest(x.tolist())))
    truth = np.array(failed)
    if not _FEWEST_FAILED <= truth.sum() <= len(truth) - _FEWEST_FAILED:
        return None
    folds = StratifiedKFold(_FEWEST_FAILED)
    predicted = cross_val_predict(
        _regression(_GATE), np.array(values), truth, cv=folds, method="predict_proba"
    )[:, 1]
    limit = float(np.quantile(predicted[~truth], 1 - _GATE_ALARMS))
    return FailureGate(
        risk=_fitted(np.array(values), truth, _GATE),
        limit=limit,
        detected=_share((predicted[truth] >= limit).tolist()),
        false_alarms=_share((predicted[~truth] >= limit).tolist()),
    )


def _interval(scans: Sequence[tuple[Row, float]]) -> Interval:
    """Return the split conformal interval of the volume error.

    Both sides share one quantile, because separate ones would rest on very few scans.

    Args:
        scans: Rows, each with the volume (ml) of the lesion mask.
    """
    plain = Interval(0.0, 0.0, _FLOOR_ML, _BASE_SPREAD)
    most = _conformal(
        abs(math.log((row.true_ml + _FLOOR_ML) / (ml + _FLOOR_ML))) / scale_of(row.spread_ml, plain)
        for row, ml in scans
    )
    return Interval(-most, most, _FLOOR_ML, _BASE_SPREAD)


def _conformal(values: Iterable[float]) -> float:
    """Return the bound that a new value exceeds with a probability of at most 1 - `COVERAGE`."""
    ranked = sorted(values)
    # Finite-sample correction: n + 1 instead of n.
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
    """Evaluation of a calibration on other scans.

    Attributes:
        scans: Number of scans.
        coverage: Fraction of true volumes inside their interval, for scans with an infarct and a
            non-empty lesion mask.
        coverage_empty: The same for scans with an infarct and an empty lesion mask.
        brier_visible: Brier score of `infarct_probability`; .25 is chance level.
        points: Operating point -> (false positive rate, miss rate); NaN without such scans.
        curve: Reliability curve, for each fifth of the lesion probabilities: (mean predicted
            probability, fraction of infarcts, number of candidates).
    """

    scans: int
    coverage: float
    coverage_empty: float
    brier_visible: float
    points: dict[str, tuple[float, float]]
    curve: tuple[tuple[float, float, int], ...]


def check(rows: Sequence[Row], calibration: Calibration) -> Check:
    """Evaluate a calibration on scans that were not used for fitting.

    Args:
        rows: Rows of the scans.
        calibration: The calibration to evaluate.
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
    predicted = expit(np.concatenate(logits))
    truth = np.concatenate([row.infarct for row in rows])
    parts = [part for part in np.array_split(np.argsort(predicted), 5) if len(part)]
    return Check(
        scans=len(rows),
        coverage=_share(outlined),
        coverage_empty=_share(empty),
        brier_visible=float(np.mean(np.square(errors))),
        points={
            name: _rates(rows, logits, point.least_probability)
            for name, point in calibration.points.items()
        },
        curve=tuple((float(predicted[p].mean()), float(truth[p].mean()), len(p)) for p in parts),
    )


def ship(calibration: Calibration, own: Path | None = None) -> Path:
    """Write a calibration to where the runtime looks for it.

    Args:
        calibration: Calibration of the method.
        own: Folder of user networks, if the method uses any; None writes into the package.

    Returns:
        The file written.
    """
    file = (own or assets.ROOT / "networks") / calibration_name(calibration.model)
    with atomic_file(file) as draft:
        draft.write_text(calibration.to_json(), encoding="utf-8")
    if own:
        return file
    where = file.relative_to(assets.ROOT).as_posix()
    source = (
        f"errors of {calibration.model} on {calibration.scans} {LEARNED_FROM} of heads not used "
        "for training"
    )
    name = f"calibration/{calibration.model}"
    assets.register_asset(assets.Asset(name, where, assets.sha256(file), "Apache-2.0", source))
    return file
