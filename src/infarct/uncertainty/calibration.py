"""How sure: probabilities and intervals that were checked on scans whose truth is known.

A network's own probabilities are no frequencies. Each piece it outlines is therefore judged by a
logistic regression on how large, bright and dark it is, how much it differs from the other
hemisphere, what else there is, how firmly the network and a second reader hold to it, and on all
products of two of these; the scan as a whole by another; the volume gets an interval from the
errors made on the calibration scans. `infarct.lab.calibration.fit` makes the numbers.

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

import numpy as np

from infarct.core import assets
from infarct.core.errors import AssetError
from infarct.uncertainty.candidate_features import LARGEST_LOGIT

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
    file = calibration_file(method, own)
    return parse_calibration(file, read_calibration_file(file)) if file else None


def calibration_file(method: str, own: Path | None) -> Path | None:
    """Return the file of a calibration, shipped or one's own; None if there is none."""
    name = f"calibration/{method}"
    if name in assets.index():
        return assets.path(name)
    if own and (own / calibration_name(method)).is_file():
        return own / calibration_name(method)
    return None


def read_calibration_file(file: Path) -> bytes:
    """Return the content of a calibration file.

    Raises:
        AssetError: If it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise AssetError(f"{file}: cannot be read ({error.strerror})") from error


@lru_cache(maxsize=8)
def parse_calibration(file: Path, content: bytes) -> Calibration:
    """Parse a calibration; the content is the key, for the file may be replaced at any time."""
    try:
        return Calibration.from_json(content.decode("utf-8"))
    except (ValueError, KeyError, TypeError) as error:
        raise AssetError(
            f"{file}: is no calibration of this version ({error!r}); `infarct lab calibrate` "
            "makes it anew"
        ) from error


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
