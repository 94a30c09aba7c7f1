"""Interval of the difference of two volumes of one patient.

The errors of one method in one patient are correlated: a method that includes too much of the edge
does so in both scans. The interval of the difference is therefore narrower than that of independent
volumes.

References:
    Zou 2007, Psychol Methods 12, 399 (MOVER: intervals of differences of correlated quantities).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

Bounds = tuple[float, float]


@dataclass(frozen=True)
class PairedErrors:
    """What is known about the volume errors of the two scans of a patient.

    Attributes:
        correlation: Correlation of the errors, 0 to 1; 0 gives the widest interval.
        pairs: Number of simulated pairs from which it was learned.
    """

    correlation: float
    pairs: int


@lru_cache(maxsize=1)
def load_paired_errors() -> PairedErrors:
    """Load the values that `benchmarks/follow.py` learned."""
    text = resources.files("infarct.followup").joinpath("paired_errors.json").read_text("utf-8")
    return PairedErrors(**json.loads(text))


def growth_interval(
    first_ml: float, first: Bounds, second_ml: float, second: Bounds, correlation: float
) -> Bounds:
    """Return the interval of the growth, second minus first volume, ml.

    Args:
        first_ml: First volume, ml.
        first: Its interval, ml; contains it.
        second_ml: Second volume, ml.
        second: Its interval, ml; of the same coverage, which is that of the result.
        correlation: Correlation of the errors of both volumes.
    """
    growth = second_ml - first_ml
    below = _spread(second_ml - second[0], first[1] - first_ml, correlation)
    above = _spread(second[1] - second_ml, first_ml - first[0], correlation)
    return growth - below, growth + above


def _spread(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(0.0, one**2 + other**2 - 2 * correlation * one * other))
