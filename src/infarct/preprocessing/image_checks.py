"""Checks of the input images: geometry, signal, b-value."""

from __future__ import annotations

import numpy as np

from infarct.core.diffusion import Image
from infarct.core.errors import ContentError, GeometryError
from infarct.core.findings import Finding, FindingCode, Level
from infarct.core.geometry import Affine
from infarct.core.nifti import Volume, form_disagreement_mm, has_position


def check_grid(name: str, volume: Volume) -> list[Finding]:
    """Check that voxel size and matrix are plausible for a head.

    Args:
        name: Type of the image (`DWI`, `b0`, `ADC`), for the messages.
        volume: The image as read.

    Returns:
        Findings about the header.

    Raises:
        GeometryError: If the image is too thin, too small or too large to be a head.
    """
    findings = [
        Finding(
            FindingCode(each.code),
            "warning" if each.doubtful else "note",
            f"{name}: {each.message}",
        )
        for each in volume.remarks
    ]
    spacing, shape = volume.grid.spacing, volume.data.shape
    extent = spacing * shape
    if min(shape) < 3 or max(shape) < 32:
        raise GeometryError(
            f"{name}: the image has only {' x '.join(map(str, shape))} voxels; give an image of "
            "the head with at least 3 slices"
        )
    across = np.sort(extent)[1:]
    if spacing.max() > 15 or spacing.min() < 0.2 or across.min() < 100 or across.max() > 600:
        raise GeometryError(
            f"{name}: voxels of {_mm(spacing)} mm give an image of {_mm(extent)} mm; expected 100 "
            "to 600 mm across and voxels of 0.2 to 15 mm: correct the voxel size in the header"
        )
    if not has_position(volume):
        findings.append(
            Finding(
                FindingCode.ORIENTATION_UNKNOWN,
                "warning",
                f"{name}: neither sform nor qform is set, so left and right are unknown and the "
                "reported sides may be wrong: export the image again with its orientation",
            )
        )
    apart = form_disagreement_mm(volume)
    if apart > 1.0:
        level: Level = "warning"
        problem = f"sform and qform differ by up to {apart:.1f} mm"
        if np.isinf(apart):
            problem = "the qform is damaged"
        elif apart < spacing[volume.slice_axis] / 2:
            # Without the distance, so that the notes of all images of a scan can be joined.
            problem, level = "sform and qform differ by less than half a slice", "note"
        text = f"{name}: {problem}; the sform was used"
        findings.append(Finding(FindingCode.SFORM_QFORM_MISMATCH, level, text))
    return findings


def join_form_findings(findings: list[Finding]) -> list[Finding]:
    """Join equal findings about sform and qform of several images into one.

    Args:
        findings: Findings about all images of a scan.

    Returns:
        The same findings in the same order; a joined finding names all its images.
    """
    names: dict[tuple[Level, str], list[str]] = {}
    for finding in findings:
        if finding.code is FindingCode.SFORM_QFORM_MISMATCH:
            name, _, text = finding.message.partition(": ")
            names.setdefault((finding.level, text), []).append(name)
    joined = []
    for finding in findings:
        key = finding.level, finding.message.partition(": ")[2]
        if finding.code is not FindingCode.SFORM_QFORM_MISMATCH:
            joined.append(finding)
        elif key in names:
            message = f"{', '.join(names.pop(key))}: {key[1]}"
            joined.append(Finding(finding.code, finding.level, message))
    return joined


def check_signal(name: str, data: Image) -> list[Finding]:
    """Check a magnitude image for invalid voxel values.

    Args:
        name: `DWI` or `b0`.
        data: (X, Y, Z) as read.

    Returns:
        Findings about values that were set to 0.

    Raises:
        ContentError: If the image is empty, constant, or has many negative values.
    """
    finite = np.isfinite(data)
    if not finite.any():
        raise ContentError(f"{name}: no voxel has a finite value; export the image again")
    values = data[finite]
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise ContentError(
            f"{name}: every voxel is {low:g}; the file holds no image: export it again"
        )
    negative = float((values < 0).mean())
    # Background is excluded; noise around zero is small compared with the signal.
    signed = values[values != 0]
    deep = float(np.percentile(signed, 5)) if negative > 0 else 0.0
    if (signed < 0).mean() > 0.2 and -deep > 0.03 * float(np.percentile(signed, 99)):
        raise ContentError(
            f"{name}: {(signed < 0).mean():.0%} of the non-zero voxels are negative, down to "
            f"{low:.4g}: the image was standardised (z-scored) or inverted, or it is a CT in "
            "Hounsfield units or a phase image; give the original magnitude image"
        )
    findings = []
    bad = int(data.size - values.size)
    if bad:
        text = f"{name}: {bad} voxels are not finite; they were set to 0"
        findings.append(Finding(FindingCode.NON_FINITE_VOXELS, "warning", text))
    if negative > 0:
        level: Level = "warning" if negative > 0.01 else "note"
        text = f"{name}: {int((values < 0).sum())} voxels are negative; they were set to 0"
        findings.append(Finding(FindingCode.NEGATIVE_VOXELS, level, text))
    return findings


def check_bvalue(bvalue: float) -> list[Finding]:
    """Check that a b-value gives enough diffusion weighting.

    Args:
        bvalue: s/mm^2.

    Returns:
        A warning if the b-value is unusual for stroke imaging.

    Raises:
        ContentError: If the b-value is below 50 s/mm^2 or not finite.
    """
    if not np.isfinite(bvalue) or bvalue < 50:
        raise ContentError(
            f"b = {bvalue:g} s/mm^2 gives no diffusion weighting; "
            "give the DWI with the highest b-value and its --bvalue (usually 1000)"
        )
    if not 500 <= bvalue <= 3500:
        text = f"b = {bvalue:g} s/mm^2 is unusual for stroke (500 to 3500); check --bvalue"
        return [Finding(FindingCode.BVALUE_UNUSUAL, "warning", text)]
    return []


def _mm(values: Affine) -> str:
    return " x ".join(f"{value:.3g}" for value in values)
