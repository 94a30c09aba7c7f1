"""Volumes and probabilities as they are said, the same wherever they are."""

from __future__ import annotations


def format_volume(volume: float) -> str:
    """Say a volume: one digit behind the point from 10 ml on, two below, more for specks.

    Args:
        volume: ml, 0 or more.
    """
    if volume >= 9.995:
        return f"{volume:.1f} ml"
    digits = 2 if volume >= 0.095 or volume == 0 else 3 if volume >= 0.0005 else 4
    return f"{volume:.{digits}f} ml"


def format_probability(probability: float | None) -> str:
    """Say a probability; never 0% or 100%, for no calibration knows that.

    Args:
        probability: 0 - 1, or None if it is not known.
    """
    if probability is None:
        return "–"
    if probability > 0.99:
        return "over 99%"
    return "below 1%" if probability < 0.01 else f"{probability:.0%}"
