"""Where one side of the brain looks ischemic beside the other, beyond what was outlined.

A network judges places, and can outline a small part of an infarct that is large and faint, or none
of it. At the scale of centimetres such an infarct shows by the other side: brighter on DWI, darker
on ADC. This outlines nothing and changes no volume; it says when to look again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from infarct.core.diffusion import Image, Mask
from infarct.core.findings import Finding, FindingCode
from infarct.core.resampling import shrink

LARGE_ML = 15.0
"""Of one piece. On synthetic scans whose large infarct, if any, was outlined well it stays below
13 ml, on real ones without a lesion below 15: docs/decisions/how-sure.md."""

_STEP = 2
"""mm; the grid it is sought on."""

_SCALE_MM = 8.0
"""SD of the Gaussian that both images are smoothed by."""

_BRIGHTER, _DARKER = 0.10, 0.08
"""Log ratios to the other side: of DWI, and of ADC downwards."""

_TISSUE_ADC = (0.2e-3, 1.3e-3)
"""mm^2/s; what is above is mostly fluid, and unlike on both sides in any head."""

_NEAR_MM = 8.0
"""What lies so near the outline belongs to it: smoothing reaches that far."""


@dataclass(frozen=True)
class Asymmetry:
    """The largest piece of the brain that looks ischemic beside the other side, unless outlined.

    Attributes:
        volume_ml: Of it, in MNI space; a smoothed image knows it roughly.
        side: The patient's.
        beyond: Whether it lies beside an outline; else there is none at all.
    """

    volume_ml: float
    side: str
    beyond: bool = False


def asymmetry_beyond(dwi: Image, adc: Image, brain: Mask, outline: Mask) -> Asymmetry:
    """Compare both sides of a brain, beyond the outline.

    Args:
        dwi: (192, 224, 192) on the MNI grid, any unit.
        adc: Same shape, mm^2/s.
        brain: Same shape.
        outline: Same shape, what was outlined.
    """
    low, high = _TISSUE_ADC
    tissue = brain & (adc > low) & (adc < high)
    share = shrink(tissue, _STEP)
    weight = _smooth(share)

    def ratio(image: Image) -> Image:
        """Return the log ratio of the smoothed tissue to that of the other side."""
        mean = _smooth(shrink(np.where(tissue, image, 0), _STEP)) / np.maximum(weight, 0.2)
        logarithm = np.log(np.maximum(mean, np.finfo(np.float32).tiny))
        return np.asarray(logarithm - logarithm[::-1])

    seen = share > 0.5
    ischemic = (ratio(dwi) > _BRIGHTER) & (ratio(adc) < -_DARKER) & seen & seen[::-1]
    outlined = shrink(outline, _STEP) > 0
    if outlined.any():
        ischemic &= ndimage.distance_transform_edt(~outlined, sampling=_STEP) > _NEAR_MM
    labels, count = ndimage.label(ischemic)
    if not count:
        return Asymmetry(0.0, "", bool(outlined.any()))
    sizes = np.bincount(labels.ravel())[1:]
    x = ndimage.center_of_mass(labels == sizes.argmax() + 1)[0]
    # The grid is RAS+, its plane of symmetry in the middle.
    side = "right" if x > len(labels) / 2 else "left"
    return Asymmetry(float(sizes.max()) * _STEP**3 / 1000, side, bool(outlined.any()))


def asymmetry_findings(found: Asymmetry) -> list[Finding]:
    """Warn where a large part of one side looks ischemic and is not outlined."""
    if found.volume_ml < LARGE_ML:
        return []
    where, missed = (
        ("beyond the outline", "outlined in part only")
        if found.beyond
        else ("nothing is outlined, yet", "missed")
    )
    text = (
        f"{where} a part of the {found.side} side, roughly {found.volume_ml:.0f} ml in smoothed "
        f"images, is brighter on DWI and darker on ADC than the other side: a large, faint infarct "
        f"may be {missed}, and no interval of the volume knows of it; look at the images before "
        "using a number"
    )
    return [Finding(FindingCode.ASYMMETRY, "warning", text)]


def _smooth(image: Image) -> Image:
    return np.asarray(ndimage.gaussian_filter(image, _SCALE_MM / _STEP))
