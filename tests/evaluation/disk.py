"""Writes images for the tests of the evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from blobs import AFFINE

from infarct.core.nifti import Volume, write


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    """Write an image: float32 data unchanged, any other type as a mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(Volume(data, affine), path, np.float32 if data.dtype == np.float32 else np.uint8)
