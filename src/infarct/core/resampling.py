"""Resampling of images (linear) and labels (nearest neighbour)."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from infarct.core.geometry import Affine, Grid
from infarct.core.nifti import Volume


def resample(
    volume: Volume, grid: Grid, source_from_target: Affine | None = None, *, labels: bool = False
) -> NDArray[Any]:
    """Resample an image to another grid.

    The image ends half a voxel beyond the centres of its outer voxels.

    Args:
        volume: Image to resample, (X, Y, Z).
        grid: Target grid.
        source_from_target: (4, 4) world of `grid` -> world of `volume`, mm; identity if None.
        labels: If true, use nearest neighbour and keep the data type; otherwise linear, float32.

    Returns:
        Voxel values of shape `grid.shape`; 0 outside the image.
    """
    world = np.eye(4) if source_from_target is None else source_from_target
    voxel_from_voxel = np.linalg.inv(volume.affine) @ world @ grid.affine
    # Both images use voxel coordinates, so that the transform contains the whole affine, including
    # shear. SimpleITK reverses the axes of an array; the transform does as well, so that no image
    # has to be transposed.
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(voxel_from_voxel[2::-1, 2::-1].ravel().tolist())
    transform.SetTranslation(voxel_from_voxel[2::-1, 3].tolist())
    was_bool = volume.data.dtype == bool
    data = volume.data.astype(np.uint8) if was_bool else volume.data
    if not labels:
        data = data.astype(np.float32, copy=False)
    moved = sitk.Resample(
        sitk.GetImageFromArray(data),
        list(grid.shape[::-1]),
        transform,
        sitk.sitkNearestNeighbor if labels else sitk.sitkLinear,
    )
    result: NDArray[Any] = sitk.GetArrayFromImage(moved)
    return result.astype(bool) if was_bool and labels else result


def reached(volume: Volume, grid: Grid) -> NDArray[np.bool_]:
    """Return the voxels of another grid that an image covers.

    Args:
        volume: Image, (X, Y, Z).
        grid: The other grid.

    Returns:
        bool of shape `grid.shape`.
    """
    everywhere = volume.like(np.ones(volume.data.shape, bool))
    return resample(everywhere, grid, labels=True)


def shrink(image: NDArray[Any], step: int) -> NDArray[np.float32]:
    """Average blocks of `step` x `step` x `step` voxels.

    Args:
        image: (X, Y, Z), sides divisible by `step`.
        step: Voxels along every axis.

    Returns:
        (X / step, Y / step, Z / step).
    """
    x, y, z = (size // step for size in image.shape)
    blocks = image.reshape(x, step, y, step, z, step)
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))
