"""Separable linear operations: blur, slice profile, sampling and interpolation.

Each operation is a small matrix per axis. Matrix products are fast on CPU and GPU, and a
thick-slice acquisition with its point spread function is exactly a product of three matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from infarct.segmentation.classical import SIGMA_PER_FWHM

Positions = NDArray[np.float64]
"""(n,) positions along an axis, in voxels of the input."""


def apply(volume: torch.Tensor, matrices: Sequence[NDArray[np.float64] | None]) -> torch.Tensor:
    """Apply one matrix per axis to a volume.

    Args:
        volume: (X, Y, Z).
        matrices: For x, y and z: (n, X), (m, Y), (k, Z), or None to leave an axis unchanged.

    Returns:
        (n, m, k), on the device of the volume.
    """
    x, y, z = (
        None if m is None else torch.from_numpy(m).to(volume.device, volume.dtype) for m in matrices
    )
    # Apply z first if it shrinks and last if it grows, to keep intermediate products small.
    grows = z is not None and z.shape[0] > z.shape[1]
    if z is not None and not grows:
        volume = volume @ z.T
    if x is not None:
        volume = (x @ volume.reshape(volume.shape[0], -1)).reshape(-1, *volume.shape[1:])
    if y is not None:
        volume = y @ volume
    if z is not None and grows:
        volume = volume @ z.T
    return volume


def gaussian(size: int, at: Positions, fwhm: float) -> NDArray[np.float64]:
    """Return Gaussian weights around each position: a point spread function or slice profile.

    Args:
        size: Number of voxels along the axis.
        at: (n,) positions, voxels.
        fwhm: Full width at half maximum, voxels.

    Returns:
        (n, size); each row sums to 1, including at the ends.
    """
    apart = np.arange(size)[None, :] - at[:, None]
    weights = np.exp(-0.5 * (apart / (fwhm * SIGMA_PER_FWHM)) ** 2) + 1e-300
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@lru_cache(maxsize=256)
def blur(size: int, sigma: float) -> NDArray[np.float64]:
    """Return the (size, size) matrix of a Gaussian blur with an SD of `sigma` voxels."""
    return gaussian(size, np.arange(float(size)), sigma / SIGMA_PER_FWHM)


def wide_blur(volume: torch.Tensor, sigma: float, step: int) -> torch.Tensor:
    """Apply a wide Gaussian blur to a subsampled volume; equivalent in practice and much faster.

    Args:
        volume: (X, Y, Z); masks are converted to 0 and 1.
        sigma: SD of the blur, voxels; at least `step`.
        step: Subsampling factor.

    Returns:
        (X, Y, Z) float32.
    """
    coarse = volume[::step, ::step, ::step].float()
    matrices = [
        linear(few, np.arange(many) / step) @ blur(few, sigma / step)
        for many, few in zip(volume.shape, coarse.shape, strict=True)
    ]
    return apply(coarse, matrices)


@lru_cache(maxsize=16)
def reflecting_blur(size: int, fwhm: float) -> NDArray[np.float64]:
    """Return the (size, size) matrix of `scipy.ndimage.gaussian_filter`, truncated at 3 SD."""
    unit = np.eye(size)
    return np.asarray(gaussian_filter1d(unit, fwhm * SIGMA_PER_FWHM, axis=0, truncate=3.0))


def linear(size: int, at: Positions) -> NDArray[np.float64]:
    """Return the matrix of linear interpolation along an axis, as in `infarct.core.resampling`.

    Args:
        size: Number of voxels along the axis.
        at: (n,) positions, voxels.

    Returns:
        (n, size); the end voxels extend by half their width, and rows beyond are zero.
    """
    inside = (at >= -0.5 - 1e-6) & (at <= size - 0.5 + 1e-6)
    clamped = np.clip(at, 0, size - 1)
    low = np.minimum(clamped.astype(int), size - 2)
    rows = np.arange(len(at))
    weights = np.zeros((len(at), size))
    weights[rows, low] = 1 - (clamped - low)
    weights[rows, low + 1] = clamped - low
    return np.asarray(weights * inside[:, None])


@lru_cache(maxsize=256)
def spline(size: int, knot_distance: float) -> NDArray[np.float64]:
    """Return the matrix of cubic B-spline interpolation from knots to an axis.

    Args:
        size: Number of voxels along the axis.
        knot_distance: Distance between knots, voxels.

    Returns:
        (size, knots), scaled so that white noise of variance 1 on the knots has mean variance 1
        along the axis.
    """
    knots = int(np.ceil((size - 1) / knot_distance)) + 3
    apart = np.abs(np.arange(size)[:, None] / knot_distance - (np.arange(knots)[None, :] - 1))
    near = 2 / 3 - apart**2 + apart**3 / 2
    far = np.clip(2 - apart, 0, None) ** 3 / 6
    weights = np.where(apart < 1, near, far)
    return np.asarray(weights / np.sqrt((weights**2).sum(axis=1).mean()))
