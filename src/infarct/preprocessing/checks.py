"""Checks of the brain, the registration and the tissue peaks."""

from __future__ import annotations

import numpy as np

from infarct.core.diffusion import Mask
from infarct.core.errors import ContentError
from infarct.core.findings import Finding, FindingCode
from infarct.core.geometry import Grid
from infarct.core.normalisation import TissuePeak
from infarct.preprocessing.registration import Registration


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
