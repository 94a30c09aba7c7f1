"""Checks that DWI, b0 and ADC have the stated type and belong together."""

from __future__ import annotations

import numpy as np
from scipy import stats

from infarct.core.diffusion import TISSUE_ADC, Image, Mask
from infarct.core.errors import ContentError
from infarct.core.findings import Finding, FindingCode

_ADC_UNITS = {1.0: "mm^2/s", 1e-3: "1e-3 mm^2/s", 1e-5: "1e-5 mm^2/s", 1e-6: "1e-6 mm^2/s"}

_MOST_HOLES, _MOST_BELOW = 0.001, 0.01
"""Largest share of the brain with ADC 0 (about 1.5 ml), and with ADC 0 or negative. Noise at the
rim of the brain causes up to 0.0008 in real scans."""

_FLUID_SHINES = 1.2
"""Ratio of fluid to tissue signal: 0.07 to 0.6 on the DWI of seven real scans at b = 928 to 2500
s/mm^2, 1.4 to 2.9 on their b0."""

_SAME_IMAGE = 1e-3
"""Largest ln(b0 / DWI) of identical images; in tissue at b = 500 s/mm^2 it is 0.4."""


def adc_scale(adc: Image, brain: Mask) -> tuple[float, list[Finding]]:
    """Determine the unit of an ADC map from its median in the brain.

    Args:
        adc: (X, Y, Z) in an unknown unit.
        brain: (X, Y, Z) brain mask.

    Returns:
        Factor that converts the map to mm^2/s, and a note if the map is in another unit.

    Raises:
        ContentError: If the median is implausible in every known unit, or the map is constant.
    """
    inside = adc[brain & np.isfinite(adc) & (adc > 0)]
    median = float(np.median(inside)) if inside.size else 0.0
    if inside.size and np.subtract(*np.percentile(inside, [75, 25])) < 1e-3 * median:
        raise ContentError(
            f"ADC: most of the brain has the same value, {median:.4g}; "
            "this is a mask or an empty map, not an ADC map: give the ADC map as --adc"
        )
    for scale, unit in _ADC_UNITS.items():
        # Wider than the tissue range: atrophic brains contain much fluid. Units differ by a factor
        # of 10 or more.
        if 0.45e-3 <= median * scale <= 1.9e-3:
            if scale == 1.0:
                return scale, []
            text = f"ADC: the median in the brain is {median:.4g}; the unit is assumed to be {unit}"
            return scale, [Finding(FindingCode.ADC_UNIT_CONVERTED, "note", text)]
    raise ContentError(
        f"ADC: the median in the brain is {median:.4g}; brain tissue has about 0.0008 mm^2/s "
        "(0.8 in 1e-3 mm^2/s, 800 in 1e-6 mm^2/s): check that this is the ADC map and convert it "
        "to one of these units"
    )


def check_holes(adc: Image, brain: Mask) -> list[Finding]:
    """Report voxels of the brain without a valid ADC, for scans without a b0 to compute it from.

    Args:
        adc: (X, Y, Z) mm^2/s, 0 or negative where invalid.
        brain: (X, Y, Z) brain mask.
    """
    inside = adc[brain] if brain.any() else np.ones(1)
    share = float((inside <= 0).mean())
    if float((inside == 0).mean()) < _MOST_HOLES and share < _MOST_BELOW:
        return []
    text = (
        f"ADC: {share:.1%} of the brain has no valid value (0, negative or not finite), which is "
        "treated as very low ADC; give the b0, to compute the ADC from, and check the images"
    )
    return [Finding(FindingCode.ADC_MISSING, "warning", text)]


def check_weighting(dwi: Image, adc: Image, brain: Mask) -> None:
    """Check that an image is diffusion-weighted when there is no b0 to compare it with.

    Args:
        dwi: (X, Y, Z).
        adc: (X, Y, Z) mm^2/s, as given.
        brain: (X, Y, Z) brain mask.

    Raises:
        ContentError: If fluid is bright on the image.
    """
    brighter = _fluid_contrast(dwi, adc, brain)
    if brighter > _FLUID_SHINES:
        raise ContentError(
            f"fluid is {brighter:.1f} times as bright as tissue on the image given as DWI, but "
            "fluid is dark on a DWI; the image may be the b0: give the image with b = 1000 s/mm^2 "
            "or similar as --dwi"
        )


