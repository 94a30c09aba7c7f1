"""Voxel grids: a shape and an affine, and the MNI grid of all networks and templates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAME_VOXEL = 0.05
"""Largest distance of corner voxels, as a fraction of a voxel, between equivalent grids.

Tools that store directions as angles or a quaternion, such as those built on ITK, cannot keep an
affine that is not quite orthogonal.
"""

Affine = NDArray[np.floating]
"""A 4 x 4 voxel -> world matrix; world is RAS+ in mm."""


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxel grid of an image.

    Attributes:
        shape: Number of voxels along the three axes.
        affine: (4, 4) voxel -> world RAS+ mm.
    """

    shape: tuple[int, int, int]
    affine: Affine

    @property
    def spacing(self) -> NDArray[np.float64]:
        """(3,) distance between neighbouring voxel centres along each axis, mm."""
        spacing: NDArray[np.float64] = np.linalg.norm(self.affine[:3, :3], axis=0)
        return spacing

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel, ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def corners(self) -> NDArray[np.float64]:
        """(4, 8) homogeneous voxel coordinates of the centres of the eight corner voxels."""
        ends = np.indices((2, 2, 2)).reshape(3, -1) * (np.array(self.shape)[:, None] - 1)
        return np.vstack([ends, np.ones(8)])

    def matches(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """Return whether every voxel of `other` coincides with the same voxel of this grid.

        Args:
            other: The grid to compare with.
            tolerance_mm: Largest distance allowed between corresponding voxel centres, mm.
        """
        if self.shape != other.shape:
            return False
        shifts = (self.affine - other.affine) @ self.corners
        return bool(np.abs(shifts).max() <= tolerance_mm)


def reorder(data: NDArray[Any], own: Grid, target: Grid) -> NDArray[Any] | None:
    """Reorder voxel values to a grid that differs only in the order and direction of its axes.

    Axes are permuted and flipped as needed; nothing is interpolated.

    Args:
        data: Voxel values of shape `own.shape`.
        own: Grid of the values.
        target: Grid to reorder to.

    Returns:
        Values of shape `target.shape`, or None unless each voxel of one grid lies within
        `SAME_VOXEL` voxel of a voxel of the other.
    """
    between = np.linalg.inv(target.affine) @ own.affine
    axes = np.rint(between[:3, :3])
    if not (np.abs(axes).sum(axis=0) == 1).all() or not (np.abs(axes).sum(axis=1) == 1).all():
        return None
    order = np.abs(axes).argmax(axis=1)
    flipped = tuple(axis for axis in range(3) if axes[axis, order[axis]] < 0)
    turned = np.flip(data.transpose(order), flipped)
    # The first voxel of the reordered array is the last one along each flipped axis.
    first = np.zeros(3)
    for axis in flipped:
        first[order[axis]] = own.shape[order[axis]] - 1
    affine = own.affine.copy()
    affine[:3, :3] = own.affine[:3, :3] @ np.linalg.inv(axes)
    affine[:3, 3] = own.affine[:3, :3] @ first + own.affine[:3, 3]
    x, y, z = turned.shape
    tolerance = SAME_VOXEL * float(target.spacing.min())
    return turned if target.matches(Grid((x, y, z), affine), tolerance) else None


def _translation(x: float, y: float, z: float) -> Affine:
    affine = np.eye(4)
    affine[:3, 3] = (x, y, z)
    return affine


MNI_GRID = Grid((192, 224, 192), _translation(-96.0, -132.0, -78.0))
"""IP-MNI: 1 mm, RAS+, MNI152 (ICBM 2009a symmetric), padded so that strides (2, 2, 4) divide it.

References:
    Liu et al. 2021, Methods, "IP-MNI and IP-MNI DS space".
"""
