"""Uniform formatting of volumes, probabilities and lists of names."""

from __future__ import annotations

from collections.abc import Sequence


def format_volume(volume: float) -> str:
    """Format a volume: one decimal from 10 ml, two below, more for very small volumes.

    Args:
        volume: ml, 0 or more.
    """
    if volume >= 9.995:
        return f"{volume:.1f} ml"
    digits = 2 if volume >= 0.095 or volume == 0 else 3 if volume >= 0.0005 else 4
    return f"{volume:.{digits}f} ml"


def format_probability(probability: float | None) -> str:
    """Format a probability; never as 0% or 100%, which no calibration can support.

    Args:
        probability: 0 - 1, or None if unknown.
    """
    if probability is None:
        return "–"
    if probability > 0.99:
        return "over 99%"
    return "below 1%" if probability < 0.01 else f"{probability:.0%}"


def format_names(names: Sequence[str], most: int = 10) -> str:
    """Format a list of names, separated by commas, with the number of those left out.

    Args:
        names: The names.
        most: Maximum number of names that are listed.
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
