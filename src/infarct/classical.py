"""The two methods without weights: t-score, and the modified c-fuzzy map of ischemic tissue (IS).

Both compare a scan, voxel by voxel on the MNI grid, with brains that have no acute lesion.

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

from infarct.intensity import Image, Mask, zscore

SIGMA_PER_FWHM = 1.0 / math.sqrt(8.0 * math.log(2.0))


@dataclass(frozen=True, eq=False)
class Healthy:
    """Mean and SD of brains without acute lesion, on the MNI grid, normalised to the tissue peak.

    Attributes:
        dwi_mean: (192, 224, 192) tissue-peak units, see `intensity.normalise`.
        dwi_sd: Same shape and units.
        adc_mean: Same shape; ADC normalised to its own tissue peak.
        adc_sd: Same shape and units.
        n: Number of brains behind the statistics.
    """

    dwi_mean: Image
    dwi_sd: Image
    adc_mean: Image
    adc_sd: Image
    n: int


@dataclass(frozen=True)
class FuzzySettings:
    """Settings of the modified c-fuzzy map; the defaults are the paper's best.

    Attributes:
        fwhm: Of the in-plane smoothing, voxels of 1 mm.
        alpha_dwi: How many healthy SD make a DWI voxel half bright; larger is less sensitive.
        lambda_dwi: Exponent of the DWI membership.
        alpha_adc: As `alpha_dwi`, for low ADC.
        lambda_adc: Exponent of the ADC membership.
        sigma_id: z-score inside the individual's own DWI below which nothing is ischemic.
    """

    fwhm: float = 2.0
    alpha_dwi: float = 1.5
    lambda_dwi: float = 4.0
    alpha_adc: float = 0.5
    lambda_adc: float = 2.0
    sigma_id: float = 2.0


@dataclass(frozen=True)
class TScoreSettings:
    """Settings of the t-score method; the defaults are the paper's best.

    Attributes:
        fwhm: Of the in-plane smoothing, voxels of 1 mm.
        sigma_dwi: A lesion's DWI lies more than this t above the healthy.
        sigma_adc: A lesion's ADC lies more than this t below the healthy.
        sigma_id: And its DWI more than this z above the individual's own brain.
    """

    fwhm: float = 4.0
    sigma_dwi: float = 2.0
    sigma_adc: float = 1.0
    sigma_id: float = 3.5


def smooth_in_plane(image: Image, brain: Mask, fwhm: float) -> Image:
    """Smooth within slices only, so that thick slices do not leak into each other.

    Args:
        image: (X, Y, Z) normalised to the tissue peak.
        brain: (X, Y, Z); outside counts as average tissue (0).
        fwhm: Full width at half maximum, voxels.
    """
    sigma = fwhm * SIGMA_PER_FWHM
    inside = np.where(brain, image, np.float32(0))
    return np.asarray(gaussian_filter(inside, (sigma, sigma, 0.0), mode="constant", truncate=3.0))


def is_map(
    dwi: Image, adc: Image, brain: Mask, healthy: Healthy, settings: FuzzySettings | None = None
) -> Image:
    """Map how likely each voxel is ischemic: bright on DWI, dark on ADC, bright for this brain.

    Args:
        dwi: (192, 224, 192) DWI normalised to its tissue peak.
        adc: Same shape, ADC normalised to its tissue peak.
        brain: Same shape.
        healthy: The brains to compare with.
        settings: The paper's best if None.

    Returns:
        (192, 224, 192) in 0 - 1, exactly 0 outside the brain.

    References:
        Liu et al. 2021, Eq. 2-5. The individual z-score is taken inside the brain.
    """
    s = settings or FuzzySettings()
    dwi = smooth_in_plane(dwi, brain, s.fwhm)
    adc = smooth_in_plane(adc, brain, s.fwhm)
    own = zscore(dwi, brain)
    # Few voxels are bright enough for this brain; only there is the rest worth computing.
    seen = brain & (own >= s.sigma_id)
    bright = np.tanh((dwi[seen] - healthy.dwi_mean[seen]) / (s.alpha_dwi * healthy.dwi_sd[seen]))
    dark = np.tanh((healthy.adc_mean[seen] - adc[seen]) / (s.alpha_adc * healthy.adc_sd[seen]))
    membership = np.maximum(bright, 0) ** s.lambda_dwi * np.maximum(dark, 0) ** s.lambda_adc
    ischemic = np.zeros(brain.shape, dtype=np.float32)
    ischemic[seen] = membership * ndtr(own[seen])
    return ischemic


def t_score(image: Image, brain: Mask, mean: Image, sd: Image, n: int) -> Image:
    """Score one brain against n controls.

    Args:
        image: (192, 224, 192) smoothed and normalised.
        brain: Same shape; 0 is returned outside.
        mean: Voxelwise mean of the controls.
        sd: Voxelwise SD of the controls, above zero.
        n: Number of controls.

    Returns:
        (192, 224, 192) t with n - 1 degrees of freedom.

    References:
        Crawford and Howell 1998: one case against a sample, t = (x - m) / (s sqrt(1 + 1/n)).
    """
    score = (image - mean) / (sd * math.sqrt(1.0 + 1.0 / n))
    return np.where(brain, score, 0.0).astype(np.float32)


def t_score_mask(
    dwi: Image, adc: Image, brain: Mask, healthy: Healthy, settings: TScoreSettings | None = None
) -> Mask:
    """Outline lesions by thresholds on the t-scores of DWI and ADC and on the DWI itself.

    Args:
        dwi: (192, 224, 192) DWI normalised to its tissue peak.
        adc: Same shape, ADC normalised to its tissue peak.
        brain: Same shape.
        healthy: The controls.
        settings: The paper's best if None.

    References:
        Liu et al. 2021, Methods, "T-score method".
    """
    s = settings or TScoreSettings()
    dwi = smooth_in_plane(dwi, brain, s.fwhm)
    adc = smooth_in_plane(adc, brain, s.fwhm)
    bright = t_score(dwi, brain, healthy.dwi_mean, healthy.dwi_sd, healthy.n) > s.sigma_dwi
    dark = t_score(adc, brain, healthy.adc_mean, healthy.adc_sd, healthy.n) < -s.sigma_adc
    return bright & dark & (zscore(dwi, brain) > s.sigma_id) & brain
