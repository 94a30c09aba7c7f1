"""Splitting of a volume into interleaved sub-volumes, and exact merging.

A 1 mm brain is too large for a 3D network, so it is split into 16 interleaved volumes of 2 x 2 x 4
mm. The split is lossless: merging restores the volume bit for bit.

References:
    Liu et al. 2021, Methods, "The dimension of the inputs and predicts".
"""

from __future__ import annotations

from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)

STRIDE = (2, 2, 4)
PHASES: tuple[tuple[int, int, int], ...] = tuple(
    (i, j, k) for i, j, k in product(range(STRIDE[0]), range(STRIDE[1]), range(STRIDE[2]))
)
"""Voxel offset (x, y, z) of each of the 16 sub-volumes, in the order `split` returns them."""


def brain_box(brain: NDArray[np.bool_], divisor: int) -> tuple[slice, slice, slice]:
    """Return the bounding box of the brain, which halves the amount of computation.

    Its ends are multiples of `divisor`, so that pooling combines the same voxels as in the full
    sub-volume.

    Args:
        brain: (X, Y, Z) brain mask, sides divisible by `divisor`.
        divisor: Required divisor of the ends of the box.

    Returns:
        The smallest such box that contains the brain; the full volume if the mask is empty.
    """
    limits = []
    for axis, size in enumerate(brain.shape):
        seen = np.flatnonzero(brain.any(axis=tuple({0, 1, 2} - {axis})))
        low, high = (seen[0], seen[-1] + 1) if len(seen) else (0, size)
        limits.append(slice(int(low) // divisor * divisor, -(-int(high) // divisor) * divisor))
    x, y, z = limits
    return x, y, z


def split(volume: NDArray[Scalar]) -> NDArray[Scalar]:
    """Split a volume into its 16 interleaved sub-volumes.

    Args:
        volume: (..., X, Y, Z), the last three axes divisible by (2, 2, 4).

    Returns:
        (16, ..., X/2, Y/2, Z/4), in the order of `PHASES`.

    Raises:
        ValueError: If the stride does not divide the shape.
    """
    if any(size % step for size, step in zip(volume.shape[-3:], STRIDE, strict=True)):
        raise ValueError(f"shape {volume.shape[-3:]} is not divisible by the stride {STRIDE}")
    di, dj, dk = STRIDE
    return np.stack([volume[..., i::di, j::dj, k::dk] for i, j, k in PHASES])


def merge(parts: NDArray[Scalar]) -> NDArray[Scalar]:
    """Merge 16 sub-volumes into the volume they were split from; the inverse of `split`.

    Args:
        parts: (16, ..., x, y, z), in the order of `PHASES`.

    Returns:
        (..., 2x, 2y, 4z).

    Raises:
        ValueError: If there are not 16 parts.
    """
    if len(parts) != len(PHASES):
        raise ValueError(f"expected {len(PHASES)} sub-volumes, got {len(parts)}")
    di, dj, dk = STRIDE
    x, y, z = parts.shape[-3:]
    volume = np.empty((*parts.shape[1:-3], x * di, y * dj, z * dk), dtype=parts.dtype)
    for (i, j, k), part in zip(PHASES, parts, strict=True):
        volume[..., i::di, j::dj, k::dk] = part
    return volume
