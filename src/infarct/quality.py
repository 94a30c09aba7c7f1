"""Checks of what came in and what was made of it: a note, a warning, or a refusal.

A note says what was decided for the user. A warning says why a result may be wrong. A refusal is an
exception. Nothing is guessed in silence.
"""

from __future__ import annotations

import numpy as np

from infarct.errors import ContentError, GeometryError
from infarct.findings import Finding, FindingCode, Level
from infarct.grid import Affine, Grid
from infarct.intensity import Image, Mask, TissuePeak
from infarct.register import Registration
from infarct.volume import Volume, form_disagreement_mm, has_position


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


def check_brain_is_found(brain: Mask, grid: Grid) -> None:
    """Refuse a scan on which next to nothing looks like brain.

    Args:
        brain: (X, Y, Z).
        grid: Its grid.

    Raises:
        ContentError: If it is less than 50 ml.
    """
    ml = float(brain.sum()) * grid.voxel_ml
    if ml < 50:
        raise ContentError(
            f"only {ml:.0f} ml look like brain; a brain has 900 to 1900: "
            "look at the images, or give the brain with --brain"
        )


def check_brain(brain: Mask, grid: Grid, slice_axis: int, scanned: Mask) -> list[Finding]:
    """Check that the brain has the size of one, and that all of it was scanned.

    Args:
        brain: (X, Y, Z), the one that is measured in.
        grid: Its grid.
        slice_axis: Voxel axis along which slices are stacked.
        scanned: (X, Y, Z) where there is signal: a slab may be padded with empty slices.
    """
    ml = float(brain.sum()) * grid.voxel_ml
    findings = []
    if not 800 <= ml <= 2100:
        text = f"the brain mask holds {ml:.0f} ml (usual 900 to 1900); look at brain_mask.nii.gz"
        findings.append(Finding(FindingCode.BRAIN_VOLUME, "warning", text))
    for axis in range(3):
        area = brain.sum(axis=tuple(a for a in range(3) if a != axis))
        along_slices = axis == slice_axis
        if along_slices:
            slices = np.flatnonzero(scanned.any(axis=tuple(a for a in range(3) if a != axis)))
            area = area[slices[0] : slices[-1] + 1]
        # A slab ends in the middle of the brain; across, the head just about fits or does not.
        most = (0.25 if along_slices else 0.1) * area.max()
        cut = [end for end, n in (("first", area[0]), ("last", area[-1])) if n > most]
        if cut:
            place = "slice" if along_slices else f"row of voxels along axis {axis + 1}"
            text = (
                f"the brain is cut off at the {' and the '.join(cut)} {place}: "
                "what lies beyond was not scanned, and the volume is a lower bound"
            )
            findings.append(Finding(FindingCode.BRAIN_CUT, "warning", text))
    return findings


def check_registration(
    registration: Registration, brain_mni: Mask, expected: Mask
) -> list[Finding]:
    """Check that the head sits on the template.

    Args:
        registration: What was found.
        brain_mni: (192, 224, 192) brain of the scan in MNI.
        expected: Same shape, brain of the template.
    """
    findings = []
    sx, sy = registration.in_plane.scale
    turned = abs(np.degrees(registration.in_plane.rotation))
    if min(sx, sy) < 0.75 or max(sx, sy) > 1.35 or turned > 30:
        text = (
            f"the head was scaled by {sx:.2f} x {sy:.2f} and turned by {turned:.0f} degrees to fit "
            "the template; that is unusual: check that the images in mni/ look straight"
        )
        findings.append(Finding(FindingCode.REGISTRATION_UNUSUAL, "warning", text))
    overlap = overlap_where_scanned(brain_mni, expected)
    if overlap < 0.75:
        text = (
            f"the brain overlaps the template's by Dice {overlap:.2f} only (usual .85 or more); "
            "places and sides reported may be wrong: look at mni/dwi.nii.gz"
        )
        findings.append(Finding(FindingCode.REGISTRATION_POOR, "warning", text))
    return findings


def check_network_brain(sought: Mask, by_threshold: Mask, expected: Mask) -> list[Finding]:
    """Tell when the network's brain cannot be one, so that thresholds must stand in.

    Args:
        sought: (192, 224, 192) as the network outlines it.
        by_threshold: Same shape, the outline it would replace.
        expected: Same shape, brain of the template.

    Returns:
        Nothing if it can be trusted.
    """
    # The template's sulci and the head's own shape leave .85 or so to the best of outlines.
    fits, fitted = (overlap_where_scanned(mask, expected) for mask in (sought, by_threshold))
    if sought.any() and fits > 0.75 and fits > fitted - 0.05:
        return []
    text = (
        f"the network's brain fits the template by Dice {fits:.2f}, the one found by thresholds by "
        f"{fitted:.2f}; thresholds were used: look at brain_mask.nii.gz"
    )
    return [Finding(FindingCode.BRAIN_BY_THRESHOLD, "warning", text)]


def check_brain_is_left(brain_mni: Mask) -> None:
    """Refuse a scan of which next to nothing reached the template.

    Args:
        brain_mni: (192, 224, 192), 1 mm.

    Raises:
        ContentError: If less than 50 ml are left.
    """
    ml = float(brain_mni.sum()) / 1000.0
    if ml < 50:
        raise ContentError(
            f"only {ml:.0f} ml of what looked like brain lie where a brain should be; "
            "look at the images: is this an axial scan of a head? if so, give --brain"
        )


def check_peaks(dwi: TissuePeak, adc: TissuePeak) -> list[Finding]:
    """Tell when the histogram of DWI or ADC had no clear tissue peak."""
    return [
        Finding(
            code,
            "warning",
            f"{name}: the two-Gaussian fit of its histogram failed; median and spread stand in, "
            "so the contrast may be misjudged: look for artefacts or a wrong brain mask",
        )
        for name, code, peak in (
            ("DWI", FindingCode.DWI_PEAK, dwi),
            ("ADC", FindingCode.ADC_PEAK, adc),
        )
        if not peak.converged
    ]


def overlap_where_scanned(brain_mni: Mask, expected: Mask) -> float:
    """Return Dice of two brains over the MNI slices that the scan covers."""
    covered = brain_mni.any(axis=(0, 1))
    a, b = brain_mni[:, :, covered], expected[:, :, covered]
    return 2.0 * float((a & b).sum()) / max(float(a.sum() + b.sum()), 1.0)


def _mm(values: Affine) -> str:
    return " x ".join(f"{value:.3g}" for value in values)
