"""Checks of the brain mask, the registration and the tissue peaks."""

from __future__ import annotations

import numpy as np

from infarct.core.diffusion import Mask
from infarct.core.errors import ContentError
from infarct.core.findings import Finding, FindingCode
from infarct.core.geometry import Grid
from infarct.core.normalisation import TissuePeak
from infarct.preprocessing.registration import Registration


def check_brain_is_found(brain: Mask, grid: Grid) -> None:
    """Reject a scan in which almost no brain was found.

    Args:
        brain: (X, Y, Z) brain mask.
        grid: Grid of the mask.

    Raises:
        ContentError: If the brain mask is smaller than 50 ml.
    """
    ml = float(brain.sum()) * grid.voxel_ml
    if ml < 50:
        raise ContentError(
            f"the brain mask holds only {ml:.0f} ml (normally 900 to 1900 ml): "
            "check the images, or provide a brain mask with --brain"
        )


def check_brain(brain: Mask, grid: Grid, slice_axis: int, scanned: Mask) -> list[Finding]:
    """Check that the brain has a plausible size and was scanned completely.

    Args:
        brain: (X, Y, Z) brain mask used for the measurements.
        grid: Grid of the mask.
        slice_axis: Voxel axis along which slices are stacked.
        scanned: (X, Y, Z) voxels with signal; a slab may be padded with empty slices.
    """
    ml = float(brain.sum()) * grid.voxel_ml
    findings = []
    if not 800 <= ml <= 2100:
        text = f"the brain mask holds {ml:.0f} ml (normally 900 to 1900); check brain_mask.nii.gz"
        findings.append(Finding(FindingCode.BRAIN_VOLUME_UNUSUAL, "warning", text))
    for axis in range(3):
        area = brain.sum(axis=tuple(a for a in range(3) if a != axis))
        along_slices = axis == slice_axis
        if along_slices:
            slices = np.flatnonzero(scanned.any(axis=tuple(a for a in range(3) if a != axis)))
            area = area[slices[0] : slices[-1] + 1]
        # Along the slices, a slab may end in the middle of the brain; within a slice, the head
        # either fits or is cut off at its rim.
        most = (0.25 if along_slices else 0.1) * area.max()
        cut = [end for end, n in (("first", area[0]), ("last", area[-1])) if n > most]
        if cut:
            place = "slice" if along_slices else f"row of voxels along axis {axis + 1}"
            text = (
                f"the brain is cut off at the {' and the '.join(cut)} {place}: "
                "part of the brain was not scanned, and the volume is a lower bound"
            )
            findings.append(Finding(FindingCode.BRAIN_CROPPED, "warning", text))
    return findings


def check_registration(
    registration: Registration, brain_mni: Mask, expected: Mask
) -> list[Finding]:
    """Check that the head is aligned with the template.

    Args:
        registration: The registration found.
        brain_mni: (192, 224, 192) brain mask of the scan in MNI space.
        expected: Same shape, brain mask of the template.
    """
    findings = []
    sx, sy = registration.in_plane.scale
    turned = abs(np.degrees(registration.in_plane.rotation))
    if min(sx, sy) < 0.75 or max(sx, sy) > 1.35 or turned > 30:
        text = (
            f"the head was scaled by {sx:.2f} x {sy:.2f} and rotated by {turned:.0f} degrees to "
            "fit the template, which is unusual: check that the images in mni/ are upright"
        )
        findings.append(Finding(FindingCode.REGISTRATION_UNUSUAL, "warning", text))
    overlap = overlap_where_scanned(brain_mni, expected)
    if overlap < 0.75:
        text = (
            f"the brain overlaps the template with Dice {overlap:.2f} only (normally 0.85 or "
            "more); the reported locations and sides may be wrong: check mni/dwi.nii.gz"
        )
        findings.append(Finding(FindingCode.REGISTRATION_POOR, "warning", text))
    return findings


def check_network_brain(sought: Mask, by_threshold: Mask, expected: Mask) -> list[Finding]:
    """Check whether the brain mask of the network is plausible.

    Args:
        sought: (192, 224, 192) brain mask of the network.
        by_threshold: Same shape, threshold mask it would replace.
        expected: Same shape, brain mask of the template.

    Returns:
        A warning if the threshold mask must be used instead; empty otherwise.
    """
    # Sulci and individual head shape limit the overlap to about 0.85 even for a perfect mask.
    fits, fitted = (overlap_where_scanned(mask, expected) for mask in (sought, by_threshold))
    if sought.any() and fits > 0.75 and fits > fitted - 0.05:
        return []
    text = (
        f"the brain mask of the network overlaps the template with Dice {fits:.2f}, the threshold "
        f"mask with {fitted:.2f}; the threshold mask was used: check brain_mask.nii.gz"
    )
    return [Finding(FindingCode.BRAIN_BY_THRESHOLD, "warning", text)]


def check_brain_is_left(brain_mni: Mask) -> None:
    """Reject a scan with almost no brain left after registration.

    Args:
        brain_mni: (192, 224, 192) brain mask in MNI space, 1 mm.

    Raises:
        ContentError: If less than 50 ml are left.
    """
    ml = float(brain_mni.sum()) / 1000.0
    if ml < 50:
        raise ContentError(
            f"only {ml:.0f} ml of the brain mask lie within the brain of the template; check that "
            "this is an axial scan of a head, and provide a brain mask with --brain"
        )


def check_peaks(dwi: TissuePeak, adc: TissuePeak) -> list[Finding]:
    """Report histograms of DWI or ADC without a clear tissue peak."""
    return [
        Finding(
            code,
            "warning",
            f"{name}: the two-Gaussian fit of the histogram failed; median and MAD were used "
            "instead, so the normalisation may be off: check for artefacts or a wrong brain mask",
        )
        for name, code, peak in (
            ("DWI", FindingCode.DWI_PEAK_FIT_FAILED, dwi),
            ("ADC", FindingCode.ADC_PEAK_FIT_FAILED, adc),
        )
        if not peak.converged
    ]


def overlap_where_scanned(brain_mni: Mask, expected: Mask) -> float:
    """Return the Dice coefficient of two brain masks over the MNI slices that the scan covers."""
    covered = brain_mni.any(axis=(0, 1))
    a, b = brain_mni[:, :, covered], expected[:, :, covered]
    return 2.0 * float((a & b).sum()) / max(float(a.sum() + b.sum()), 1.0)
