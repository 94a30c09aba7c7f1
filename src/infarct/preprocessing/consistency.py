"""Checks that DWI, b0 and ADC are what they are said to be, and belong together."""

from __future__ import annotations

import numpy as np
from scipy import stats

from infarct.core.diffusion import TISSUE_ADC, Image, Mask
from infarct.core.errors import ContentError
from infarct.core.findings import Finding, FindingCode

_ADC_UNITS = {1.0: "mm^2/s", 1e-3: "1e-3 mm^2/s", 1e-5: "1e-5 mm^2/s", 1e-6: "1e-6 mm^2/s"}

_MOST_HOLES, _MOST_BELOW = 0.001, 0.01
"""Share of the brain without a number, a ml and a half, and with those of a negative one: noise at
its rim gives up to .0008 of them in real scans."""

_FLUID_SHINES = 1.2
"""Signal of fluid over that of tissue: .07 to .6 on the DWI of seven real scans at b = 928 to 2500
s/mm^2, 1.4 to 2.9 on their b0."""

_SAME_IMAGE = 1e-3
"""Logarithm of b0 over DWI; of tissue at b = 500 s/mm^2 it is .4."""


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
            return scale, [Finding(FindingCode.ADC_UNITS, "note", text)]
    raise ContentError(
        f"ADC: its median in the brain is {median:.4g}; brain tissue has about 0.0008 mm^2/s "
        "(0.8 in 1e-3 mm^2/s, 800 in 1e-6 mm^2/s): is this the ADC map, in one of these units?"
    )


def check_holes(adc: Image, brain: Mask) -> list[Finding]:
    """Tell of voxels of the brain that have no ADC, where nothing else could give one.

    Args:
        adc: (X, Y, Z) mm^2/s, 0 or negative where there is none.
        brain: (X, Y, Z).
    """
    inside = adc[brain] if brain.any() else np.ones(1)
    share = float((inside <= 0).mean())
    if float((inside == 0).mean()) < _MOST_HOLES and share < _MOST_BELOW:
        return []
    text = (
        f"ADC: {share:.1%} of the brain has no value (0, negative or not finite) and counts as the "
        "lowest there is; give the b0, from which it can be computed, and look at the images"
    )
    return [Finding(FindingCode.ADC_HOLES, "warning", text)]


def check_weighting(dwi: Image, adc: Image, brain: Mask) -> None:
    """Check that an image is weighted for diffusion, where there is no b0 to compare it with.

    Args:
        dwi: (X, Y, Z).
        adc: (X, Y, Z) mm^2/s, as given.
        brain: (X, Y, Z).

    Raises:
        ContentError: If fluid shines on it.
    """
    brighter = _fluid_contrast(dwi, adc, brain)
    if brighter > _FLUID_SHINES:
        raise ContentError(
            f"fluid is {brighter:.1f} times as bright as tissue on the image given as DWI, and it "
            "is dark on any DWI: is it the b0? give the image of b = 1000 s/mm^2 or so as --dwi"
        )


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
    measured = adc[brain & (adc > 0)]
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
        return [Finding(FindingCode.ADC_UNUSUAL, "warning", text)]
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

    Raises:
        ContentError: If both signals are the same image.
    """
    seen = brain & (dwi > 0) & (b0 > 0) & (adc > TISSUE_ADC[0]) & (adc < TISSUE_ADC[1])
    if seen.sum() < 100:
        return []
    findings = []
    attenuation = np.log(b0[seen] / dwi[seen])
    if np.median(np.abs(attenuation)) < _SAME_IMAGE:
        raise ContentError(
            "DWI and b0 are one and the same image; give the b0, that without diffusion weighting, "
            "as --b0"
        )
    implied = float(np.median(attenuation / adc[seen]))
    if abs(implied - bvalue) > 0.25 * bvalue:
        text = (
            f"b0, DWI and ADC together imply b = {implied:.0f} s/mm^2, not {bvalue:.0f}; "
            "the signals may be scaled apart or the b-value wrong (the ADC map was trusted)"
        )
        findings.append(Finding(FindingCode.BVALUE_DISAGREES, "warning", text))
    if np.ptp(attenuation) <= _SAME_IMAGE:
        return findings  # one image made of the other: the b-value above cannot be right either
    likeness = float(stats.spearmanr(attenuation, adc[seen]).statistic)
    if likeness < 0.4:
        text = (
            f"the ADC map does not follow from b0 and DWI (rank correlation {likeness:.2f}, usual "
            "above .8): it may be of another scan or out of place (the ADC map was trusted)"
        )
        findings.append(Finding(FindingCode.ADC_DISAGREES, "warning", text))
    return findings
