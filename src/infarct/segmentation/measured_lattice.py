"""The measured-slice lattice: 1 mm pixels in MNI space, slices where the scanner measured them.

The in-plane registration keeps slices intact, so each measured slice lies at one height of MNI
space. Images brought onto this lattice are interpolated within slices only, and a thick-slice scan
has five times fewer voxels there than on the 1 mm MNI grid.
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
"""x of the first column, MNI: columns lie symmetrically about the midplane (x = 0), so that
reversing the x axis mirrors the head exactly."""

FINEST_MM = 1.5
"""Smallest distance between two slices of the lattice; of thinner slices every second (third, ...)
is taken."""

SIDES = (16, 16, 8)
"""What the sides of a box are multiples of: the networks pack 2 x 2 pixels and halve three times.
"""


def lattice(mni_from_voxel: Affine, shape: tuple[int, int, int]) -> Grid:
    """Lay the lattice through the slices of a scan.

    Args:
        mni_from_voxel: (4, 4) voxel of the scan -> MNI mm, from `registration.register`; one voxel
            axis runs along z, and only that one.
        shape: Of the scan.

    Returns:
        (192, 224, K): columns 1 mm apart at x = -95.5 ... 95.5, rows as on the MNI grid, and the K
        slices that the MNI grid reaches, from foot to head.
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
    """Return what a network for measured slices reads.

    Args:
        dwi: (192, 224, K) signal on the lattice.
        adc: Same shape, mm^2/s.
        brain: Same shape, at least one voxel.
        healthy: Statistics of lesion-free brains on the same lattice.

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
    """Return the smallest part of the lattice that holds the brain and can be mirrored.

    Args:
        brain: (192, 224, K).

    Returns:
        Along x symmetric about the midplane; along x and y a multiple of `SIDES` long. Along z it
        holds the slices that show brain: pad with zeros to a multiple of `SIDES`.
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
