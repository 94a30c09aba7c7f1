"""Detect large left-right asymmetries outside the lesion mask.

A network can miss all or most of a large, faint infarct. In strongly smoothed images such an
infarct is brighter on DWI and darker on ADC than the opposite hemisphere. This check only issues a
warning; it changes neither the lesion mask nor any volume.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from infarct.core.diffusion import BRAIN_ADC, Image, Mask
from infarct.core.findings import Finding, FindingCode

LARGE_ML = 15.0
"""Volume of one asymmetric region above which a warning is issued. Regions stay below 13 ml on
synthetic scans whose lesion mask is accurate, and below 15 ml on real lesion-free scans; see
docs/explanation/decisions/0018-confidence.md."""

_STEP = 2
"""Pixel size within a slice at which asymmetry is computed, mm."""

_SCALE_MM = 8.0
"""SD of the Gaussian smoothing kernel, mm."""

_BRIGHTER, _DARKER = 0.10, 0.08
"""Thresholds on the log ratio to the other side: DWI above, and ADC below (negated)."""

_NEAR_MM = 8.0
"""Distance from the lesion mask within which asymmetry is attributed to the lesion (smoothing)."""


@dataclass(frozen=True)
class Asymmetry:
    """The largest region outside the lesion mask that looks ischemic relative to the other side.

    Attributes:
        volume_ml: Approximate volume in MNI space, ml; 0 if there is no such region.
        side: The patient's side, `left` or `right`; empty if there is no such region.
        beyond: Whether the lesion mask contains any voxels.
    """

    volume_ml: float
    side: str
    beyond: bool = False


def asymmetry_beyond(
    dwi: Image, adc: Image, brain: Mask, outline: Mask, spacing_mm: float
) -> Asymmetry:
    """Compare the two hemispheres outside the lesion mask.

    Args:
        dwi: (192, 224, K) on the measured slices in MNI space, any unit. Columns lie 1 mm apart,
            symmetrically about the midsagittal plane, so that reversing the x axis mirrors the
            head.
        adc: Same shape, mm^2/s.
        brain: Same shape, bool.
        outline: Same shape, bool, lesion mask.
        spacing_mm: Distance between slices.

    Returns:
        The largest asymmetric region.
    """
    low, high = BRAIN_ADC
    tissue = brain & (adc > low) & (adc < high)
    share = _shrink(tissue)
    weight = _smooth(share, spacing_mm)

    def ratio(image: Image) -> Image:
        """Return the log ratio of the smoothed tissue signal to that of the other side."""
        inside = _smooth(_shrink(np.where(tissue, image, 0)), spacing_mm)
        mean = inside / np.maximum(weight, 0.2)
        logarithm = np.log(np.maximum(mean, np.finfo(np.float32).tiny))
        return np.asarray(logarithm - logarithm[::-1])

    valid = share > 0.5
    ischemic = (ratio(dwi) > _BRIGHTER) & (ratio(adc) < -_DARKER) & valid & valid[::-1]
    lesion = _shrink(outline) > 0
    if lesion.any():
        sampling = (_STEP, _STEP, spacing_mm)
        ischemic &= ndimage.distance_transform_edt(~lesion, sampling=sampling) > _NEAR_MM
    labels, count = ndimage.label(ischemic)
    if not count:
        return Asymmetry(0.0, "", bool(lesion.any()))
    sizes = np.bincount(labels.ravel())[1:]
    x = ndimage.center_of_mass(labels == sizes.argmax() + 1)[0]
    # The grid is RAS+, with the plane of symmetry in the middle.
    side = "right" if x > (len(labels) - 1) / 2 else "left"
    volume_ml = float(sizes.max()) * _STEP**2 * spacing_mm / 1000
    return Asymmetry(volume_ml, side, bool(lesion.any()))


def asymmetry_findings(found: Asymmetry) -> list[Finding]:
    """Warn if a large region of one side looks ischemic but is not segmented."""
    if found.volume_ml < LARGE_ML:
        return []
    where, error = (
        ("outside the lesion mask,", "may be segmented only in part")
        if found.beyond
        else ("no lesion was segmented, but", "may have been missed")
    )
    text = (
        f"{where} a region of roughly {found.volume_ml:.0f} ml (in smoothed images) on the "
        f"{found.side} side is brighter on DWI and darker on ADC than the other side: a large, "
        f"faint infarct {error}, and the volume interval does not account for it; review the "
        "images before using any number"
    )
    return [Finding(FindingCode.ASYMMETRY, "warning", text)]


def _shrink(image: Image | Mask) -> Image:
    """Average blocks of `_STEP` x `_STEP` pixels within each slice."""
    x, y, z = image.shape
    blocks = image.reshape(x // _STEP, _STEP, y // _STEP, _STEP, z)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32))


def _smooth(image: Image, spacing_mm: float) -> Image:
    sigma = (_SCALE_MM / _STEP, _SCALE_MM / _STEP, _SCALE_MM / spacing_mm)
    return np.asarray(ndimage.gaussian_filter(image, sigma))
