"""How sure: probabilities and intervals that were checked on scans whose truth is known.

A network's own probabilities are no frequencies. Each piece it outlines is therefore judged by a
logistic regression on how large, bright and dark it is, how much it differs from the other
hemisphere, what else there is, how firmly the network and a second reader hold to it, and on all
products of two of these; the scan as a whole by another; the volume gets an interval from the
errors made on the calibration scans. `infarct.lab.calibrating` makes the numbers.

References:
    Platt 1999 (logistic calibration); Lei et al. 2018, J Am Stat Assoc 113, 1094 (split conformal
    intervals).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from infarct import assets
from infarct.errors import AssetError
from infarct.evidence import LARGEST_LOGIT, Evidence, features, peak_of, spread_of
from infarct.intensity import Mask
from infarct.quantify import Measurements, measure, pieces

COVERAGE = 0.9
"""Of the interval of the volume."""

DEFAULT_POINT = "balanced"


@dataclass(frozen=True)
class Logistic:
    """A logistic regression.

    Attributes:
        weights: One for each feature.
        offset: Added.
    """

    weights: tuple[float, ...]
    offset: float

    def logit(self, features: Sequence[float]) -> float:
        """Return the logit of the probability."""
        return float(np.dot(self.weights, features) + self.offset)


@dataclass(frozen=True)
class Scale:
    """What values a feature has on the calibration scans.

    Attributes:
        mean: Of it.
        sd: Its standard deviation.
        low: Its least value; what is less counts as that, for nothing was learned about it.
        high: Its largest value, the same.
    """

    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class OperatingPoint:
    """How much doubt is let through, and what that costs on the calibration scans.

    Attributes:
        least_probability: A candidate less probable than that is left out.
        false_alarm_rate: Share of scans without an infarct in which something is outlined.
        miss_rate: Share of scans with one in which none of it is outlined.
    """

    least_probability: float
    false_alarm_rate: float
    miss_rate: float


@dataclass(frozen=True)
class Interval:
    """How volumes err: log((true + floor) / (outlined + floor)) in units of `scale_of`.

    Attributes:
        low: Least such error that is likely.
        high: Largest.
        floor_ml: Volumes below which only differences count.
        base_spread: Added to the spread of every scan.
    """

    low: float
    high: float
    floor_ml: float
    base_spread: float


@dataclass(frozen=True)
class Calibration:
    """How far a method can be trusted, learned from scans whose truth is known.

    Attributes:
        model: Name of the method.
        scales: Of the `FEATURES`.
        lesion: Whether a candidate is an infarct, from its `terms`.
        scan: Whether an infarct is visible at all, from `likeliest` and `peak_of`.
        outlined: Of the volume where something is outlined, if it is an infarct; holds `COVERAGE`
            of the true volumes.
        missed_ml: Where nothing is outlined though there is an infarct, `COVERAGE` of them are no
            larger.
        points: Operating points by name, the most sensitive first.
        scans: How many it was learned from.
        lesion_free: How many of them had no infarct.
        networks: sha256 of the file of each network it was learned of; of others it says nothing.
        learned_from: What kind of scans, such as `synthetic scans`; empty if not recorded.
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

    def lesion_logit(self, features: Sequence[float]) -> float:
        """Return the logit of the probability that a candidate is an infarct.

        Args:
            features: Its `FEATURES`.
        """
        return self.lesion.logit(terms(features, self.scales))

    def interval_of(self, volume_ml: float, spread: tuple[float, float]) -> tuple[float, float]:
        """Return the interval, ml, that holds the true volume with probability `COVERAGE`.

        Args:
            volume_ml: Outlined.
            spread: From `spread_of`.
        """
        if not volume_ml:
            return 0.0, self.missed_ml
        return volume_interval(volume_ml, spread, self.outlined)

    def to_json(self) -> str:
        """Return it as text; `from_json` reads it back."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> Calibration:
        """Read it back."""
        table = json.loads(text)
        for name in ("lesion", "scan"):
            table[name] = Logistic(tuple(table[name]["weights"]), table[name]["offset"])
        table["scales"] = tuple(Scale(**row) for row in table["scales"])
        table["outlined"] = Interval(**table["outlined"])
        table["networks"] = tuple(table["networks"])
        table["points"] = {name: OperatingPoint(**row) for name, row in table["points"].items()}
        return Calibration(**table)


@dataclass(frozen=True, eq=False)
class Judgement:
    """What is left of the candidates, and how sure that is.

    Attributes:
        lesion: bool, what counts as lesion.
        measurements: Of it; each lesion has its `probability`.
        point: Name of the operating point.
        lesion_visible: Probability that the scan shows an infarct.
        volume_interval_ml: Holds the true volume with probability `COVERAGE`, if there is an
            infarct at all.
        left_out: How many candidates were too improbable.
        left_out_ml: Their volume.
    """

    lesion: Mask
    measurements: Measurements
    point: str
    lesion_visible: float
    volume_interval_ml: tuple[float, float]
    left_out: int
    left_out_ml: float


@dataclass(frozen=True)
class Judge:
    """A calibration at one of its operating points.

    Attributes:
        calibration: Of the method.
        point: Name of the operating point.
        file: Name of the file the calibration was read from; empty if it was not.
        sha256: Of that file.
    """

    calibration: Calibration
    point: str = DEFAULT_POINT
    file: str = ""
    sha256: str = ""

    @property
    def least_probability(self) -> float:
        """A candidate less probable than that is left out."""
        return self.calibration.points[self.point].least_probability

    def keeps(self, logits: ArrayLike) -> Mask:
        """Tell which candidates are probable enough to be outlined.

        Args:
            logits: (N,) from `Calibration.lesion_logit`.

        Returns:
            (N,).
        """
        # Written so that a candidate whose contrast can't be measured (NaN) is kept.
        keep: Mask = ~(expit(np.asarray(logits, dtype=np.float64)) < self.least_probability)
        return keep


def calibration_name(method: str) -> str:
    """Return the name of the file that a calibration is kept in."""
    return f"{method}.calibration.json"


def load_calibration(method: str, own: Path | None = None) -> Calibration | None:
    """Return what is known about a method, or None of one that was never calibrated.

    Args:
        method: Its name.
        own: Folder to look in if none ships.

    Raises:
        AssetError: If what is there is damaged.
    """
    file = _calibration_file(method, own)
    return _parsed(file, _read(file)) if file else None


def _calibration_file(method: str, own: Path | None) -> Path | None:
    name = f"calibration/{method}"
    if name in assets.index():
        return assets.path(name)
    if own and (own / calibration_name(method)).is_file():
        return own / calibration_name(method)
    return None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise AssetError(f"{file}: cannot be read ({error.strerror})") from error


@lru_cache(maxsize=8)
def _parsed(file: Path, content: bytes) -> Calibration:
    """Parse a calibration; the content is the key, for the file may be replaced at any time."""
    try:
        return Calibration.from_json(content.decode("utf-8"))
    except (ValueError, KeyError, TypeError) as error:
        raise AssetError(
            f"{file}: is no calibration of this version ({error!r}); `infarct lab calibrate` "
            "makes it anew"
        ) from error


def find_judge(method: str, point: str = "", own: Path | None = None) -> Judge | None:
    """Return who judges the candidates of a method; None of one that was never calibrated.

    Args:
        method: Its name.
        point: Operating point; empty for the usual one.
        own: As for `load_calibration`.

    Raises:
        AssetError: If the method has no such operating point.
    """
    file = _calibration_file(method, own)
    content = _read(file) if file else b""
    calibration = _parsed(file, content) if file else None
    points = [] if calibration is None else list(calibration.points)
    if point and point not in points:
        have = f"there are: {', '.join(points)}" if points else "it was never calibrated"
        raise AssetError(f"{method} has no operating point {point!r}; {have}")
    if file is None or calibration is None:
        return None
    digest = hashlib.sha256(content).hexdigest()
    return Judge(calibration, point or DEFAULT_POINT, file.name, digest)


def judge(evidence: Evidence, by: Judge, *, keep_all: bool = False) -> Judgement:
    """Keep the candidates that are probable enough, measure them, and say how sure that is.

    Args:
        evidence: Of one scan.
        by: Of the method.
        keep_all: Remove no candidate, because the calibration does not hold for this scan.
    """
    scan, calibration = evidence.scan, by.calibration
    every = measure(evidence.candidates, scan, evidence.slice_axis)
    logits = [calibration.lesion_logit(row) for row in features(evidence, every)]
    probabilities = expit(logits)
    keep = np.ones(len(logits), dtype=bool) if keep_all else by.keeps(logits)
    lesion = keep_pieces(evidence.candidates, keep)
    kept = measure(lesion, scan, evidence.slice_axis)
    named = tuple(
        replace(one, probability=float(p))
        for one, p in zip(kept.lesions, probabilities[keep], strict=True)
    )
    seen = calibration.scan.logit((likeliest(logits), peak_of(scan)))
    return Judgement(
        lesion=lesion,
        measurements=replace(kept, lesions=named),
        point=by.point,
        lesion_visible=float(expit(seen)),
        volume_interval_ml=calibration.interval_of(kept.lesion_volume_ml, spread_of(scan)),
        left_out=int((~keep).sum()),
        left_out_ml=every.lesion_volume_ml - kept.lesion_volume_ml,
    )


def keep_pieces(candidates: Mask, keep: Mask) -> Mask:
    """Return some of the pieces of a mask.

    Args:
        candidates: (X, Y, Z) bool, N pieces.
        keep: (N,) which of them, largest first.
    """
    kept: Mask = np.concatenate([[False], keep])[pieces(candidates)]
    return kept


def terms(features: Sequence[float], scales: Sequence[Scale]) -> list[float]:
    """Return features brought to one spread, and then all products of two of them.

    How bright a candidate should be depends on how large it is, and where it lies: the products let
    a regression learn that.

    Args:
        features: `FEATURES` of a candidate.
        scales: Of each.
    """
    scaled = [
        float((np.clip(x, scale.low, scale.high) - scale.mean) / scale.sd)
        for x, scale in zip(features, scales, strict=True)
    ]
    return scaled + [a * b for a, b in combinations_with_replacement(scaled, 2)]


def likeliest(logits: Sequence[float]) -> float:
    """Return the logit of the likeliest candidate, within bounds; the lower bound without any."""
    return float(np.clip(max(logits, default=-LARGEST_LOGIT), -LARGEST_LOGIT, LARGEST_LOGIT))


def scale_of(spread: tuple[float, float], interval: Interval) -> float:
    """Return the unit in which the error of a volume is counted."""
    bold, timid = (ml + interval.floor_ml for ml in spread)
    return interval.base_spread + math.log(bold / timid)


def volume_interval(
    volume_ml: float, spread: tuple[float, float], interval: Interval
) -> tuple[float, float]:
    """Return the interval of a volume.

    Args:
        volume_ml: Outlined.
        spread: From `spread_of`.
        interval: How such volumes err.

    Returns:
        (low, high) ml; the outlined volume lies inside.
    """
    scale = scale_of(spread, interval)
    low, high = (
        (volume_ml + interval.floor_ml) * math.exp(error * scale) - interval.floor_ml
        for error in (interval.low, interval.high)
    )
    return max(min(low, volume_ml), 0.0), max(high, volume_ml)
