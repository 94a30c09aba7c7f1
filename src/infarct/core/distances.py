"""Distances to and within a mask, computed only where they matter."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from infarct.core.diffusion import Mask

Spacing = Sequence[float] | NDArray[np.float64]


def box_around(mask: Mask, margin_mm: float, spacing: Spacing) -> tuple[slice, slice, slice]:
    """Return the smallest box that contains a mask and a margin of at least one voxel around it.

    Args:
        mask: (X, Y, Z) bool, not empty.
        margin_mm: Width of the margin, cut off at the border of the image.
        spacing: (3,) voxel spacing, mm.
    """
    ((x, y, z),) = ndimage.find_objects(mask.view(np.uint8))
    a, b, c = (max(1, math.ceil(margin_mm / step)) for step in spacing)
    return (
        slice(max(x.start - a, 0), x.stop + a),
        slice(max(y.start - b, 0), y.stop + b),
        slice(max(z.start - c, 0), z.stop + c),
    )


def distance_to(mask: Mask, reach_mm: float, spacing: Spacing) -> NDArray[np.float64]:
    """Return the distance of each voxel from the nearest voxel of a mask.

    Args:
        mask: (X, Y, Z) bool, not empty.
        reach_mm: Distances beyond it may be infinite.
        spacing: (3,) voxel spacing, mm.

    Returns:
        (X, Y, Z), mm; 0 in the mask.
    """
    box = box_around(mask, reach_mm, spacing)
    distance = np.full(mask.shape, np.inf)
    distance[box] = ndimage.distance_transform_edt(~mask[box], sampling=spacing)
    return distance


def depth_in(mask: Mask, spacing: Spacing) -> NDArray[np.float64]:
    """Return the distance of each voxel of a mask from the nearest voxel outside it.

    The border of the image does not count as outside.

    Args:
        mask: (X, Y, Z) bool, not empty.
        spacing: (3,) voxel spacing, mm.

    Returns:
        (X, Y, Z), mm; 0 outside the mask.
    """
    box = box_around(mask, 0.0, spacing)
    depth = np.zeros(mask.shape, np.float64)
    depth[box] = ndimage.distance_transform_edt(mask[box], sampling=spacing)
    return depth
