"""Report of a follow-up: a single self-contained HTML file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infarct.core.units import format_duration, format_volume
from infarct.followup.change import Fate
from infarct.followup.comparison import ATLASES, Comparison, volume_interval
from infarct.followup.paired_interval import load_paired_errors
from infarct.followup.time_points import TimePoint
from infarct.reporting.pages import page_environment
from infarct.reporting.radiological_view import (
    box_around,
    contour_path,
    key_slices,
    radiological_spacing,
    to_radiological,
)
from infarct.reporting.slice_viewer import Tiling, grey, make_sheet, make_tiling

_MOST_SLICES = 6
"""Maximum number of slices in the montage."""

_ADC_WHITE = 3.3
"""ADC shown as white, as a ratio to normal tissue; about 2.5e-3 mm^2/s."""

_CURVE = (560, 230)
_MARGIN = (56, 40, 16, 34)
"""Left, right, upper and lower margin of the curve."""


@dataclass(frozen=True)
class LinkedViewer:
    """Both scans in the space of the second, slice by slice.

    Attributes:
        width: Width of one slice, pixels.
        height: Height of one slice, pixels.
        columns: Number of slices per row of a sheet.
        slices: Number of slices.
        start: Slice with the most change, or the most lesion.
        montage: Slices of the montage.
        sheets: Data URI of all slices, by image (`dwi`, `adc`) and time (0, 1).
        shapes: SVG path of each fate on each slice, by name of the fate.
    """

    width: int
    height: int
    columns: int
    slices: int
    start: int
    montage: tuple[int, ...]
    sheets: dict[str, tuple[str, str]]
    shapes: dict[str, tuple[str, ...]]

    @property
    def rows(self) -> int:
        """Number of rows of slices on a sheet."""
        return -(-self.slices // self.columns)

    def corner(self, z: int) -> tuple[int, int]:
        """Return the left and upper edge of a slice on a sheet, pixels."""
        return z % self.columns * self.width, z // self.columns * self.height


def render(points: Sequence[TimePoint], comparisons: Sequence[Comparison]) -> str:
    """Return the report as HTML.

    Args:
        points: All scans.
        comparisons: Consecutive scans and, with more than two, the first and the last, which is
            the one shown in the viewer.
    """
    shown = comparisons[-1]
    return (
        page_environment()
        .get_template("follow.html.j2")
        .render(
            title=headline(shown),
            points=[_describe(point, points[0]) for point in points],
            comparisons=comparisons,
            shown=shown,
            viewer=linked_viewer(shown),
            curve=growth_curve(points) if len(points) > 2 else None,
            fates=[fate.name for fate in Fate],
            parts={kind: _part_rows(shown, kind) for kind in ATLASES},
            paired=load_paired_errors(),
            duration=lambda hours: format_duration(3600 * hours),
            signed=signed,
        )
    )


def headline(comparison: Comparison) -> str:
    """Return the main result in one sentence."""
    growth = comparison.growth
    before, after = (
        format_volume(float(point.stored.summary["lesion_volume_ml"]))
        for point in (comparison.first, comparison.second)
    )
    names = {"growth": "Growth", "shrinkage": "Shrinkage", "no change": "No certain change"}
    name = names.get(growth.verdict, "Change of unknown certainty")
    bounds = growth.interval_ml
    interval = f" [{signed(bounds[0])}, {signed(bounds[1])}]" if bounds else ""
    when = "" if comparison.hours is None else f" in {format_duration(3600 * comparison.hours)}"
    added = comparison.new_lesions
    new = f", {added} new separate lesion{'s' if added > 1 else ''}" if added else ""
    return f"{name}: {signed(growth.ml)} ml{interval}, from {before} to {after}{when}{new}"


def signed(value: float) -> str:
    """Format a difference with its sign."""
    digits = 0 if abs(value) >= 9.95 else 1
    text = f"{value:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def linked_viewer(comparison: Comparison) -> LinkedViewer:
    """Prepare all slices of both scans, with the same window, and the shapes of each fate."""
    stored = comparison.second.stored
    affine = stored.dwi.affine

    def shown(data: NDArray[Any]) -> NDArray[Any]:
        return to_radiological(data, affine)

    brain, fate = shown(stored.brain.data), shown(comparison.fate.data)
    tiling = make_tiling(
        box_around(brain | (fate > 0), 3), brain.shape, radiological_spacing(affine)
    )
    slices = brain.shape[2]
    columns = math.ceil(math.sqrt(slices))
    images = {
        kind: [shown(getattr(ratios, kind)) for ratios in comparison.ratios]
        for kind in ("dwi", "adc")
    }
    # One window for both scans: the signals are ratios to normal tissue.
    tops = {"dwi": max(float(np.percentile(i[brain], 99.5)) for i in images["dwi"])}
    tops["adc"] = _ADC_WHITE
    changed = (fate > Fate.persistent).sum(axis=(0, 1))
    area = changed if changed.any() else (fate > 0).sum(axis=(0, 1))
    width, height = tiling.tile
    return LinkedViewer(
        width=width,
        height=height,
        columns=columns,
        slices=slices,
        start=int(np.argmax(area)) if area.any() else slices // 2,
        montage=tuple(key_slices(fate > 0, brain, _MOST_SLICES)),
        sheets={
            kind: _pair_of_sheets([grey(image, tops[kind]) for image in pair], tiling, columns)
            for kind, pair in images.items()
        },
        shapes={
            each.name: tuple(
                contour_path((fate == each)[(*tiling.box, z)], tiling.place) for z in range(slices)
            )
            for each in Fate
        },
    )


def _pair_of_sheets(
    images: list[NDArray[np.uint8]], tiling: Tiling, columns: int
) -> tuple[str, str]:
    first, second = (make_sheet(image, tiling, columns) for image in images)
    return first, second


def _describe(point: TimePoint, first: TimePoint) -> dict[str, Any]:
    stored = point.stored
    return {
        "name": point.name,
        "when": point.when.isoformat(" ", "minutes") if point.when else "",
        "hours": _hours(point, first),
        "ml": float(stored.summary["lesion_volume_ml"]),
        "interval": volume_interval(point),
        "lesions": stored.summary["lesion_count"],
        "adc_ratio": stored.summary["adc_ratio"],
        "dwi_ratio": stored.summary["dwi_ratio"],
        "corrected": bool(stored.summary.get("corrections")),
    }


def _hours(point: TimePoint, first: TimePoint) -> float | None:
    if point.when is None or first.when is None:
        return None
    return (point.when - first.when).total_seconds() / 3600


def _part_rows(comparison: Comparison, kind: Any) -> list[tuple[str, dict[str, float]]]:
    """Return the volume of each fate in each part of the brain, largest total first."""
    rows: dict[str, dict[str, float]] = {}
    for fate, part in comparison.parts(kind):
        name = f"{part.name} {part.side}".strip()
        rows.setdefault(name, dict.fromkeys((each.name for each in Fate), 0.0))[fate.name] += (
            part.ml
        )
    return sorted(rows.items(), key=lambda item: -sum(item[1].values()))[:12]


@dataclass(frozen=True)
class Curve:
    """Lesion volume over time as coordinates of an SVG drawing.

    Attributes:
        width: Width of the drawing.
        height: Height of the drawing.
        line: Points of the line.
        bars: For each scan: x, y of the volume, and y of the lower and upper bound or None.
        ticks: y and label of each tick of the volume.
        labels: x and label of each scan.
    """

    width: int
    height: int
    line: str
    bars: tuple[tuple[float, float, float | None, float | None], ...]
    ticks: tuple[tuple[float, str], ...]
    labels: tuple[tuple[float, str], ...]


def growth_curve(points: Sequence[TimePoint]) -> Curve:
    """Draw the volumes over time; evenly spaced if a date is unknown."""
    hours = [_hours(point, points[0]) for point in points]
    known = [hour for hour in hours if hour is not None]
    timed = len(known) == len(points) and known[-1] > 0
    at = [hour / known[-1] for hour in known] if timed else np.linspace(0, 1, len(points)).tolist()
    volumes = [float(point.stored.summary["lesion_volume_ml"]) for point in points]
    bounds = [volume_interval(point) for point in points]
    top = _round_up(max([*volumes, *(b[1] for b in bounds if b)]) or 1.0)
    (width, height), (left, right, above, below) = _CURVE, _MARGIN

    def x(share: float) -> float:
        return round(left + share * (width - left - right), 1)

    def y(ml: float) -> float:
        return round(height - below - ml / top * (height - above - below), 1)

    names = [format_duration(3600 * h) if h else "first scan" for h in known] if timed else []
    return Curve(
        width,
        height,
        " ".join(f"{x(share)},{y(ml)}" for share, ml in zip(at, volumes, strict=True)),
        tuple(
            (x(share), y(ml), y(b[0]) if b else None, y(b[1]) if b else None)
            for share, ml, b in zip(at, volumes, bounds, strict=True)
        ),
        tuple((y(share * top), f"{share * top:g}") for share in (0, 0.5, 1)),
        tuple(
            (x(s), (names or [f"scan {n + 1}" for n in range(len(at))])[i])
            for i, s in enumerate(at)
        ),
    )


def _round_up(value: float) -> float:
    """Return the next number of the form 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)
