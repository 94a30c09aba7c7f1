"""Calibrated probabilities and volume intervals, fitted to scans with known lesions.

The voxel probabilities of a network are not calibrated. A logistic regression therefore assigns a
probability to each candidate, from its size, DWI and ADC contrast, asymmetry, the other candidates,
the confidence of the network, the agreement with the second method, and all pairwise products of
these features. A second regression gives the probability that the scan shows an infarct. The
volume interval follows from the errors on the calibration scans. `infarct.lab.calibration.fit` fits
the parameters.

References:
    Platt 1999 (logistic calibration); Lei et al. 2018, J Am Stat Assoc 113, 1094 (split conformal
    intervals).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np

from infarct.core import assets
from infarct.core.errors import AssetError
from infarct.uncertainty.candidate_features import LARGEST_LOGIT

COVERAGE = 0.9
"""Coverage of the volume interval."""

DEFAULT_POINT = "balanced"


@dataclass(frozen=True)
class Logistic:
    """A logistic regression.

    Attributes:
        weights: One weight per feature.
        offset: Intercept.
    """

    weights: tuple[float, ...]
    offset: float

    def logit(self, features: Sequence[float]) -> float:
        """Return the logit of the probability."""
        return float(np.dot(self.weights, features) + self.offset)


@dataclass(frozen=True)
class Scale:
    """Distribution of a feature on the calibration scans.

    Attributes:
        mean: Mean.
        sd: Standard deviation.
        low: Minimum; lower values are clipped, to avoid extrapolation.
        high: Maximum; higher values are clipped.
    """

    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class OperatingPoint:
    """A probability threshold for candidates and its error rates on the calibration scans.

    Attributes:
        least_probability: Candidates with a lower probability are rejected.
        false_alarm_rate: Share of lesion-free scans with a non-empty lesion mask.
        miss_rate: Share of scans with an infarct of which no part is segmented.
    """

    least_probability: float
    false_alarm_rate: float
    miss_rate: float


@dataclass(frozen=True)
class Interval:
    """Distribution of volume errors, log((true + floor) / (segmented + floor)) / `scale_of`.

    Attributes:
        low: Lower bound of the error.
        high: Upper bound of the error.
        floor_ml: Volume added to both volumes, ml; limits the relative error of small lesions.
        base_spread: Added to the spread of every scan.
    """

    low: float
    high: float
    floor_ml: float
    base_spread: float


FAILED_DICE = 0.5
"""A mask with a lower Dice with that of a reader counts as a failure."""


@dataclass(frozen=True)
class FailureGate:
    """Predicts which masks are failures, see `FAILED_DICE`.

    Attributes:
        risk: Regression for the probability of a failure, from `failure_terms`.
        limit: A warning is given from this probability.
        detected: Share of the failed masks of the calibration scans that are warned of.
        false_alarms: Share of their other masks that are warned of.
    """

    risk: Logistic
    limit: float
    detected: float
    false_alarms: float


@dataclass(frozen=True)
class Calibration:
    """Calibration of a method, fitted to scans with known lesions.

    Attributes:
        model: Name of the method.
        scales: Distribution of each of the `FEATURES`, or of the first ones if it was fitted before
            the others were added.
        lesion: Regression for the probability that a candidate is an infarct, from its `terms`.
        scan: Regression for the probability that an infarct is visible, from `likeliest` and
            `peak_of`.
        outlined: Errors of the volume for scans with a non-empty lesion mask and an infarct; the
            interval contains `COVERAGE` of the true volumes.
        missed_ml: Volume that `COVERAGE` of the completely missed infarcts do not exceed, ml.
        points: Operating points by name, the most sensitive first.
        scans: Number of calibration scans.
        lesion_free: Number of lesion-free calibration scans.
        networks: SHA-256 of each network file; the calibration is valid only for these.
        learned_from: Kind of calibration scans, such as `synthetic scans`; empty if not recorded.
        failure: Prediction of failed masks; None if there were too few to learn from.
    """

    model: str
    scales: tuple[Scale, ...]
    lesion: Logistic
    scan: Logistic
    outlined: Interval
    missed_ml: float
    points: dict[str, OperatingPoint]
    scans: int
    lesion_free: int
    networks: tuple[str, ...]
    learned_from: str = ""
    failure: FailureGate | None = None

    def lesion_logit(self, features: Sequence[float]) -> float:
        """Return the logit of the probability that a candidate is an infarct.

        Args:
            features: `FEATURES` of the candidate.
        """
        return self.lesion.logit(terms(features[: len(self.scales)], self.scales))

    def interval_of(self, volume_ml: float, spread: tuple[float, float]) -> tuple[float, float]:
        """Return the interval that contains the true volume with probability `COVERAGE`, ml.

        Args:
            volume_ml: Segmented volume, ml.
            spread: Output of `spread_of`, ml.
        """
        if not volume_ml:
            return 0.0, self.missed_ml
        return volume_interval(volume_ml, spread, self.outlined)

    def failure_logit(
        self, volume_ml: float, spread: tuple[float, float], best: float
    ) -> float | None:
        """Return the logit of the probability that a mask is a failure; None if unknown.

        Args:
            volume_ml: Segmented volume, ml; without a lesion, nothing is predicted.
            spread: Output of `spread_of`, ml.
            best: Output of `likeliest`.
        """
        if self.failure is None or not volume_ml:
            return None
        return self.failure.risk.logit(failure_terms(volume_ml, spread, best))

    def to_json(self) -> str:
        """Return the calibration as JSON text, for `from_json`."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> Calibration:
        """Parse the output of `to_json`."""
        table = json.loads(text)
        for name in ("lesion", "scan"):
            table[name] = _logistic(table[name])
        table["scales"] = tuple(Scale(**row) for row in table["scales"])
        table["outlined"] = Interval(**table["outlined"])
        table["networks"] = tuple(table["networks"])
        if gate := table.get("failure"):
            table["failure"] = FailureGate(**{**gate, "risk": _logistic(gate["risk"])})
        table["points"] = {name: OperatingPoint(**row) for name, row in table["points"].items()}
        return Calibration(**table)


