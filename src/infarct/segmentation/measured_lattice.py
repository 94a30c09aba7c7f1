"""The measured-slice lattice: 1 mm pixels in MNI space at the acquired slice positions.

The in-plane registration keeps slices intact, so each acquired slice has one z position in MNI
space. Images are interpolated onto this lattice within slices only. For thick-slice scans it has
five times fewer voxels than the 1 mm MNI grid.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from infarct.core.diffusion import Image, Mask
from infarct.core.geometry import MNI_GRID, Affine, Grid
from infarct.core.normalisation import fit_tissue_peak, normalise, zscore
from infarct.segmentation.classical import Healthy, is_map

LEFTMOST_MM = -95.5
"""MNI x coordinate of the first column, mm. Columns are symmetric about the midsagittal plane
(x = 0), so that reversing the x axis mirrors the head exactly."""

FINEST_MM = 1.5
"""Minimum slice spacing of the lattice, mm; thinner slices are subsampled."""

SIDES = (16, 16, 8)
"""Box sides are multiples of these: the networks pack 2 x 2 pixels and downsample three times."""


def spacing_value(spacing_mm: float) -> float:
    """Return the network input for a slice spacing: 0 at 5 mm, -.6 at 2 mm, .5 at 7.5 mm."""
    return spacing_mm / 5.0 - 1.0


def lattice(mni_from_voxel: Affine, shape: tuple[int, int, int]) -> Grid:
    """Return the measured-slice lattice of a scan.

    Args:
        mni_from_voxel: (4, 4) voxel of the scan -> MNI mm, from `registration.register`; exactly
            one voxel axis is parallel to z.
        shape: Shape of the scan.

    Returns:
        Grid of shape (192, 224, K): columns 1 mm apart at x = -95.5 ... 95.5, rows as on the MNI
        grid, and the K slices within the MNI grid, from inferior to superior.
    """
    along_z = mni_from_voxel[2, :3]
    axis = int(np.argmax(np.abs(along_z)))
    spacing = abs(float(along_z[axis]))
    every = max(1, math.ceil(FINEST_MM / spacing - 1e-6))
    height = float(mni_from_voxel[2, 3]) + float(along_z[axis]) * np.arange(shape[axis])
    height = np.sort(height)[::every]
    floor = float(MNI_GRID.affine[2, 3])
    height = height[(height >= floor - 0.5) & (height <= floor + MNI_GRID.shape[2] - 0.5)]
    affine = MNI_GRID.affine.copy()
    affine[0, 3] = LEFTMOST_MM
    affine[2, 2] = spacing * every
    affine[2, 3] = height[0] if len(height) else floor
    return Grid((*MNI_GRID.shape[:2], len(height)), affine)


def network_input(dwi: Image, adc: Image, brain: Mask, healthy: Healthy) -> NDArray[np.float32]:
    """Return the input of a network for measured slices.

    Args:
        dwi: (192, 224, K) signal on the lattice.
        adc: Same shape, mm^2/s.
        brain: Same shape, bool; not empty.
        healthy: Control statistics on the same lattice.

    Returns:
        (3, 192, 224, K) float32: DWI and ADC scaled to mean 0 and SD 1 over the brain, and the IS
        map; 0 outside the brain.
    """
    dwi_normalised, adc_normalised = (
        normalise(image, fit_tissue_peak(image, brain)) for image in (dwi, adc)
    )
    ischemic = is_map(dwi_normalised, adc_normalised, brain, healthy)
    return np.stack([zscore(dwi, brain), zscore(adc, brain), ischemic])


def brain_box(brain: Mask) -> tuple[slice, slice, slice]:
    """Return the smallest mirror-symmetric box of the lattice that contains the brain.

    Args:
        brain: (192, 224, K) bool.

    Returns:
        Slices along x, y and z. The box is symmetric about the midsagittal plane; its x and y sides
        are multiples of `SIDES`. Along z it covers the slices with brain and must be zero-padded
        to a multiple of `SIDES`.
    """
    x, y, z = (np.flatnonzero(brain.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3))
    if not len(x):
        return slice(0, brain.shape[0]), slice(0, brain.shape[1]), slice(0, brain.shape[2])
    middle = brain.shape[0] // 2
    reach = max(middle - int(x[0]), int(x[-1]) + 1 - middle)
    half = -(-reach // (SIDES[0] // 2)) * (SIDES[0] // 2)
    length = -(-(int(y[-1]) + 1 - int(y[0])) // SIDES[1]) * SIDES[1]
    start = min(int(y[0]), brain.shape[1] - length)
    return (
        slice(middle - half, middle + half),
        slice(start, start + length),
        slice(int(z[0]), int(z[-1]) + 1),
    )
