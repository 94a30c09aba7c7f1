"""Render the report as a single self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from infarct.core.geometry import MNI_GRID
from infarct.core.resampling import resample
from infarct.core.units import format_volume
from infarct.measurement.atlas import load_atlas
from infarct.preprocessing.templates import load_template
from infarct.reporting.figures import slice_figure
from infarct.reporting.mni_views import Drawing, Parcels, aspects_slices, glass_brain, mni_slices
from infarct.reporting.narrative import (
    aspects,
    describe_confidence,
    doubtful_lesion,
    impression,
    verdict,
)
from infarct.reporting.pages import page_environment
from infarct.reporting.reader import Stored
from infarct.reporting.slice_viewer import slice_of, view

_ROWS_SHOWN = 10

_SMALLEST_SHARE = 0.01
"""Regions and territories with a smaller share of the lesion are collapsed."""

_OPTIONAL = ("territories", "pattern", "regions", "aspects", "pc_aspects", "corrections")
"""Keys that a summary may lack."""


@dataclass(frozen=True)
class _Row:
    name: str
    value: str


@dataclass(frozen=True)
class _Columns:
    """Optional columns of the lesion table."""

    territory: bool
    compartment: bool
    probability: bool

    @staticmethod
    def of(lesions: Sequence[dict[str, Any]]) -> _Columns:
        return _Columns(
            *(any(lesion.get(f.name) is not None for lesion in lesions) for f in fields(_Columns))
        )


def write_page(stored: Stored, folder: Path) -> None:
    """Write `report.html` and `figure.png`.

    Args:
        stored: The result; equal results give identical files.
        folder: Output folder.
    """
    slice_figure(stored).save(folder / "figure.png", compress_level=3)
    (folder / "report.html").write_text(render(stored), encoding="utf-8")


def render(stored: Stored) -> str:
    """Render the report.

    Args:
        stored: The result.

    Returns:
        The HTML text.
    """
    summary: dict[str, Any] = {**dict.fromkeys(_OPTIONAL), **stored.summary}
    manifest, lesions = stored.manifest, summary["lesions"]
    template = load_template()
    # Draw territory borders only if the numbers come from the same atlas.
    shipped = manifest["territories"]["sha256"] == load_atlas("territories").sha256
    parcels = _territories() if shipped else None
    shown_regions, other_regions = _regions(summary["regions"] or [])
    scores = (("ASPECTS", summary["aspects"]), ("PC-ASPECTS", summary["pc_aspects"]))
    return (
        page_environment()
        .get_template("report.html.j2")
        .render(
            summary=summary,
            manifest=manifest,
            label=stored.label,
            identity=stored.identity,
            verdict=verdict(summary),
            confidence=describe_confidence(summary),
            impression=impression(summary),
            second=_second(stored),
            method=summary["method"],
            command=" ".join(manifest["command"] or ()),
            viewer=view(stored),
            has=_Columns.of(lesions),
            doubtful=[doubtful_lesion(row) for row in lesions],
            slices_of_lesions=[slice_of(stored, row["centroid_mm"]) for row in lesions],
            glass_brain=glass_brain(stored.lesion_mni, template) if lesions else (),
            mni_slices=mni_slices(stored.lesion_mni, template, parcels) if lesions else (),
            parcels=parcels,
            territories=_territory_rows(summary["territories"] or []),
            scores=[aspects(name, score) for name, score in scores if score],
            aspects_slices=_aspects(summary["aspects"]),
            shown_regions=shown_regions,
            other_regions=other_regions,
            numbers=_numbers(summary),
            rows_shown=_ROWS_SHOWN,
        )
    )


def _second(stored: Stored) -> dict[str, Any] | None:
    """Return what the second method saw, and the slice where it differs most."""
    second = (stored.summary.get("confidence") or {}).get("second_method")
    if not second:
        return None
    at = second.get("differs_at_mm")
    return {**second, "slice": slice_of(stored, at) if at else None}


def _regions(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Split the affected regions into those shown and those collapsed.

    Lesion in a ventricle is residual registration error, and so are very small shares.
    """
    shown: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for row in sorted((row for row in rows if row["ml"]), key=lambda row: -row["ml"]):
        counts = row.get("class") != "ventricle" and not _is_small(row)
        (shown if counts and len(shown) < _ROWS_SHOWN else others).append(row)
    return shown, others


def _territory_rows(rows: list[dict[str, Any]]) -> list[tuple[dict[str, Any], bool]]:
    """Return the affected territories, each followed by its parts, without very small shares."""
    found = []
    for row in rows:
        parts = [part for part in row.get("subterritories", []) if part["ml"]]
        found += [(each, each is not row) for each in (row, *parts)]
    return [(row, part) for row, part in found if row["ml"] and not _is_small(row)]


def _is_small(row: dict[str, Any]) -> bool:
    return (row["share_of_lesion"] or 0.0) < _SMALLEST_SHARE


def _aspects(score: dict[str, Any] | None) -> tuple[Drawing, ...]:
    if not score or not score["affected"]:
        return ()
    atlas = load_atlas("aspects")
    return aspects_slices(score["affected"], score["side"], atlas, load_template())


@lru_cache(maxsize=1)
def _territories() -> Parcels:
    """Return the major arterial territories on the MNI grid, for drawing their borders."""
    atlas = load_atlas("territories")
    majors = sorted({(entry.group, entry.side) for entry in atlas.entries})
    major_of = np.zeros(max(entry.index for entry in atlas.entries) + 1, dtype=np.uint8)
    for entry in atlas.entries:
        major_of[entry.index] = 1 + majors.index((entry.group, entry.side))
    labels = atlas.labels.like(major_of[atlas.labels.data])
    return Parcels("arterial territories", resample(labels, MNI_GRID, labels=True))


def _numbers(summary: dict[str, Any]) -> list[_Row]:
    brain = _Row("Intracranial volume (brain mask)", f"{summary['intracranial_volume_ml']:.0f} ml")
    lesions = summary["lesions"]
    if not lesions:
        return [brain]
    adc = summary["mean_adc"]
    doubtful = [doubtful_lesion(row) for row in lesions]
    certain = sum(row["volume_ml"] for row, no in zip(lesions, doubtful, strict=True) if not no)
    rows = [_Row("Lesion volume", format_volume(summary["lesion_volume_ml"]))]
    if any(doubtful):
        rows.append(_Row("Without doubtful lesions", format_volume(certain)))
    count = f"{len(lesions)}, {sum(doubtful)} doubtful" if any(doubtful) else str(len(lesions))
    return [
        *rows,
        _Row("Lesions", count),
        _Row(
            "Left / right",
            f"{format_volume(summary['left_ml'])} / {format_volume(summary['right_ml'])}",
        ),
        _Row("DWI, lesion / normal tissue", _ratio(summary["dwi_ratio"])),
        _Row("ADC, lesion / normal tissue", _ratio(summary["adc_ratio"])),
        _Row("Mean ADC of the lesion", "–" if adc is None else f"{adc * 1e3:.2f} × 10⁻³ mm²/s"),
        brain,
    ]


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
