"""Checks of what came in and what was made of it: a note, a warning, or a refusal.

A note says what was decided for the user. A warning says why a result may be wrong. A refusal is an
exception. Nothing is guessed in silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from infarct.errors import ContentError, GeometryError
from infarct.grid import Affine, Grid
from infarct.intensity import TISSUE_ADC, Image, Mask, TissuePeak
from infarct.register import Registration
from infarct.volume import Volume, form_disagreement_mm, has_position

_ADC_UNITS = {1.0: "mm^2/s", 1e-3: "1e-3 mm^2/s", 1e-5: "1e-5 mm^2/s", 1e-6: "1e-6 mm^2/s"}

_MOST_HOLES = 0.001
"""Share of the brain; a ml and a half."""


@dataclass(frozen=True)
class Finding:
    """Something a reader of the result should know.

    Attributes:
        code: Stable, for machines: `adc-units`, `brain-cut`, ...
        level: `note` for a decision taken, `warning` for a reason to doubt the result.
        message: One sentence or two, for people.
    """

    code: str
    level: Literal["note", "warning"]
    message: str


def check_grid(name: str, volume: Volume) -> list[Finding]:
    """Check that the voxels could be those of a head.

    Args:
        name: What the image is (`DWI`, `b0`, `ADC`), for the messages.
        volume: As read.

    Raises:
        GeometryError: If the image is too thin, too small or too large to be a head.
    """
    findings = []
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
                "no-position",
                "warning",
                f"{name}: neither sform nor qform is set, so left and right cannot be known; "
                "voxel order right to left is not checked, the sides reported may be wrong",
            )
        )
    apart = form_disagreement_mm(volume)
    if apart > 1.0:
        findings.append(
            Finding(
                "forms-disagree",
                "warning",
                f"{name}: sform and qform place it up to {apart:.1f} mm apart; the sform was used",
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
    if low < -200 and negative > 0.2:
        raise ContentError(
            f"{name}: {negative:.0%} of voxels are negative, down to {low:.0f}; "
            "that is CT in Hounsfield units or a phase image, not diffusion MRI"
        )
    findings = []
    bad = int(data.size - values.size)
    if bad:
        text = f"{name}: {bad} voxels are not finite numbers; they were set to 0"
        findings.append(Finding("not-finite", "warning", text))
    if negative > 0:
        level: Literal["note", "warning"] = "warning" if negative > 0.01 else "note"
        text = f"{name}: {int((values < 0).sum())} voxels are negative; they were set to 0"
        findings.append(Finding("negative", level, text))
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
        return [Finding("bvalue-unusual", "warning", text)]
    return []


def adc_scale(adc: Image, brain: Mask) -> tuple[float, list[Finding]]:
    """Tell the unit of an ADC map from its median in the brain.

    Args:
        adc: (X, Y, Z) in an unknown unit.
        brain: (X, Y, Z).

    Returns:
        The factor that makes it mm^2/s, and what to tell the user.

    Raises:
        ContentError: If no known unit makes the brain's median that of a brain.
    """
    inside = adc[brain & np.isfinite(adc) & (adc > 0)]
    median = float(np.median(inside)) if inside.size else 0.0
    if inside.size and np.subtract(*np.percentile(inside, [75, 25])) < 1e-3 * median:
        raise ContentError(
            f"ADC: most of the brain has the very same value, {median:.4g}; "
            "this is a mask or an empty map, not an ADC map"
        )
    for scale, unit in _ADC_UNITS.items():
        # Wider than tissue: old brains hold much fluid. Units lie a factor 10 apart or more.
        if 0.45e-3 <= median * scale <= 1.9e-3:
            if scale == 1.0:
                return scale, []
            text = f"ADC: its median in the brain is {median:.4g}, so it was taken as {unit}"
            return scale, [Finding("adc-units", "note", text)]
    raise ContentError(
        f"ADC: its median in the brain is {median:.4g}; brain tissue has about 0.0008 mm^2/s "
        "(0.8 in 1e-3 mm^2/s, 800 in 1e-6 mm^2/s): is this the ADC map, in one of these units?"
    )


def check_holes(adc: Image, brain: Mask) -> list[Finding]:
    """Tell of voxels of the brain that have no ADC, where nothing else could give one.

    Args:
        adc: (X, Y, Z) mm^2/s, 0 where there is none.
        brain: (X, Y, Z).
    """
    share = float((adc[brain] == 0).mean()) if brain.any() else 0.0
    if share < _MOST_HOLES:
        return []
    text = (
        f"ADC: {share:.1%} of the brain has no value (0, or not finite) and counts as the lowest "
        "there is; give the b0, from which it can be computed, and look at the images"
    )
    return [Finding("adc-holes", "warning", text)]


def check_contrast(
    dwi: Image, b0: Image, adc: Image, brain: Mask, *, adc_given: bool
) -> list[Finding]:
    """Check that DWI, b0 and ADC belong together and are not swapped.

    Args:
        dwi: (X, Y, Z).
        b0: (X, Y, Z).
        adc: (X, Y, Z) mm^2/s.
        brain: (X, Y, Z).
        adc_given: Whether the ADC is a map of its own or was computed from the two signals.

    Raises:
        ContentError: If DWI and b0 are swapped, or the ADC is not that of a brain.
    """
    order = "exchange --dwi and --b0 if they are swapped"
    with_signal = brain & (dwi > 0) & (b0 > 0)
    brighter = float((dwi[with_signal] > b0[with_signal]).mean()) if with_signal.any() else 0.0
    if not adc_given and brighter > 0.5:
        raise ContentError(
            f"DWI and b0 look swapped: the image given as DWI is brighter in {brighter:.0%} of the "
            f"brain, so no ADC can be computed; {order}; if the two were scaled apart, give --adc"
        )
    if adc_given and _fluid_contrast(dwi, adc, brain) > 1.5 * _fluid_contrast(b0, adc, brain):
        raise ContentError(
            f"DWI and b0 look swapped: fluid shines on the image given as DWI; {order}"
        )
    measured = adc[brain & (adc != 0)]
    tissue = float(np.median(measured)) if measured.size else 0.0
    if not 0.3e-3 <= tissue <= 1.9e-3:
        raise ContentError(
            f"the median ADC in the brain is {tissue * 1e3:.2f}e-3 mm^2/s, that of a brain is "
            f".6 to 1.1: this may be a phantom, the b-value may be wrong, or two images are swapped"
        )
    if not 0.55e-3 <= tissue <= 1.35e-3:
        text = (
            f"the median ADC in the brain is {tissue * 1e3:.2f}e-3 mm^2/s (usual .6 to 1.1); "
            "check the b-value and that DWI, b0 and ADC are of one scan"
        )
        return [Finding("adc-unusual", "warning", text)]
    return []


def _fluid_contrast(image: Image, adc: Image, brain: Mask) -> float:
    """Return how much brighter fluid is than tissue; on a DWI it is darker. 1 if none is seen."""
    fluid = brain & (adc > 1.8e-3)
    tissue = brain & (adc > TISSUE_ADC[0]) & (adc < TISSUE_ADC[1])
    if min(fluid.sum(), tissue.sum()) < 100:
        return 1.0
    return float(image[fluid].mean() / max(float(image[tissue].mean()), 1e-12))


def check_agreement(dwi: Image, b0: Image, adc: Image, brain: Mask, bvalue: float) -> list[Finding]:
    """Check that a given ADC map agrees with the two signals and the b-value.

    Args:
        dwi: (X, Y, Z).
        b0: (X, Y, Z).
        adc: (X, Y, Z) mm^2/s, as given.
        brain: (X, Y, Z).
        bvalue: s/mm^2.
    """
    seen = brain & (dwi > 0) & (b0 > 0) & (adc > TISSUE_ADC[0]) & (adc < TISSUE_ADC[1])
    if seen.sum() < 100:
        return []
    findings = []
    attenuation = np.log(b0[seen] / dwi[seen])
    implied = float(np.median(attenuation / adc[seen]))
    if abs(implied - bvalue) > 0.25 * bvalue:
        text = (
            f"b0, DWI and ADC together imply b = {implied:.0f} s/mm^2, not {bvalue:.0f}; "
            "the signals may be scaled apart or the b-value wrong (the ADC map was trusted)"
        )
        findings.append(Finding("bvalue-disagrees", "warning", text))
    likeness = float(stats.spearmanr(attenuation, adc[seen]).statistic)
    if likeness < 0.4:
        text = (
            f"the ADC map does not follow from b0 and DWI (rank correlation {likeness:.2f}, usual "
            "above .8): it may be of another scan or out of place (the ADC map was trusted)"
        )
        findings.append(Finding("adc-disagrees", "warning", text))
    return findings


def check_brain(brain: Mask, grid: Grid, slice_axis: int, scanned: Mask) -> list[Finding]:
    """Check that there is a brain, and all of it.

    Args:
        brain: (X, Y, Z).
        grid: Its grid.
        slice_axis: Voxel axis along which slices are stacked.
        scanned: (X, Y, Z) where there is signal: a slab may be padded with empty slices.

    Raises:
        ContentError: If next to nothing was found.
    """
    ml = float(brain.sum()) * grid.voxel_ml
    if ml < 50:
        raise ContentError(
            f"only {ml:.0f} ml look like brain; a brain has 900 to 1900: "
            "look at the images, or give the brain with --brain"
        )
    findings = []
    if not 800 <= ml <= 2100:
        text = f"the brain mask holds {ml:.0f} ml (usual 900 to 1900); look at brain_mask.nii.gz"
        findings.append(Finding("brain-volume", "warning", text))
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
            findings.append(Finding("brain-cut", "warning", text))
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
        findings.append(Finding("registration-unusual", "warning", text))
    overlap = overlap_where_scanned(brain_mni, expected)
    if overlap < 0.75:
        text = (
            f"the brain overlaps the template's by Dice {overlap:.2f} only (usual .85 or more); "
            "places and sides reported may be wrong: look at mni/dwi.nii.gz"
        )
        findings.append(Finding("registration-poor", "warning", text))
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
    return [Finding("brain-by-threshold", "warning", text)]


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
            f"{name.lower()}-peak",
            "warning",
            f"{name}: the two-Gaussian fit of its histogram failed; median and spread stand in, "
            "so the contrast may be misjudged: look for artefacts or a wrong brain mask",
        )
        for name, peak in (("DWI", dwi), ("ADC", adc))
        if not peak.converged
    ]


def overlap_where_scanned(brain_mni: Mask, expected: Mask) -> float:
    """Return Dice of two brains over the MNI slices that the scan covers."""
    covered = brain_mni.any(axis=(0, 1))
    a, b = brain_mni[:, :, covered], expected[:, :, covered]
    return 2.0 * float((a & b).sum()) / max(float(a.sum() + b.sum()), 1.0)


def _mm(values: Affine) -> str:
    return " x ".join(f"{value:.3g}" for value in values)
