"""An outline corrected by hand: every number anew, the old outline kept, a line in the audit."""

from __future__ import annotations

import csv
import shutil
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from infarct import assets
from infarct.errors import ContentError, GeometryError
from infarct.page import write_page
from infarct.pipeline import doubts
from infarct.quality import Finding
from infarct.quantify import Measurements, Scan, measure
from infarct.report import (
    changed_whole,
    numbers,
    write_json,
    write_lesions,
    write_outline_mni,
)
from infarct.stored import OUTLINE, Stored, read_stored
from infarct.volume import Volume, closest_axes, read, write

AUDIT = "audit.tsv"

_ABOUT_THE_OUTLINE = {"adc-not-low", "lesion-huge", "outside-brain"}
"""Codes of findings that a new outline does away with, or earns anew."""

_OF_THE_OUTLINE = ("certainty", "territories", "regions", "aspects", "pc_aspects", "pattern")
"""What a summary may say of the old outline, and must not say of the new one."""

_MOST_OUTSIDE = 0.1


@dataclass(frozen=True)
class Correction:
    """One line of the audit.

    Attributes:
        date_utc: When, ISO 8601.
        by: Who, as they said; may be empty.
        reason: Why, as they said; may be empty.
        kept_as: File that the outline before is kept in.
        sha256_before: Of that file.
        sha256_after: Of `lesion_mask.nii.gz` after.
        ml_before: Its volume.
        ml_after: Its volume.
        infarct: Version that measured.
    """

    date_utc: str
    by: str
    reason: str
    kept_as: str
    sha256_before: str
    sha256_after: str
    ml_before: float
    ml_after: float
    infarct: str


def recompute(folder: Path, edited: Path, *, by: str = "", reason: str = "") -> Correction:
    """Replace the outline of a result by one corrected by hand and measure it.

    Args:
        folder: As `infarct segment` made it; changed whole or not at all.
        edited: The corrected mask, on the grid of the DWI; all that is not 0 is lesion.
        by: Who corrected it.
        reason: Why.

    Returns:
        What was written into the audit.

    Raises:
        InputFileError: If the mask cannot be read, or the folder is no whole result.
        GeometryError: If the mask lies on another grid.
        ContentError: If it is no mask.
        OutputError: If the result cannot be written.
    """
    stored = read_stored(folder)
    lesion = _read_edited(edited, stored.dwi)
    measurements = _measure(lesion, stored)
    earlier = stored.summary.get("corrections", [])
    kept_as = (
        f"lesion_mask_corrected-{len(earlier)}.nii.gz"
        if earlier
        else ("lesion_mask_automatic.nii.gz")
    )
    with changed_whole(folder) as partial:
        shutil.copyfile(partial / OUTLINE, partial / kept_as)
        write(lesion, partial / OUTLINE, np.uint8)
        write_outline_mni(lesion, stored.mni_from_native, partial / "mni")
        write_lesions(measurements.lesions, partial / "lesions.tsv")
        correction = Correction(
            date_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            by=" ".join(by.split()),
            reason=" ".join(reason.split()),
            kept_as=kept_as,
            sha256_before=assets.sha256(partial / kept_as),
            sha256_after=assets.sha256(partial / OUTLINE),
            ml_before=stored.summary["lesion_volume_ml"],
            ml_after=measurements.lesion_volume_ml,
            infarct=version("infarct"),
        )
        corrections = [*earlier, asdict(correction)]
        _write_audit(corrections, partial / AUDIT)
        write_json(_summarise(stored, measurements, lesion, corrections), partial / "summary.json")
        outputs = {**stored.manifest["outputs"], OUTLINE: correction.sha256_after}
        write_json({**stored.manifest, "outputs": outputs}, partial / "manifest.json")
        write_page(read_stored(partial), partial)
    return correction


def _read_edited(path: Path, dwi: Volume) -> Volume:
    volume = read(path)
    if volume.data.ndim != 3 or not volume.grid.matches(dwi.grid):
        raise GeometryError(
            f"{path}: the mask has shape {volume.data.shape} and affine\n{volume.affine}\n"
            f"but the DWI has shape {dwi.data.shape} and affine\n{dwi.affine}\n"
            f"draw it on scan/dwi.nii.gz of the result, or edit a copy of its {OUTLINE}"
        )
    values = np.unique(volume.data)
    strange = values[~np.isfinite(values) | (values < 0) | (values != np.round(values))]
    if strange.size:
        raise ContentError(
            f"{path}: holds the value {strange[0]:.3g}; a mask holds 0 where there is no lesion "
            "and whole numbers where there is one"
        )
    # Written with the header of the DWI, as the automatic outline was.
    return dwi.like(volume.data > 0)


def _measure(lesion: Volume, stored: Stored) -> Measurements:
    scan = Scan(
        dwi=stored.dwi.data,
        adc=stored.adc.data,
        probability=stored.probability.data,
        brain=stored.brain.data,
        grid=stored.dwi.grid,
        mni_from_native=stored.mni_from_native,
    )
    slice_axis = int(np.argmax(np.abs(closest_axes(stored.dwi.affine)[2])))
    return measure(lesion.data, scan, slice_axis)


def _summarise(
    stored: Stored,
    measurements: Measurements,
    lesion: Volume,
    corrections: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return the summary with the new numbers; what was said of the old outline goes."""
    found = doubts(measurements)
    outside = float((lesion.data & ~stored.brain.data).sum()) / max(int(lesion.data.sum()), 1)
    if outside > _MOST_OUTSIDE:
        text = (
            f"{outside:.0%} of the corrected outline lies outside the brain mask; "
            "is it the mask of this scan, and not mirrored?"
        )
        found.append(Finding("outside-brain", "warning", text))
    kept = [w for w in stored.summary["warnings"] if w["code"] not in _ABOUT_THE_OUTLINE]
    return {
        **{key: value for key, value in stored.summary.items() if key not in _OF_THE_OUTLINE},
        **numbers(measurements),
        "warnings": [*kept, *(asdict(finding) for finding in found)],
        "corrections": corrections,
    }


def _write_audit(corrections: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        names = [field.name for field in fields(Correction)]
        table = csv.DictWriter(stream, names, delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(corrections)