def check_contrast(
    dwi: Image, b0: Image, adc: Image, brain: Mask, *, adc_given: bool
) -> list[Finding]:
    """Check that DWI, b0 and ADC belong together and are not swapped.

    Args:
        dwi: (X, Y, Z).
        b0: (X, Y, Z).
        adc: (X, Y, Z) mm^2/s.
        brain: (X, Y, Z) brain mask.
        adc_given: Whether the ADC map was an input; otherwise it was computed from DWI and b0.

    Returns:
        A warning if the median ADC is unusual.

    Raises:
        ContentError: If DWI and b0 are swapped, or the median ADC is implausible.
    """
    order = "swap --dwi and --b0"
    with_signal = brain & (dwi > 0) & (b0 > 0)
    brighter = float((dwi[with_signal] > b0[with_signal]).mean()) if with_signal.any() else 0.0
    if not adc_given and brighter > 0.5:
        raise ContentError(
            f"DWI and b0 appear to be swapped: the image given as DWI is brighter in "
            f"{brighter:.0%} of the brain, so the ADC cannot be computed; {order}, or give --adc "
            "if the two images were scaled differently"
        )
    if adc_given and _fluid_contrast(dwi, adc, brain) > 1.5 * _fluid_contrast(b0, adc, brain):
        raise ContentError(
            f"DWI and b0 appear to be swapped: fluid is bright on the image given as DWI; {order}"
        )
    measured = adc[brain & (adc > 0)]
    tissue = float(np.median(measured)) if measured.size else 0.0
    if not 0.3e-3 <= tissue <= 1.9e-3:
        raise ContentError(
            f"the median ADC in the brain is {tissue * 1e3:.2f}e-3 mm^2/s (normally 0.6 to 1.1): "
            "check that this is a head and not a phantom, that the b-value is correct, and that no "
            "images are swapped"
        )
    if not 0.55e-3 <= tissue <= 1.35e-3:
        text = (
            f"the median ADC in the brain is {tissue * 1e3:.2f}e-3 mm^2/s (normally 0.6 to 1.1); "
            "check the b-value and that DWI, b0 and ADC come from the same scan"
        )
        return [Finding(FindingCode.ADC_UNUSUAL, "warning", text)]
    return []


def _fluid_contrast(image: Image, adc: Image, brain: Mask) -> float:
    """Return the ratio of fluid to tissue signal; below 1 on a DWI. 1 if it is unknown."""
    fluid = brain & (adc > 1.8e-3)
    tissue = brain & (adc > TISSUE_ADC[0]) & (adc < TISSUE_ADC[1])
    if min(fluid.sum(), tissue.sum()) < 100:
        return 1.0
    return float(image[fluid].mean() / max(float(image[tissue].mean()), 1e-12))


def check_agreement(dwi: Image, b0: Image, adc: Image, brain: Mask, bvalue: float) -> list[Finding]:
    """Check that a given ADC map agrees with DWI, b0 and the b-value.

    Args:
        dwi: (X, Y, Z).
        b0: (X, Y, Z).
        adc: (X, Y, Z) mm^2/s, as given.
        brain: (X, Y, Z) brain mask.
        bvalue: s/mm^2.

    Returns:
        Warnings about disagreements.

    Raises:
        ContentError: If DWI and b0 are the same image.
    """
    seen = brain & (dwi > 0) & (b0 > 0) & (adc > TISSUE_ADC[0]) & (adc < TISSUE_ADC[1])
    if seen.sum() < 100:
        return []
    findings = []
    attenuation = np.log(b0[seen] / dwi[seen])
    if np.median(np.abs(attenuation)) < _SAME_IMAGE:
        raise ContentError(
            "DWI and b0 are the same image; give the image without diffusion weighting as --b0"
        )
    implied = float(np.median(attenuation / adc[seen]))
    if abs(implied - bvalue) > 0.25 * bvalue:
        text = (
            f"b0, DWI and ADC together imply b = {implied:.0f} s/mm^2, not {bvalue:.0f}; DWI and "
            "b0 may be scaled differently, or the b-value may be wrong (the ADC map was used)"
        )
        findings.append(Finding(FindingCode.BVALUE_INCONSISTENT, "warning", text))
    if np.ptp(attenuation) <= _SAME_IMAGE:
        return findings  # one image is a multiple of the other: ranks are meaningless
    likeness = float(stats.spearmanr(attenuation, adc[seen]).statistic)
    if likeness < 0.4:
        text = (
            f"the ADC map does not match b0 and DWI (rank correlation {likeness:.2f}, normally "
            "above 0.8): it may come from another scan or be misaligned (the ADC map was used)"
        )
        findings.append(Finding(FindingCode.ADC_INCONSISTENT, "warning", text))
    return findings
