"""Apply a transform: linear for images, nearest for labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from infarct.grid import Affine, Grid
from infarct.volume import Volume


def resample(
    volume: Volume, grid: Grid, source_from_target: Affine | None = None, *, labels: bool = False
) -> NDArray[Any]:
    """Bring an image onto another grid.

    A slice is a slab: it is believed half its thickness beyond its centre, then the image ends.

    Args:
        volume: The image, (X, Y, Z).
        grid: Where it is wanted.
        source_from_target: (4, 4) world of `grid` -> world of `volume`, mm; identity if None.
        labels: Nearest neighbour and the stored type for labels and masks; else linear, float32.

    Returns:
        Voxel values of shape `grid.shape`; 0 where the image does not reach.
    """
    world = np.eye(4) if source_from_target is None else source_from_target
    voxel_from_voxel = np.linalg.inv(volume.affine) @ world @ grid.affine
    data = volume.data.astype(np.uint8) if volume.data.dtype == bool else volume.data
    moved: NDArray[Any] = affine_transform(
        data if labels else data.astype(np.float32, copy=False),
        voxel_from_voxel,
        output_shape=grid.shape,
        output=data.dtype if labels else np.float32,
        order=0 if labels else 1,
        mode="nearest",
    )
    moved *= _inside(voxel_from_voxel, grid.shape, volume.data.shape)
    return moved.astype(bool) if volume.data.dtype == bool and labels else moved


def _inside(
    voxel_from_voxel: Affine, target: tuple[int, ...], source: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Tell which target voxels lie within the source's field of view."""
    inside = np.ones(target, dtype=bool)
    x, y, z = np.ogrid[tuple(slice(n) for n in target)]
    for row, size in zip(voxel_from_voxel[:3], source, strict=True):
        at = row[0] * x + row[1] * y + (row[2] * z + row[3])
        inside &= (at >= -0.5 - 1e-6) & (at <= size - 0.5 + 1e-6)
    return inside
