"""Intensity normalisation: tissue peaks and z-scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import OptimizeWarning, curve_fit

from infarct.core.diffusion import Image, Mask

_BINS = 200


@dataclass(frozen=True)
class TissuePeak:
    """Peak of normal tissue in a histogram.

    Attributes:
        mean: Centre of the tissue peak, in the units of the image.
        sd: Standard deviation of the peak, same units.
        converged: False if the fit failed and median and scaled MAD are used instead.
    """

    mean: float
    sd: float
    converged: bool


def _two_gaussians(x: NDArray[np.float64], *coefficients: float) -> NDArray[np.float64]:
    a1, b1, c1, a2, b2, c2 = coefficients
    curve: NDArray[np.float64] = a1 * np.exp(-(((x - b1) / c1) ** 2))
    return curve + a2 * np.exp(-(((x - b2) / c2) ** 2))


def fit_tissue_peak(image: Image, brain: Mask) -> TissuePeak:
    """Fit two Gaussians to the histogram inside the brain; the one with the higher peak is tissue.

    A lesion hardly affects the peak, because most of the brain is healthy. The method works for
    DWI, where fluid is the lower peak, and for ADC, where fluid is the upper peak.

    Args:
        image: (X, Y, Z) DWI signal or ADC.
        brain: (X, Y, Z) brain mask.

    Returns:
        Mean and SD of the tissue peak. SD = c / sqrt(2) in the notation of the paper.

    References:
        Liu et al. 2021, Eq. 1.
    """
    values = image[brain].astype(np.float64)
    values = values[np.isfinite(values)]
    median = float(np.median(values))
    mad = 1.4826 * float(np.median(np.abs(values - median)))
    fallback = TissuePeak(median, max(mad, 1e-12), converged=False)
    low, high = np.percentile(values, [0.5, 99.5])
    if not high > low or mad == 0:
        return fallback
    counts, edges = np.histogram(values, bins=_BINS, range=(low, high), density=True)
    scale = high - low
    # Fitted on [0, 1] x [0, 1], because the scale differs by many orders of magnitude.
    x = ((edges[:-1] + edges[1:]) / 2 - low) / scale
    y = counts / counts.max()
    mode = x[np.argmax(gaussian_filter1d(y, 2.0))]
    width = np.clip(1.4 * mad / scale, 0.02, 0.5)
    other = 0.1 if mode > 0.4 else 0.8
    start = (0.2, other, 0.15, 1.0, mode, width)
    bounds = ([0, -0.5, 0.005, 0, 0, 0.005], [3, 1.5, 1.0, 3, 1, 1.0])
    try:
        (a1, b1, c1, a2, b2, c2), _ = curve_fit(_two_gaussians, x, y, start, bounds=bounds)
    except (RuntimeError, ValueError, OptimizeWarning):
        return fallback
    centre, spread = (b2, c2) if a2 >= a1 else (b1, c1)
    peak = TissuePeak(low + scale * centre, scale * spread / np.sqrt(2), converged=True)
    # A broad curve far from the mode is a fit to the tails.
    if abs(centre - mode) > 0.15 or peak.sd > 3 * mad:
        return fallback
    return peak


def normalise(image: Image, peak: TissuePeak) -> Image:
    """Scale an image so that normal tissue has mean 0 and SD 1.

    Args:
        image: (X, Y, Z) in the units of `peak`.
        peak: From `fit_tissue_peak`.
    """
    return ((image - peak.mean) / peak.sd).astype(np.float32)


def zscore(image: Image, brain: Mask) -> Image:
    """Scale an image to mean 0 and SD 1 over the brain, 0 outside.

    Args:
        image: (X, Y, Z).
        brain: (X, Y, Z) brain mask, at least one voxel.
    """
    inside = image[brain]
    scaled = (image - inside.mean(dtype=np.float64)) / max(inside.std(dtype=np.float64), 1e-12)
    return np.where(brain, scaled, 0.0).astype(np.float32)
