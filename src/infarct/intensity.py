"""Signal and its scales: ADC, b0, trace, and the normalisations that make scans comparable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import OptimizeWarning, curve_fit

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

USUAL_BVALUE = 1000.0
"""s/mm^2; by far the most common in stroke."""

B0_BELOW = 50.0
"""s/mm^2; less weighting than this counts as none."""

TISSUE_ADC = (0.4e-3, 1.3e-3)
"""mm^2/s; normal brain tissue at any b-value in use lies between."""

_BINS = 200


def adc_from_signal(b0: Image, dwi: Image, bvalue: float) -> Image:
    """Compute the apparent diffusion coefficient, ADC = ln(b0 / DWI) / b.

    Args:
        b0: (X, Y, Z) signal without diffusion weighting.
        dwi: (X, Y, Z) diffusion-weighted signal, same grid.
        bvalue: s/mm^2, above zero.

    Returns:
        (X, Y, Z) ADC in mm^2/s; 0 where either signal is not positive.
    """
    seen = (b0 > 0) & (dwi > 0)
    ratio = np.divide(b0, dwi, out=np.ones_like(b0, dtype=np.float32), where=seen)
    adc: Image = (np.log(ratio) / bvalue).astype(np.float32)
    return adc


def b0_from_adc(dwi: Image, adc: Image, bvalue: float) -> Image:
    """Compute the signal without diffusion weighting, b0 = DWI exp(b ADC).

    Args:
        dwi: (X, Y, Z) diffusion-weighted signal.
        adc: (X, Y, Z) mm^2/s; clipped to 0 - 4e-3, where tissue and water lie, because noise in the
            exponent would make stray voxels dominate the image.
        bvalue: s/mm^2.
    """
    b0: Image = dwi * np.exp(np.float32(bvalue) * np.clip(adc, 0.0, 4e-3))
    return b0


def find_shell(
    bvalues: Sequence[float], wanted: float = USUAL_BVALUE, b0_below: float = B0_BELOW
) -> tuple[int, ...]:
    """Choose the volumes of a series that were weighted alike.

    Args:
        bvalues: s/mm^2 of each volume.
        wanted: s/mm^2; of several shells the one nearest to it is taken, of two as near the higher.
        b0_below: s/mm^2; what has less is not weighted.

    Returns:
        Their numbers; none if nothing is weighted.
    """
    weighted = [b for b in bvalues if b >= b0_below]
    if not weighted:
        return ()
    nearest = min(weighted, key=lambda b: (abs(b - wanted), -b))
    close = max(B0_BELOW, 0.05 * nearest)
    return tuple(i for i, b in enumerate(bvalues) if b >= b0_below and abs(b - nearest) <= close)


def trace(signals: NDArray[np.float32]) -> Image:
    """Average directions to the trace-weighted image: their geometric mean.

    Args:
        signals: (X, Y, Z, N) signals of N directions of one shell.

    Returns:
        (X, Y, Z); of the positive directions, and 0 where fewer than half are positive.
    """
    # Noise or rounding takes single directions to 0 inside the brain; they must not leave holes.
    positive = signals > 0
    count = positive.sum(axis=-1)
    logs = np.log(np.where(positive, signals, 1.0)).sum(axis=-1)
    mean = np.exp(logs / np.maximum(count, 1))
    return np.where(2 * count >= signals.shape[-1], mean, 0.0).astype(np.float32)


@dataclass(frozen=True)
class TissuePeak:
    """Where normal tissue lies in a histogram.

    Attributes:
        mean: Centre of the tissue peak, in the units of the image.
        sd: Its standard deviation, same units.
        converged: False when the fit failed and median and scaled MAD stand in.
    """

    mean: float
    sd: float
    converged: bool


def _two_gaussians(x: NDArray[np.float64], *coefficients: float) -> NDArray[np.float64]:
    a1, b1, c1, a2, b2, c2 = coefficients
    curve: NDArray[np.float64] = a1 * np.exp(-(((x - b1) / c1) ** 2))
    return curve + a2 * np.exp(-(((x - b2) / c2) ** 2))


def fit_tissue_peak(image: Image, brain: Mask) -> TissuePeak:
    """Fit two Gaussians to the histogram inside the brain and take the higher as tissue.

    The lesion may change the histogram, but most of the brain is healthy and makes the peak. Serves
    DWI, where fluid is the low peak, and ADC, where it is the high one.

    Args:
        image: (X, Y, Z) DWI signal or ADC.
        brain: (X, Y, Z) where to look.

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
    # Fitted on [0, 1] x [0, 1]: signals span five decades between scanners, ADC three more.
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
    # A broad curve far from the mode has fitted the tails, not the tissue.
    if abs(centre - mode) > 0.15 or peak.sd > 3 * mad:
        return fallback
    return peak


def scanned_slices(image: Image, slice_axis: int) -> Mask:
    """Tell where a scan was made: slabs come padded with empty slices.

    Args:
        image: (X, Y, Z) signal, not negative.
        slice_axis: Voxel axis along which slices are stacked.

    Returns:
        (X, Y, Z) whole slices.
    """
    across = tuple(axis for axis in range(3) if axis != slice_axis)
    some = np.asarray(image.any(axis=across, keepdims=True))
    return np.broadcast_to(some, image.shape)


def normalise(image: Image, peak: TissuePeak) -> Image:
    """Scale an image so that normal tissue has mean 0 and SD 1.

    Args:
        image: (X, Y, Z) in the units `peak` was fitted in.
        peak: From `fit_tissue_peak`.
    """
    return ((image - peak.mean) / peak.sd).astype(np.float32)


def zscore(image: Image, brain: Mask) -> Image:
    """Scale an image to mean 0 and SD 1 over the brain, 0 outside.

    Args:
        image: (X, Y, Z).
        brain: (X, Y, Z), at least one voxel.
    """
    inside = image[brain]
    scaled = (image - inside.mean(dtype=np.float64)) / max(inside.std(dtype=np.float64), 1e-12)
    return np.where(brain, scaled, 0.0).astype(np.float32)
