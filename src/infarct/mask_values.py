"""Values of masks and label maps: what counts as background, and what is not a mask at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infarct.errors import ContentError

_ROUNDING = 1e-3
"""Scaled or resampled masks hold .99999 where they mean 1."""


def whole_labels(values: NDArray[np.floating], path: Path) -> NDArray[np.int64]:
    """Return the labels of a mask as whole numbers, 0 for background.

    NaN is background, and so is one negative whole number, such as -1, where others are labelled.

    Args:
        values: (X, Y, Z) as read.
        path: Of the file, for the message.

    Raises:
        ContentError: If it holds fractions, infinities or several negative numbers, as images and
            probability maps do, or nothing but background that could also be the lesion.
    """
    found = np.unique(values[~np.isnan(values)])
    if not found.size:
        raise ContentError(f"{path}: no voxel holds a number; export the mask again")
    whole = np.rint(found)
    strange = found[~np.isfinite(found)]
    if not strange.size:
        strange = found[np.abs(found - whole) > _ROUNDING]
    below = np.unique(whole[whole < 0]) if not strange.size else np.empty(0)
    if below.size > 1 or (below.size and whole.max() <= 0):
        strange = below
    if strange.size:
        raise ContentError(
            f"{path}: holds values such as {strange[0]:.3g}; a mask holds 0 where there is no "
            "lesion and whole numbers where there is one: apply the tool's threshold first"
        )
    labels: NDArray[np.int64] = np.rint(np.nan_to_num(values, nan=0.0)).astype(np.int64)
    labels[labels < 0] = 0
    return labels
