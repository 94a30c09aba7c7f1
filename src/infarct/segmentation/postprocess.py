"""Convert probabilities to a lesion mask: threshold, closing, hole filling, cluster removal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from infarct.core.diffusion import Image, Mask

SMALLEST_CLUSTER = 5
"""Minimum cluster size in a slice, pixels: the smallest lesion drawn by the paper's readers."""

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)[:, :, None]
_IN_PLANE = np.zeros((3, 3, 3), dtype=bool)
_IN_PLANE[:, :, 1] = True


def outline(probability: Image, threshold: float, brain: Mask, slice_axis: int = 2) -> Mask:
    """Convert a lesion probability to a lesion mask on the grid of the scan.

    All operations are two-dimensional, because slices may be thick.

    Args:
        probability: (X, Y, Z) 0 - 1.
        threshold: Voxels above this probability are lesion.
        brain: (X, Y, Z) bool; voxels outside are never lesion.
        slice_axis: Voxel axis along which the slices are stacked.

    Returns:
        (X, Y, Z) bool, after closing with connectivity 1, hole filling, and removal of clusters of
        fewer than five pixels in a slice, in this order.

    References:
        Liu et al. 2021, Methods, "The dimension of the inputs and predicts".
    """
    mask = np.moveaxis((probability > threshold) & brain, slice_axis, 2)
    inside = np.moveaxis(brain, slice_axis, 2)
    # Padding prevents the closing from eroding lesions at the image border.
    closed = ndimage.binary_closing(np.pad(mask, 1), _CROSS)[1:-1, 1:-1, 1:-1]
    for z in np.flatnonzero(closed.any(axis=(0, 1))):
        closed[:, :, z] = ndimage.binary_fill_holes(closed[:, :, z])
    return np.moveaxis(remove_small_clusters(closed & inside), 2, slice_axis)


def remove_small_clusters(mask: Mask, smallest: int = SMALLEST_CLUSTER) -> Mask:
    """Remove clusters of fewer than `smallest` 8-connected pixels within each slice (axis 2)."""
    labels, _ = ndimage.label(mask, structure=_IN_PLANE)
    sizes: NDArray[np.intp] = np.bincount(labels.ravel())
    keep = sizes >= smallest
    keep[0] = False
    kept: Mask = keep[labels]
    return kept
