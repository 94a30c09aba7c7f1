"""What happened to each part of an infarct between two scans."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from infarct.core.diffusion import Image, Mask
from infarct.core.geometry import Affine, Grid
from infarct.core.nifti import Volume
from infarct.core.resampling import resample
from infarct.measurement.volumetry import pieces

Fates = NDArray[np.uint8]

SEPARATE_MM = 6.0
"""Distance from every earlier lesion from which a lesion is a new one rather than growth: a thick
slice, within which registration and partial volume can move the edge."""

ISCHEMIC_ADC, NORMAL_ADC, BRIGHT_B0 = 0.85, 0.92, 1.15
"""Ratios to normal tissue: upper limit of ischemic ADC, lower limit of normalised ADC, and the b0
signal from which T2 is prolonged, as in infarcted tissue."""


class Fate(IntEnum):
    """Label of a voxel that is part of a lesion in at least one of two scans.

    persistent: lesion in both scans. recruited: lesion only in the second, next to an earlier one:
    growth. new: lesion only in the second, separate from every earlier one. reversed: lesion only
    in the first.
    """

    persistent = 1
    recruited = 2
    new = 3
    reversed = 4


@dataclass(frozen=True)
class Tissue:
    """Signal of one part of the lesion in both scans, as ratios to normal tissue.

    Attributes:
        ml: Volume, ml.
        adc_ratio: Mean ADC in the first and in the second scan; NaN if `ml` is 0.
        dwi_ratio: The same for the DWI.
        b0_ratio: The same for the b0.
    """

    ml: float
    adc_ratio: tuple[float, float]
    dwi_ratio: tuple[float, float]
    b0_ratio: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Ratios:
    """Images of one scan as ratios to normal tissue, on the grid of the second scan."""

    adc: Image
    dwi: Image
    b0: Image


def onto(mask: Volume, grid: Grid, native_from_grid: Affine) -> Mask:
    """Resample a mask to another grid and keep its volume.

    A fixed threshold on the interpolated mask would remove lesions that are thin compared with the
    voxels. As many voxels are kept as the mask fills.

    Args:
        mask: bool.
        grid: Target grid.
        native_from_grid: (4, 4) world of `grid` -> world of the mask, mm.
    """
    share = resample(mask.like(mask.data.astype(np.float32)), grid, native_from_grid)
    wanted = min(round(float(share.sum())), int((share > 0).sum()))
    if not wanted:
        return np.zeros(grid.shape, bool)
    level = np.partition(share.ravel(), -wanted)[-wanted]
    kept: Mask = share >= max(level, np.finfo(np.float32).tiny)
    return kept


def fates(earlier: Mask, later: Mask, grid: Grid) -> Fates:
    """Label the voxels of two lesion masks on one grid.

    Args:
        earlier: (X, Y, Z) lesion mask of the first scan, bool.
        later: (X, Y, Z) lesion mask of the second scan, bool.
        grid: Grid of both.

    Returns:
        (X, Y, Z) values of `Fate`; 0 where neither scan has a lesion.
    """
    label = np.zeros(later.shape, np.uint8)
    label[later] = Fate.recruited
    label[_separate(later, earlier, grid)] = Fate.new
    label[earlier & ~later] = Fate.reversed
    label[earlier & later] = Fate.persistent
    return label


def count_separate(lesion: Mask, other: Mask, grid: Grid) -> int:
    """Count the lesions that are separate from all lesions of the other scan."""
    return int(pieces(_separate(lesion, other, grid)).max(initial=0))


def _separate(lesion: Mask, other: Mask, grid: Grid) -> Mask:
    """Return the lesions that are nowhere closer than `SEPARATE_MM` to the other mask."""
    if not other.any():
        return lesion
    ranked = pieces(lesion)
    close = ndimage.distance_transform_edt(~other, sampling=grid.spacing) < SEPARATE_MM
    touching = np.unique(ranked[lesion & close])
    separate: Mask = lesion & ~np.isin(ranked, touching)
    return separate


def measure_tissue(where: Mask, first: Ratios, second: Ratios, grid: Grid) -> Tissue:
    """Measure one part of the lesion in both scans.

    Args:
        where: (X, Y, Z) the part, bool, on the grid of the second scan.
        first: First scan, resampled.
        second: Second scan.
        grid: Grid of the second scan.
    """

    def means(kind: str) -> tuple[float, float]:
        one, two = (getattr(scan, kind)[where] for scan in (first, second))
        return (float(one.mean()), float(two.mean())) if one.size else (math.nan, math.nan)

    ml = float(where.sum()) * grid.voxel_ml
    return Tissue(ml, means("adc"), means("dwi"), means("b0"))


def pseudonormalised(earlier: Mask, first: Ratios, second: Ratios) -> Mask:
    """Return the part of the earlier lesion whose ADC is normal again although T2 is prolonged.

    Within days, the ADC of infarcted tissue passes through normal values. The tissue has not
    recovered: its T2 remains prolonged.

    Args:
        earlier: (X, Y, Z) lesion mask of the first scan, bool, on the grid of the second scan.
        first: First scan, resampled.
        second: Second scan.

    References:
        Lansberg et al. 2001, AJNR 22, 637 (time course of ADC and T2 after stroke).
    """
    was_low = first.adc < ISCHEMIC_ADC
    found: Mask = earlier & was_low & (second.adc >= NORMAL_ADC) & (second.b0 >= BRIGHT_B0)
    return found
