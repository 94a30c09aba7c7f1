"""Checks of the input images: geometry, signal, b-value."""

from __future__ import annotations

import numpy as np

from infarct.core.diffusion import Image
from infarct.core.errors import ContentError, GeometryError
from infarct.core.findings import Finding, FindingCode, Level
from infarct.core.geometry import Affine
from infarct.core.nifti import Volume, form_disagreement_mm, has_position


def check_grid(name: str, volume: Volume) -> list[Finding]:
    """Check that the voxels could be those of a head.

    Args:
        name: What the image is (`DWI`, `b0`, `ADC`), for the messages.
        volume: As read.

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
            f"{name}: {' x '.join(map(str, shape))} voxels are too few; "
            "a stack of at least 3 slices of a head is needed"
        )
    across = np.sort(extent)[1:]
    if spacing.max() > 15 or spacing.min() < 0.2 or across.min() < 100 or across.max() > 600:
        raise GeometryError(
            f"{name}: voxels of {_mm(spacing)} mm make an image of {_mm(extent)} mm; a head needs "
            "100 to 600 mm across and voxels of 0.2 to 15 mm: repair the header's voxel size"
        )
    if not has_position(volume):
        findings.append(
            Finding(
                FindingCode.NO_POSITION,
                "warning",
                f"{name}: neither sform nor qform is set, so left and right cannot be known; "
                "voxel order right to left is not checked, the sides reported may be wrong",
            )
        )
    apart = form_disagreement_mm(volume)
    if apart > 1.0:
        told = f"sform and qform place it up to {apart:.1f} mm apart"
        if np.isinf(apart):
            told = "its qform is damaged"
        findings.append(
            Finding(
                FindingCode.FORMS_DISAGREE,
                "warning",
                f"{name}: {told}; the sform was used",
            )
        )
    return findings


def check_signal(name: str, data: Image) -> list[Finding]:
    """Check a magnitude image for voxels that cannot be signal.

    Args:
        name: `DWI` or `b0`.
        data: (X, Y, Z) as read.

    Raises:
        ContentError: If it is empty, constant, or in Hounsfield units.
    """
    finite = np.isfinite(data)
    if not finite.any():
        raise ContentError(f"{name}: no voxel holds a finite number; export the image again")
    values = data[finite]
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise ContentError(f"{name}: every voxel is {low:g}; there is no image in this file")
    negative = float((values < 0).mean())
    # Of what is not background; noise about zero is small beside the signal.
    signed = values[values != 0]
    deep = float(np.percentile(signed, 5)) if negative > 0 else 0.0
    if (signed < 0).mean() > 0.2 and -deep > 0.03 * float(np.percentile(signed, 99)):
        raise ContentError(
            f"{name}: {(signed < 0).mean():.0%} of the voxels that are not 0 are negative, down to "
            f"{low:.4g}: it was standardised (z-scored), its sign was inverted, or it is CT in "
            "Hounsfield units or a phase image; give the magnitude image as the scanner made it"
        )
    findings = []
    bad = int(data.size - values.size)
    if bad:
        text = f"{name}: {bad} voxels are not finite numbers; they were set to 0"
        findings.append(Finding(FindingCode.NOT_FINITE, "warning", text))
    if negative > 0:
        level: Level = "warning" if negative > 0.01 else "note"
        text = f"{name}: {int((values < 0).sum())} voxels are negative; they were set to 0"
        findings.append(Finding(FindingCode.NEGATIVE, level, text))
    return findings


def check_bvalue(bvalue: float) -> list[Finding]:
    """Check that a b-value can show an infarct.

    Args:
        bvalue: s/mm^2.

    Raises:
        ContentError: If it is too small to weight for diffusion, or not a number.
    """
    if not np.isfinite(bvalue) or bvalue < 50:
        raise ContentError(
            f"b = {bvalue:g} s/mm^2 gives no diffusion weighting; "
            "give the DWI of the highest b-value and its --bvalue (mostly 1000)"
        )
    if not 500 <= bvalue <= 3500:
        text = f"b = {bvalue:g} s/mm^2 is unusual for stroke (500 to 3500); check the --bvalue"
        return [Finding(FindingCode.BVALUE_UNUSUAL, "warning", text)]
    return []


def _mm(values: Affine) -> str:
    return " x ".join(f"{value:.3g}" for value in values)
