"""Recompute a result from a corrected lesion mask, keep the old mask, and record the change."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from infarct.core import assets
from infarct.core.atomic_write import edit_atomically, reserved
from infarct.core.diffusion import scanned_slices
from infarct.core.errors import GeometryError, InputFileError
from infarct.core.findings import Finding, FindingCode, stored_code
from infarct.core.geometry import reorder
from infarct.core.nifti import Volume, read_labels, write
from infarct.core.resampling import resample
from infarct.core.serialization import as_utf8, write_json, write_tsv
from infarct.measurement.anatomy import find_anatomy
from infarct.measurement.atlas import Atlas
from infarct.measurement.volumetry import MeasurementImages, Measurements, measure
from infarct.reporting.reader import (
    AUDIT,
    FILES,
    LABELS,
    OUTLINE,
    THUMBNAIL,
    Stored,
    read_stored,
    settle,
)
from infarct.reporting.tables import numbers, write_tables
from infarct.reporting.writer import (
    DOCUMENTS,
    relisted,
    write_documents,
    write_labels,
    write_outline_mni,
)
from infarct.segmentation.measured_lattice import lattice
from infarct.uncertainty.asymmetry import Asymmetry, asymmetry_beyond, asymmetry_findings
from infarct.uncertainty.result_checks import lesion_findings, score_findings

_CHANGED = (
    *(OUTLINE, LABELS, f"mni/{OUTLINE}", THUMBNAIL, AUDIT),
    *("lesions.tsv", "regions.tsv", "summary.json"),
)
"""Files that a correction writes or removes."""

_MOST_OUTSIDE = 0.1
"""Share of the corrected mask outside the brain mask above which a warning is issued."""


@dataclass(frozen=True)
class Correction:
    """One line of the audit trail.

    Attributes:
        date_utc: Date and time, ISO 8601.
        by: Name of the editor as given; empty only in results of earlier versions.
        reason: Reason as given; may be empty.
        previous_mask: File name under which the previous mask is kept.
        sha256_before: SHA-256 of the previous mask.
        sha256_after: SHA-256 of the corrected `lesion_mask.nii.gz`.
        ml_before: Lesion volume before the correction, ml.
        ml_after: Lesion volume after the correction, ml.
        infarct: Version of infarct that made the measurements.
    """

    date_utc: str
    by: str
    reason: str
    previous_mask: str
    sha256_before: str
    sha256_after: str
    ml_before: float
    ml_after: float
    infarct: str


def recompute(
    folder: Path,
    edited: Path,
    *,
    by: str,
    reason: str = "",
    territories: Atlas | None = None,
) -> Correction:
    """Replace the lesion mask of a result with a corrected mask and repeat all measurements.

    Args:
        folder: Output of `infarct segment`, or the folder of a scan in `reports/` of
            `infarct bids`. It is updated completely or not at all.
        edited: NIfTI file with the corrected mask on the grid of the DWI, axes in any order;
            voxels above 0 are lesion.
        by: Name or initials of the editor; not empty.
        reason: Reason for the correction.
        territories: Atlas for the territory table; the bundled atlas if None.

    Returns:
        The line added to the audit trail.

    Raises:
        InputFileError: If the mask cannot be read, the result is incomplete, the result was made
            with a different atlas, or the editor is not named.
        GeometryError: If the mask is not on the grid of the DWI.
        ContentError: If the image is not a mask.
        OutputError: If the result cannot be written, or another process is using it.
    """
    if not by.strip():
        raise InputFileError(
            "the audit trail needs the name or initials of the editor; name the editor with --by"
        )
    with reserved(folder):
        settle(folder)
        return _recompute(folder, edited, by, reason, territories)


def _recompute(
    folder: Path, edited: Path, by: str, reason: str, territories: Atlas | None
) -> Correction:
    stored = read_stored(folder)
    lesion = _read_edited(edited, stored.dwi)
    measurements = _measure(lesion, stored)
    scanned = scanned_slices(stored.dwi.data, stored.dwi.slice_axis)
    place = stored.atlas_from_native
    anatomy = find_anatomy(lesion.data, stored.dwi.grid, place, territories, scanned)
    before, now = stored.manifest["territories"], anatomy.places.atlas
    names = before.get("names_sha256", now.names_sha256)  # absent from results of old versions
    if (before["sha256"], names) != (now.sha256, now.names_sha256):
        raise InputFileError(
            f"{folder} was made with the atlas {before['file']} and its label table, not with "
            f"{now.file} and the given table; pass the original files with --atlas and --labels"
        )
    earlier = stored.summary.get("corrections", [])
    previous_mask = (
        f"lesion_mask_corrected-{len(earlier)}.nii.gz"
        if earlier
        else ("lesion_mask_automatic.nii.gz")
    )
    with edit_atomically(folder, stored.elsewhere) as partial:
        shutil.copyfile(partial / OUTLINE, partial / previous_mask)
        if (partial / "dicom").is_dir():
            # The DICOM SEG describes the automatic mask, not the corrected one.
            (partial / "dicom").rename(partial / "dicom_automatic")
        # The thumbnail shows the old mask; the cohort page draws its own.
        (partial / THUMBNAIL).unlink(missing_ok=True)
        write(lesion, partial / OUTLINE, np.uint8)
        write_labels(lesion, partial)
        write_outline_mni(lesion, stored.mni_from_native, partial / "mni")
        write_tables(measurements, anatomy.places, partial)
        correction = Correction(
            date_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            by=_one_line(by),
            reason=_one_line(reason),
            previous_mask=previous_mask,
            sha256_before=assets.sha256(partial / previous_mask),
            sha256_after=assets.sha256(partial / OUTLINE),
            ml_before=stored.summary["lesion_volume_ml"],
            ml_after=measurements.lesion_volume_ml,
            infarct=version("infarct"),
        )
        corrections = [*earlier, asdict(correction)]
        _write_audit(corrections, partial / AUDIT)
        summary = {
            **stored.summary,
            **numbers(measurements, anatomy),
            "confidence": None,
            "corrections": corrections,
            "warnings": _warnings(stored, measurements, lesion),
            "notes": [
                *_still_true(stored.summary["notes"]),
                *(asdict(finding) for finding in score_findings(anatomy)),
            ],
        }
        write_json(summary, partial / "summary.json")
        outputs = {**stored.manifest["outputs"], OUTLINE: correction.sha256_after}
        manifest = {**stored.manifest, "outputs": outputs}
        write_json(manifest, partial / "manifest.json")
        write_documents(read_stored(partial), partial)
        if FILES in manifest:
            manifest = {**manifest, FILES: _renamed(manifest[FILES])}
        names = (*_CHANGED, *DOCUMENTS, previous_mask)
        write_json(relisted(manifest, partial, names), partial / "manifest.json")
    return correction


def _renamed(listed: dict[str, str]) -> dict[str, str]:
    """Return the file list with `dicom/` renamed to `dicom_automatic/`."""
    return {
        f"dicom_automatic/{name.removeprefix('dicom/')}" if name.startswith("dicom/") else name: d
        for name, d in listed.items()
    }


def _read_edited(path: Path, dwi: Volume) -> Volume:
    volume = read_labels(path)
    edited = reorder(volume.data > 0, volume.grid, dwi.grid)
    if edited is None:
        raise GeometryError(
            f"{path}: the mask is not on the grid of the DWI. The mask has shape "
            f"{volume.data.shape} and affine\n{volume.affine}\n"
            f"the DWI has shape {dwi.data.shape} and affine\n{dwi.affine}\n"
            f"draw the mask on scan/dwi.nii.gz of the result, or edit a copy of its {OUTLINE}"
        )
    # Use the header of the DWI, as for the automatic mask.
    return dwi.like(edited)


def _measure(lesion: Volume, stored: Stored) -> Measurements:
    scan = MeasurementImages(
        dwi=stored.dwi.data,
        adc=stored.adc.data,
        probability=stored.probability.data,
        brain=stored.brain.data,
        grid=stored.dwi.grid,
        mni_from_native=stored.atlas_from_native,
    )
    return measure(lesion.data, scan, stored.dwi.slice_axis)


def _asymmetry(stored: Stored, lesion: Volume) -> Asymmetry:
    """Repeat the comparison of the hemispheres, excluding the corrected mask."""
    native_from_mni = np.linalg.inv(stored.mni_from_native)
    grid = lattice(stored.mni_from_native @ stored.dwi.affine, stored.dwi.grid.shape)
    dwi, adc, brain, mask = (
        resample(volume.like(volume.data.astype(np.float32)), grid, native_from_mni)
        for volume in (stored.dwi, stored.adc, stored.brain, lesion)
    )
    return asymmetry_beyond(dwi, adc, brain >= 0.5, mask >= 0.5, float(grid.spacing[2]))


def _warnings(stored: Stored, measurements: Measurements, lesion: Volume) -> list[dict[str, str]]:
    """Return the warnings about the scan and the corrected mask, without those about the old."""
    found = [*lesion_findings(measurements), *asymmetry_findings(_asymmetry(stored, lesion))]
    outside = float((lesion.data & ~stored.brain.data).sum()) / max(int(lesion.data.sum()), 1)
    if outside > _MOST_OUTSIDE:
        text = (
            f"{outside:.0%} of the corrected mask lies outside the brain mask; check that it "
            "belongs to this scan and is not mirrored"
        )
        found.append(Finding(FindingCode.MASK_OUTSIDE_BRAIN, "warning", text))
    kept = _still_true(stored.summary["warnings"])
    return [*kept, *(asdict(finding) for finding in found)]


def _one_line(text: str) -> str:
    """Return text as a single line of valid UTF-8 for a table cell."""
    return as_utf8(" ".join(text.split()))


def _still_true(findings: list[dict[str, str]]) -> list[dict[str, str]]:
    """Drop the findings that describe the previous mask."""
    return [
        finding
        for finding in findings
        if (code := stored_code(finding["code"])) is None or not code.about_mask
    ]


def _write_audit(corrections: list[dict[str, Any]], path: Path) -> None:
    names = [field.name for field in fields(Correction)]
    write_tsv(path, names, ([str(line[name]) for name in names] for line in corrections))