def _logistic(table: dict[str, Any]) -> Logistic:
    return Logistic(tuple(table["weights"]), table["offset"])


def calibration_name(method: str) -> str:
    """Return the file name of the calibration of a method."""
    return f"{method}.calibration.json"


def load_calibration(method: str, own: Path | None = None) -> Calibration | None:
    """Load the calibration of a method.

    Args:
        method: Name of the method.
        own: Folder with the user's calibrations, searched if none is bundled.

    Returns:
        The calibration, or None if the method is not calibrated.

    Raises:
        AssetError: If the calibration file is damaged.
    """
    file = calibration_file(method, own)
    return parse_calibration(file, read_calibration_file(file)) if file else None


def calibration_file(method: str, own: Path | None) -> Path | None:
    """Return the calibration file of a method, bundled or the user's own; None if there is none."""
    name = f"calibration/{method}"
    if name in assets.index():
        return assets.path(name)
    if own and (own / calibration_name(method)).is_file():
        return own / calibration_name(method)
    return None


def read_calibration_file(file: Path) -> bytes:
    """Return the content of a calibration file.

    Raises:
        AssetError: If the file cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise AssetError(f"{file}: cannot be read ({error.strerror})") from error


@lru_cache(maxsize=8)
def parse_calibration(file: Path, content: bytes) -> Calibration:
    """Parse a calibration. The content is part of the cache key, because files may be replaced."""
    try:
        return Calibration.from_json(content.decode("utf-8"))
    except (ValueError, KeyError, TypeError) as error:
        raise AssetError(
            f"{file} is not a valid calibration of this version ({error!r}); run "
            "`infarct lab calibrate` to create a new one"
        ) from error


def terms(features: Sequence[float], scales: Sequence[Scale]) -> list[float]:
    """Return standardised features followed by all pairwise products.

    The products model interactions: for example, the expected contrast depends on size and depth.

    Args:
        features: `FEATURES` of a candidate.
        scales: Distribution of each feature.
    """
    scaled = [
        float((np.clip(x, scale.low, scale.high) - scale.mean) / scale.sd)
        for x, scale in zip(features, scales, strict=True)
    ]
    return scaled + [a * b for a, b in combinations_with_replacement(scaled, 2)]


def likeliest(logits: Sequence[float]) -> float:
    """Return the clipped logit of the most probable candidate; the lower bound if there is none."""
    return float(np.clip(max(logits, default=-LARGEST_LOGIT), -LARGEST_LOGIT, LARGEST_LOGIT))


_SMALL_ML = 0.1
"""Added to volumes before taking the logarithm."""


def failure_terms(
    volume_ml: float, spread: tuple[float, float], best: float
) -> tuple[float, float, float]:
    """Return what predicts the failure of a mask.

    Args:
        volume_ml: Segmented volume, ml.
        spread: Output of `spread_of`, ml.
        best: Output of `likeliest`.

    Returns:
        The distance between a wide and a narrow mask, the segmented volume (both as logarithms),
        and the logit of the most probable lesion.
    """
    wide, narrow = (ml + _SMALL_ML for ml in spread)
    return math.log(wide / narrow), math.log(volume_ml + _SMALL_ML), best


def scale_of(spread: tuple[float, float], interval: Interval) -> float:
    """Return the scale of the volume error of a scan.

    Args:
        spread: Output of `spread_of`, ml.
        interval: Distribution of the volume errors.
    """
    wide, narrow = (ml + interval.floor_ml for ml in spread)
    return interval.base_spread + math.log(wide / narrow)


def volume_interval(
    volume_ml: float, spread: tuple[float, float], interval: Interval
) -> tuple[float, float]:
    """Return the interval of a lesion volume.

    Args:
        volume_ml: Segmented volume, ml.
        spread: Output of `spread_of`, ml.
        interval: Distribution of the volume errors.

    Returns:
        (low, high) in ml; always contains the segmented volume.
    """
    scale = scale_of(spread, interval)
    low, high = (
        (volume_ml + interval.floor_ml) * math.exp(error * scale) - interval.floor_ml
        for error in (interval.low, interval.high)
    )
    return max(min(low, volume_ml), 0.0), max(high, volume_ml)
