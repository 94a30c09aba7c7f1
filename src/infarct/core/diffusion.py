"""Diffusion formulas: ADC, b0 and trace-weighted image, and the selection of a shell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

USUAL_BVALUE = 1000.0
"""s/mm^2; by far the most common b-value in stroke imaging."""

B0_BELOW = 50.0
"""s/mm^2; volumes with a lower b-value count as b0."""

TISSUE_ADC = (0.4e-3, 1.3e-3)
"""mm^2/s; range of normal brain tissue at all common b-values."""

BRAIN_ADC = (0.2e-3, 1.3e-3)
"""mm^2/s; range of brain tissue, ischemic or not; lower values are noise, higher ones fluid, which
is rarely symmetric."""


def adc_from_signal(b0: Image, dwi: Image, bvalue: float) -> Image:
    """Compute the apparent diffusion coefficient, ADC = ln(b0 / DWI) / b.

    Args:
        b0: (X, Y, Z) signal without diffusion weighting.
        dwi: (X, Y, Z) diffusion-weighted signal, same grid.
        bvalue: Difference of the two b-values, s/mm^2, above zero.

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
        adc: (X, Y, Z) mm^2/s; clipped to 0 to 4e-3, the range of tissue and water, because noise in
            the exponent would create extremely bright voxels.
        bvalue: s/mm^2.

    Returns:
        (X, Y, Z) signal without diffusion weighting.
    """
    b0: Image = dwi * np.exp(np.float32(bvalue) * np.clip(adc, 0.0, 4e-3))
    return b0


def find_shell(
    bvalues: Sequence[float], wanted: float = USUAL_BVALUE, b0_below: float = B0_BELOW
) -> tuple[int, ...]:
    """Select the volumes of one shell of a series.

    Args:
        bvalues: b-value of each volume, s/mm^2.
        wanted: s/mm^2; the nearest shell is selected, and the higher one of two equally near.
        b0_below: s/mm^2; volumes with a lower b-value count as b0.

    Returns:
        Indices of the volumes; empty if none is diffusion-weighted.
    """
    weighted = [b for b in bvalues if b >= b0_below]
    if not weighted:
        return ()
    nearest = min(weighted, key=lambda b: (abs(b - wanted), -b))
    close = max(B0_BELOW, 0.05 * nearest)
    return tuple(i for i, b in enumerate(bvalues) if b >= b0_below and abs(b - nearest) <= close)


def trace(signals: NDArray[np.float32]) -> Image:
    """Compute the trace-weighted image: the geometric mean over directions.

    Args:
        signals: (X, Y, Z, N) signals of N directions of one shell.

    Returns:
        (X, Y, Z) mean of the positive signals; 0 where fewer than half are positive.
    """
    # Noise or rounding sets single directions to 0 inside the brain, which must not leave holes.
    positive = signals > 0
    count = positive.sum(axis=-1)
    logs = np.log(np.where(positive, signals, 1.0)).sum(axis=-1)
    mean = np.exp(logs / np.maximum(count, 1))
    return np.where(2 * count >= signals.shape[-1], mean, 0.0).astype(np.float32)


def scanned_slices(image: Image, slice_axis: int) -> Mask:
    """Return the slices that are not empty: slabs may be padded with empty slices.

    Args:
        image: (X, Y, Z) signal, not negative.
        slice_axis: Voxel axis along which slices are stacked.

    Returns:
        (X, Y, Z) bool, True for all voxels of such a slice.
    """
    across = tuple(axis for axis in range(3) if axis != slice_axis)
    some = np.asarray(image.any(axis=across, keepdims=True))
    return np.broadcast_to(some, image.shape)
