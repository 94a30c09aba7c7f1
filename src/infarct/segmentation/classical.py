"""The two methods without trained weights: t-score and the modified c-fuzzy (IS) map.

Both compare a scan voxel by voxel on the MNI grid with lesion-free control brains.

References:
    Liu et al. 2021, Methods, "Lesion segmentation with unsupervised methods", Eq. 2-5.
    Nazari-Farsani et al. 2020 (t-score); Guo et al. 2015 (c-fuzzy).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from infarct.core.diffusion import Image, Mask
from infarct.core.normalisation import zscore

Voxels = Mask | tuple[slice, ...]
"""A mask or a box."""

SIGMA_PER_FWHM = 1.0 / math.sqrt(8.0 * math.log(2.0))


@dataclass(frozen=True, eq=False)
class Healthy:
    """Voxelwise mean and SD of lesion-free brains on the MNI grid, normalised to the tissue peak.

    Attributes:
        dwi_mean: (192, 224, 192) mean DWI in tissue-peak units, see `normalisation.normalise`.
        dwi_sd: SD of the DWI, same shape and units.
        adc_mean: Mean ADC, same shape, normalised to its own tissue peak.
        adc_sd: SD of the ADC, same shape and units.
        n: Number of brains.
    """

    dwi_mean: Image
    dwi_sd: Image
    adc_mean: Image
    adc_sd: Image
    n: int

    def at(self, voxels: Voxels) -> Healthy:
        """Return the statistics of the selected voxels or box."""
        return Healthy(
            self.dwi_mean[voxels],
            self.dwi_sd[voxels],
            self.adc_mean[voxels],
            self.adc_sd[voxels],
            self.n,
        )


@dataclass(frozen=True)
class FuzzySettings:
    """Settings of the modified c-fuzzy map; the defaults are the best settings of the paper.

    Attributes:
        fwhm: FWHM of the in-plane smoothing, voxels of 1 mm.
        alpha_dwi: Scale of the DWI membership in control SD; larger values are less sensitive.
        lambda_dwi: Exponent of the DWI membership.
        alpha_adc: Scale of the ADC membership in control SD.
        lambda_adc: Exponent of the ADC membership.
        sigma_id: Minimum z-score of the DWI within the individual brain; voxels below are not
            ischemic.
    """

    fwhm: float = 2.0
    alpha_dwi: float = 1.5
    lambda_dwi: float = 4.0
    alpha_adc: float = 0.5
    lambda_adc: float = 2.0
    sigma_id: float = 2.0


@dataclass(frozen=True)
class TScoreSettings:
    """Settings of the t-score method; the defaults are the best settings of the paper.

    Attributes:
        fwhm: FWHM of the in-plane smoothing, voxels of 1 mm.
        sigma_dwi: Threshold on the t-score of the DWI; lesions are above.
        sigma_adc: Threshold on the negative t-score of the ADC; lesions are above.
        sigma_id: Threshold on the z-score of the DWI within the individual brain.
    """

    fwhm: float = 4.0
    sigma_dwi: float = 2.0
    sigma_adc: float = 1.0
    sigma_id: float = 3.5


def smooth_in_plane(image: Image, brain: Mask, fwhm: float) -> Image:
    """Smooth within slices only, to avoid mixing thick slices.

    Args:
        image: (X, Y, Z) normalised to the tissue peak.
        brain: (X, Y, Z) bool; voxels outside are set to average tissue (0).
        fwhm: Full width at half maximum, voxels.

    Returns:
        (X, Y, Z) smoothed image.
    """
    sigma = fwhm * SIGMA_PER_FWHM
    inside = np.where(brain, image, np.float32(0))
    return np.asarray(gaussian_filter(inside, (sigma, sigma, 0.0), mode="constant", truncate=3.0))


@dataclass(frozen=True, eq=False)
class Compared:
    """Voxels of a smoothed scan with the control statistics at the same positions.

    Attributes:
        dwi: (N,) smoothed DWI, normalised to the tissue peak.
        adc: (N,) smoothed ADC, normalised to the tissue peak.
        own: (N,) z-score of the DWI within the individual brain.
        healthy: Control statistics of these N voxels.
    """

    dwi: Image
    adc: Image
    own: Image
    healthy: Healthy

    def at(self, voxels: Mask) -> Compared:
        """Return the selected voxels."""
        return Compared(
            self.dwi[voxels], self.adc[voxels], self.own[voxels], self.healthy.at(voxels)
        )


def compare(
    dwi: Image, adc: Image, brain: Mask, healthy: Healthy, fwhm: float, sigma_id: float
) -> tuple[Mask, Compared]:
    """Smooth a scan and select the voxels that are bright relative to the individual brain.

    All other voxels are rejected by both methods.

    Args:
        dwi: (X, Y, Z) DWI normalised to its tissue peak.
        adc: Same shape, ADC normalised to its tissue peak.
        brain: Same shape, bool.
        healthy: Control statistics on the same grid.
        fwhm: FWHM of the in-plane smoothing, voxels.
        sigma_id: Minimum z-score of the DWI within the individual brain.

    Returns:
        (X, Y, Z) bool mask of the selected voxels, and the values of these N voxels.
    """
    dwi = smooth_in_plane(dwi, brain, fwhm)
    adc = smooth_in_plane(adc, brain, fwhm)
    own = zscore(dwi, brain)
    bright = brain & (own >= sigma_id)
    return bright, Compared(dwi[bright], adc[bright], own[bright], healthy.at(bright))


def ischemic_probability(scan: Compared, settings: FuzzySettings) -> Image:
    """Return the probability of ischemia of each voxel.

    Args:
        scan: N voxels, smoothed with the `fwhm` of the settings.
        settings: Settings of the c-fuzzy map.

    Returns:
        (N,) probabilities, 0 - 1.

    References:
        Liu et al. 2021, Eq. 2-5. The individual z-score is taken inside the brain.
    """
    s, healthy = settings, scan.healthy
    bright = np.tanh((scan.dwi - healthy.dwi_mean) / (s.alpha_dwi * healthy.dwi_sd))
    dark = np.tanh((healthy.adc_mean - scan.adc) / (s.alpha_adc * healthy.adc_sd))
    membership = np.maximum(bright, 0) ** s.lambda_dwi * np.maximum(dark, 0) ** s.lambda_adc
    probability: Image = np.where(scan.own >= s.sigma_id, membership * ndtr(scan.own), 0)
    return probability


def is_map(
    dwi: Image, adc: Image, brain: Mask, healthy: Healthy, settings: FuzzySettings | None = None
) -> Image:
    """Compute the modified c-fuzzy map (IS map): high DWI, low ADC, and high individual z-score.

    Args:
        dwi: (192, 224, 192) DWI normalised to its tissue peak.
        adc: Same shape, ADC normalised to its tissue peak.
        brain: Same shape, bool.
        healthy: Control statistics.
        settings: Settings of the map; the best settings of the paper if None.

    Returns:
        (192, 224, 192) probabilities, 0 - 1; exactly 0 outside the brain.
    """
    s = settings or FuzzySettings()
    bright, scan = compare(dwi, adc, brain, healthy, s.fwhm, s.sigma_id)
    ischemic = np.zeros(brain.shape, dtype=np.float32)
    ischemic[bright] = ischemic_probability(scan, s)
    return ischemic


def t_score(image: Image, brain: Mask, mean: Image, sd: Image, n: int) -> Image:
    """Compute the t-score of one brain against n controls.

    Args:
        image: Smoothed and normalised image of any shape.
        brain: Same shape, bool; the score is 0 outside.
        mean: Same shape, voxelwise mean of the controls.
        sd: Same shape, voxelwise SD of the controls, above zero.
        n: Number of controls.

    Returns:
        Same shape, t with n - 1 degrees of freedom.

    References:
        Crawford and Howell 1998: one case against a sample, t = (x - m) / (s sqrt(1 + 1/n)).
    """
    score = (image - mean) / (sd * math.sqrt(1.0 + 1.0 / n))
    return np.where(brain, score, 0.0).astype(np.float32)


def exceeds_controls(scan: Compared, settings: TScoreSettings) -> Mask:
    """Apply the thresholds on the t-scores of DWI and ADC and on the individual z-score.

    Args:
        scan: N voxels, smoothed with the `fwhm` of the settings.
        settings: Thresholds.

    Returns:
        (N,) bool, lesion voxels.

    References:
        Liu et al. 2021, Methods, "T-score method".
    """
    healthy, own = scan.healthy, scan.own > settings.sigma_id
    bright = t_score(scan.dwi, own, healthy.dwi_mean, healthy.dwi_sd, healthy.n)
    dark = t_score(scan.adc, own, healthy.adc_mean, healthy.adc_sd, healthy.n)
    found: Mask = (bright > settings.sigma_dwi) & (dark < -settings.sigma_adc) & own
    return found


def t_score_mask(
    dwi: Image, adc: Image, brain: Mask, healthy: Healthy, settings: TScoreSettings | None = None
) -> Mask:
    """Segment lesions with the t-score method.

    Args:
        dwi: (192, 224, 192) DWI normalised to its tissue peak.
        adc: Same shape, ADC normalised to its tissue peak.
        brain: Same shape, bool.
        healthy: Control statistics.
        settings: Thresholds; the best settings of the paper if None.

    Returns:
        (192, 224, 192) bool, lesion mask.
    """
    s = settings or TScoreSettings()
    bright, scan = compare(dwi, adc, brain, healthy, s.fwhm, s.sigma_id)
    lesion = np.zeros(brain.shape, dtype=bool)
    lesion[bright] = exceeds_controls(scan, s)
    return lesion
