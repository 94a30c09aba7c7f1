"""Uniform formatting of volumes, probabilities, durations and lists of names."""

from __future__ import annotations

from collections.abc import Sequence


def format_volume(volume: float) -> str:
    """Format a volume: whole ml from 10 ml, two significant digits below.

    Args:
        volume: ml, 0 or more.
    """
    limits = ((9.95, 0), (0.995, 1), (0.0995, 2), (0.00995, 3))
    digits = next((digits for limit, digits in limits if volume >= limit), 4)
    return f"{volume:.{digits}f} ml" if volume else "0 ml"


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


def format_duration(seconds: float) -> str:
    """Format a duration in its natural unit: seconds, minutes, hours or days.

    Args:
        seconds: 0 or more.
    """
    for unit, length, most in (("s", 1, 99.5), ("min", 60, 99.5), ("h", 3600, 47.5)):
        if seconds / length < most:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
