"""Render the report as a single self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from infarct.core.geometry import MNI_GRID
from infarct.core.resampling import resample
from infarct.core.units import format_probability, format_volume
from infarct.measurement.atlas import load_atlas
from infarct.preprocessing.templates import load_template
from infarct.reporting.figures import slice_figure, to_png
from infarct.reporting.mni_views import Parcels, glass_brain, mni_slices
from infarct.reporting.narrative import artery, describe_confidence, impression, verdict
from infarct.reporting.reader import Stored
from infarct.reporting.slice_viewer import slice_of, view

_ROWS_SHOWN = 10

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
    (folder / "figure.png").write_bytes(to_png(slice_figure(stored)))
    (folder / "report.html").write_text(render(stored), encoding="utf-8")


def render(stored: Stored) -> str:
    """Render the report.

    Args:
        stored: The result.

    Returns:
        The HTML text.
    """
    environment = Environment(
        loader=PackageLoader("infarct", "data"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ml": format_volume,
        "chance": format_probability,
        "artery": artery,
        "number": _number,
        "share": _share,
        "sentence": _sentence,
    }
    summary: dict[str, Any] = {**dict.fromkeys(_OPTIONAL), **stored.summary}
    manifest = stored.manifest
    template = load_template()
    # Draw territory borders only if the numbers come from the same atlas.
    shipped = manifest["territories"]["sha256"] == load_atlas("territories").sha256
    parcels = _territories() if shipped else None
    return environment.get_template("report.html.j2").render(
        summary=summary,
        manifest=manifest,
        verdict=verdict(summary),
        confidence=describe_confidence(summary),
        impression=impression(summary),
        method=summary["method"],
        command=" ".join(manifest["command"] or ()),
        viewer=view(stored),
        has=_Columns.of(summary["lesions"]),
        slices_of_lesions=[slice_of(stored, row["centroid_mm"]) for row in summary["lesions"]],
        glass_brain=glass_brain(stored.lesion_mni, template),
        mni_slices=mni_slices(stored.lesion_mni, template, parcels),
        parcels=parcels,
        numbers=_numbers(summary),
        rows_shown=_ROWS_SHOWN,
    )


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
    adc = summary["mean_adc"]
    return [
        _Row("Lesion volume", format_volume(summary["lesion_volume_ml"])),
        _Row("Lesions", str(summary["lesion_count"])),
        _Row(
            "Left / right",
            f"{format_volume(summary['left_ml'])} / {format_volume(summary['right_ml'])}",
        ),
        _Row("DWI, lesion / normal tissue", _number(summary["dwi_ratio"])),
        _Row("ADC, lesion / normal tissue", _number(summary["adc_ratio"])),
        _Row(
            "Mean ADC of the lesion",
            "–" if adc is None else f"{_number(adc * 1e3)} × 10⁻³ mm²/s",
        ),
        _Row("Intracranial volume (brain mask)", f"{summary['intracranial_volume_ml']:.0f} ml"),
    ]


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _sentence(message: str) -> str:
    return message if message.endswith(("?", ".", "!")) else f"{message}."
