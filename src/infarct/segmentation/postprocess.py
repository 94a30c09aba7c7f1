"""Convert probabilities to a lesion mask: threshold, closing, hole filling, cluster removal."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from infarct.core.diffusion import Image, Mask

SMALLEST_CLUSTER = 5
"""Minimum cluster size in a slice, pixels: the smallest lesion drawn by the paper's readers."""


@dataclass(frozen=True)
class Cleaning:
    """How a thresholded probability is cleaned; the defaults are the paper's.

    Attributes:
        closing: Whether gaps of one pixel are closed within each slice. At 2 mm per pixel, closing
            joins lesion parts across a sulcus.
        smallest_pixels: Clusters with fewer 8-connected pixels in a slice are removed.
        smallest_mm3: Lesions (26-connected) with a smaller volume are removed, mm^3. A volume, not
            a number of pixels, because pixels measure from 0.6 to 3 mm.
    """

    closing: bool = True
    smallest_pixels: int = SMALLEST_CLUSTER
    smallest_mm3: float = 0.0


AS_IN_THE_PAPER = Cleaning()

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)[:, :, None]
_IN_PLANE = np.zeros((3, 3, 3), dtype=bool)
_IN_PLANE[:, :, 1] = True
_TOUCHING = np.ones((3, 3, 3), dtype=bool)


def outline(
    probability: Image,
    threshold: float,
    brain: Mask,
    slice_axis: int = 2,
    cleaning: Cleaning = AS_IN_THE_PAPER,
    voxel_mm3: float = 1.0,
) -> Mask:
    """Convert a lesion probability to a lesion mask on the grid of the scan.

    Closing and filling are two-dimensional, because slices may be thick.

    Args:
        probability: (X, Y, Z) 0 - 1.
        threshold: Voxels above this probability are lesion.
        brain: (X, Y, Z) bool; voxels outside are never lesion.
        slice_axis: Voxel axis along which the slices are stacked.
        cleaning: What is closed and what is too small.
        voxel_mm3: Volume of a voxel, mm^3.

    Returns:
        (X, Y, Z) bool, after closing with connectivity 1, hole filling, and removal of small
        clusters, in this order.

    References:
        Liu et al. 2021, Methods, "The dimension of the inputs and predicts".
    """
    mask = np.moveaxis((probability > threshold) & brain, slice_axis, 2)
    inside = np.moveaxis(brain, slice_axis, 2)
    if cleaning.closing:
        # Padding prevents the closing from eroding lesions at the image border.
        mask = ndimage.binary_closing(np.pad(mask, 1), _CROSS)[1:-1, 1:-1, 1:-1]
    else:
        mask = mask.copy()
    for z in np.flatnonzero(mask.any(axis=(0, 1))):
        mask[:, :, z] = ndimage.binary_fill_holes(mask[:, :, z])
    kept = remove_small_clusters(mask & inside, cleaning.smallest_pixels)
    smallest = math.ceil(cleaning.smallest_mm3 / voxel_mm3 - 1e-6)
    return np.moveaxis(_remove_small(kept, smallest, _TOUCHING), 2, slice_axis)


def remove_small_clusters(mask: Mask, smallest: int = SMALLEST_CLUSTER) -> Mask:
    """Remove clusters of fewer than `smallest` 8-connected pixels within each slice (axis 2)."""
    return _remove_small(mask, smallest, _IN_PLANE)


def _remove_small(mask: Mask, smallest: int, connected: Mask) -> Mask:
    """Remove connected components of fewer than `smallest` voxels."""
    if smallest <= 1:
        return mask
    labels, _ = ndimage.label(mask, structure=connected)
    sizes: NDArray[np.intp] = np.bincount(labels.ravel())
    keep = sizes >= smallest
    keep[0] = False
    kept: Mask = keep[labels]
    return kept
