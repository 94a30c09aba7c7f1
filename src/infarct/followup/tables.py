"""Tables of a follow-up: one row per comparison, with a data dictionary, and parts of the brain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infarct.core.serialization import finite, table_cell, write_json, write_tsv
from infarct.followup.change import Fate
from infarct.followup.comparison import ATLASES, Comparison, volume_interval
from infarct.followup.paired_interval import load_paired_errors
from infarct.followup.time_points import TimePoint
from infarct.uncertainty.calibration import COVERAGE

_ML = {"Units": "ml"}

COLUMNS: dict[str, dict[str, Any]] = {
    "first": {"Description": "Earlier scan: its number and the name of its result folder"},
    "second": {"Description": "Later scan"},
    "hours": {"Description": "Time between the scans", "Units": "h"},
    "first_ml": {"Description": "Lesion volume of the earlier scan, in its own space", **_ML},
    "first_low_ml": {"Description": "Lower bound of first_ml", **_ML},
    "first_high_ml": {"Description": "Upper bound of first_ml", **_ML},
    "second_ml": {"Description": "Lesion volume of the later scan, in its own space", **_ML},
    "second_low_ml": {"Description": "Lower bound of second_ml", **_ML},
    "second_high_ml": {"Description": "Upper bound of second_ml", **_ML},
    "growth_ml": {"Description": "second_ml - first_ml", **_ML},
    "growth_low_ml": {"Description": "Lower bound of growth_ml (paired interval)", **_ML},
    "growth_high_ml": {"Description": "Upper bound of growth_ml (paired interval)", **_ML},
    "growth_percent": {"Description": "growth_ml relative to first_ml", "Units": "%"},
    "growth_low_percent": {"Description": "growth_low_ml relative to first_ml", "Units": "%"},
    "growth_high_percent": {"Description": "growth_high_ml relative to first_ml", "Units": "%"},
    "verdict": {
        "Description": "Whether the paired interval excludes no change",
        "Levels": {
            "growth": "the interval lies above 0",
            "shrinkage": "the interval lies below 0",
            "no change": "the interval includes 0",
            "unknown": "there is no interval",
        },
    },
    "persistent_ml": {"Description": "Lesion in both scans, on the grid of the later one", **_ML},
    "recruited_ml": {"Description": "New lesion next to an earlier one (growth)", **_ML},
    "new_ml": {"Description": "New lesions separate from every earlier one", **_ML},
    "reversed_ml": {"Description": "Lesion in the earlier scan only", **_ML},
    "new_lesions": {"Description": "Number of new separate lesions"},
    "resolved_lesions": {"Description": "Number of earlier lesions of which nothing is left"},
    "pseudonormalised_ml": {
        "Description": "Part of the earlier lesion with normal ADC but prolonged T2; infarcted",
        **_ML,
    },
    **{
        f"{fate.name}_{image}_ratio_{time}": {
            "Description": f"Mean {image} of the {fate.name} tissue in the {time} scan / mean of "
            "normal tissue"
        }
        for fate in Fate
        for image in ("adc", "dwi")
        for time in ("first", "second")
    },
    "similarity": {"Description": "Correlation of the ADC outside the lesions after registration"},
    "overlap": {"Description": "Dice of the brain masks after registration"},
    "registration_mm": {
        "Description": "Mean distance between the registrations of both directions",
        "Units": "mm",
    },
}
"""Columns of `follow.tsv`, in the form of a BIDS data dictionary."""


def row(comparison: Comparison) -> dict[str, Any]:
    """Return the row of a comparison in `follow.tsv`, by column; None where undefined."""
    growth, found = comparison.growth, comparison.alignment
    tissue = comparison.tissue
    values: dict[str, Any] = {
        "first": comparison.first.name,
        "second": comparison.second.name,
        "hours": comparison.hours,
        **_volume("first", comparison.first),
        **_volume("second", comparison.second),
        "growth_ml": growth.ml,
        **_bounds("growth", "ml", growth.interval_ml),
        "growth_percent": growth.percent,
        **_bounds("growth", "percent", growth.interval_percent),
        "verdict": growth.verdict,
        **{f"{fate.name}_ml": tissue[fate].ml for fate in Fate},
        "new_lesions": comparison.new_lesions,
        "resolved_lesions": comparison.resolved_lesions,
        "pseudonormalised_ml": comparison.pseudonormalised_ml,
        **{
            f"{fate.name}_{image}_ratio_{time}": getattr(tissue[fate], f"{image}_ratio")[index]
            for fate in Fate
            for image in ("adc", "dwi")
            for index, time in enumerate(("first", "second"))
        },
        "similarity": found.similarity,
        "overlap": found.overlap,
        "registration_mm": found.disagreement_mm,
    }
    cleaned: dict[str, Any] = finite(values)
    return cleaned


def _volume(time: str, point: TimePoint) -> dict[str, float | None]:
    ml = float(point.stored.summary["lesion_volume_ml"])
    return {f"{time}_ml": ml, **_bounds(time, "ml", volume_interval(point))}


def _bounds(stem: str, unit: str, bounds: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = bounds or (None, None)
    return {f"{stem}_low_{unit}": low, f"{stem}_high_{unit}": high}


def write_follow_tables(comparisons: Sequence[Comparison], folder: Path) -> None:
    """Write `follow.tsv`, its data dictionary, `follow_regions.tsv` and `follow.json`.

    Args:
        comparisons: Consecutive scans and, with more than two, the first and the last.
        folder: Output folder.
    """
    rows = [row(comparison) for comparison in comparisons]
    write_tsv(
        folder / "follow.tsv",
        list(COLUMNS),
        [[table_cell(line[name]) for name in COLUMNS] for line in rows],
    )
    write_json(COLUMNS, folder / "follow_columns.json")
    _write_regions(comparisons, folder / "follow_regions.tsv")
    write_json(
        {
            "comparisons": [
                {
                    **line,
                    "remarks": comparison.remarks,
                    "second_from_first": comparison.alignment.second_from_first.tolist(),
                }
                for line, comparison in zip(rows, comparisons, strict=True)
            ],
            "interval": {"coverage": COVERAGE, **asdict(load_paired_errors())},
            "labels": {str(int(fate)): fate.name for fate in Fate},
        },
        folder / "follow.json",
    )


def _write_regions(comparisons: Sequence[Comparison], path: Path) -> None:
    rows = [
        (*_pair(comparison), kind, part.name, part.side or "n/a", fate.name, table_cell(part.ml))
        for comparison in comparisons
        for kind in ATLASES
        for fate, part in comparison.parts(kind)
    ]
    write_tsv(path, ["first", "second", "atlas", "name", "side", "fate", "ml"], rows)


def _pair(comparison: Comparison) -> tuple[str, str]:
    return comparison.first.name, comparison.second.name
