"""Lesion volumes in ml, contrast, and measurements of each lesion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from infarct.core.diffusion import TISSUE_ADC, Image, Mask
from infarct.core.geometry import Affine, Grid

Side = Literal["left", "right", "bilateral"]

_ONE_SIDED = 0.9

DOUBTFUL_BELOW = 0.5
"""Probability below which a lesion is doubtful."""

DOUBTFUL_ADC = 1.0
"""ADC ratio (lesion / normal tissue) above which a lesion is doubtful."""


@dataclass(frozen=True, eq=False)
class MeasurementImages:
    """The images needed for measurements, all on the native grid (X, Y, Z).

    Attributes:
        dwi: Diffusion-weighted signal.
        adc: mm^2/s.
        probability: Lesion probability, 0 - 1.
        brain: Brain mask, bool.
        grid: Grid of all images.
        mni_from_native: (4, 4) world of the grid -> MNI mm.
    """

    dwi: Image
    adc: Image
    probability: Image
    brain: Mask
    grid: Grid
    mni_from_native: Affine


@dataclass(frozen=True)
class Lesion:
    """A lesion: a 26-connected component of the lesion mask.

    Attributes:
        label: Number of the lesion by decreasing size, starting at 1.
        volume_ml: Volume, ml.
        slices: Number of slices that contain the lesion.
        side: Hemisphere by MNI x; `left` is the patient's left.
        centroid_mm: (x, y, z) in scanner space, RAS+ mm.
        centroid_mni_mm: (x, y, z) in MNI space, mm.
        dwi_ratio: Mean DWI of the lesion / mean DWI of normal tissue.
        adc_ratio: Mean ADC of the lesion / mean ADC of normal tissue.
        mean_adc: Mean ADC, mm^2/s.
        mean_probability: Mean lesion probability, 0 - 1.
        probability: Calibrated probability that the lesion is an infarct; None if the method is not
            calibrated.
    """

    label: int
    volume_ml: float
    slices: int
    side: Side
    centroid_mm: tuple[float, float, float]
    centroid_mni_mm: tuple[float, float, float]
    dwi_ratio: float
    adc_ratio: float
    mean_adc: float
    mean_probability: float
    probability: float | None = None


@dataclass(frozen=True)
class Measurements:
    """The measurements of one scan; means are NaN without a lesion.

    Attributes:
        lesion_volume_ml: Volume of all lesions, ml.
        lesion_count: Number of 26-connected components.
        left_ml: Lesion volume left of the MNI midline, ml.
        right_ml: Lesion volume right of the MNI midline, ml.
        intracranial_volume_ml: Volume of the brain mask, ml.
        dwi_ratio: Mean DWI of all lesion voxels / mean DWI of normal tissue.
        adc_ratio: The same for ADC.
        mean_adc: Mean ADC of all lesion voxels, mm^2/s.
        lesions: Measurements of each lesion, largest first.
    """

    lesion_volume_ml: float
    lesion_count: int
    left_ml: float
    right_ml: float
    intracranial_volume_ml: float
    dwi_ratio: float
    adc_ratio: float
    mean_adc: float
    lesions: tuple[Lesion, ...]


def measure(lesion: Mask, scan: MeasurementImages, slice_axis: int) -> Measurements:
    """Measure a lesion mask.

    Args:
        lesion: (X, Y, Z) lesion mask, bool.
        scan: Images of the scan.
        slice_axis: Voxel axis along which slices are stacked.

    References:
        Liu et al. 2021, "Evaluation of efficiency": kappa is the ratio of the mean of lesion voxels
        to the mean of normal brain tissue, defined by an ADC of 0.4e-3 to 1.3e-3 mm^2/s.
    """
    tissue = scan.brain & ~lesion & (scan.adc > TISSUE_ADC[0]) & (scan.adc < TISSUE_ADC[1])
    normal_dwi, normal_adc = _mean(scan.dwi, tissue), _mean(scan.adc, tissue)
    ranked = pieces(lesion)
    n = int(ranked.max(initial=0))
    lesions = []
    for rank in range(1, n + 1):
        piece: Mask = ranked == rank
        at = np.argwhere(piece)
        x_mni = _mni_x(at, scan)
        centroid = _place(scan.grid.affine, at.mean(axis=0))
        lesions.append(
            Lesion(
                label=rank,
                volume_ml=len(at) * scan.grid.voxel_ml,
                slices=len(np.unique(at[:, slice_axis])),
                side=_side(float((x_mni < 0).mean())),
                centroid_mm=centroid,
                centroid_mni_mm=_place(scan.mni_from_native, np.array(centroid)),
                dwi_ratio=_mean(scan.dwi, piece) / normal_dwi,
                adc_ratio=_mean(scan.adc, piece) / normal_adc,
                mean_adc=_mean(scan.adc, piece),
                mean_probability=_mean(scan.probability, piece),
            )
        )
    left = int((_mni_x(np.argwhere(lesion), scan) < 0).sum())
    total = int(lesion.sum())
    return Measurements(
        lesion_volume_ml=total * scan.grid.voxel_ml,
        lesion_count=n,
        left_ml=left * scan.grid.voxel_ml,
        right_ml=(total - left) * scan.grid.voxel_ml,
        intracranial_volume_ml=int(scan.brain.sum()) * scan.grid.voxel_ml,
        dwi_ratio=_mean(scan.dwi, lesion) / normal_dwi,
        adc_ratio=_mean(scan.adc, lesion) / normal_adc,
        mean_adc=_mean(scan.adc, lesion),
        lesions=tuple(lesions),
    )


def is_doubtful(probability: float | None, adc_ratio: float | None) -> bool:
    """Return whether a lesion is doubtful: improbable, or with an ADC above that of normal tissue.

    Args:
        probability: Calibrated probability that the lesion is an infarct; None if unknown.
        adc_ratio: Mean ADC of the lesion / mean ADC of normal tissue; None or NaN if unknown.
    """
    improbable = probability is not None and probability < DOUBTFUL_BELOW
    return improbable or (adc_ratio is not None and adc_ratio > DOUBTFUL_ADC)


def pieces(lesion: Mask) -> NDArray[np.int32]:
    """Label the 26-connected components of a mask by decreasing size.

    Args:
        lesion: (X, Y, Z) lesion mask, bool.

    Returns:
        (X, Y, Z) labels: 1 for the largest component, 0 outside.
    """
    labels, n = ndimage.label(lesion, structure=np.ones((3, 3, 3)))
    rank = np.zeros(n + 1, dtype=np.int32)
    sizes = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    rank[np.argsort(-sizes, kind="stable") + 1] = np.arange(1, n + 1)
    return np.asarray(rank[labels])


def _mean(image: Image, where: Mask) -> float:
    return float(image[where].mean(dtype=np.float64)) if where.any() else math.nan


def _mni_x(voxels: np.ndarray, scan: MeasurementImages) -> np.ndarray:
    row = (scan.mni_from_native @ scan.grid.affine)[0]
    return np.asarray(voxels @ row[:3] + row[3])


def _place(affine: Affine, point: np.ndarray) -> tuple[float, float, float]:
    x, y, z = affine[:3, :3] @ point + affine[:3, 3]
    return float(x), float(y), float(z)


def _side(share_left: float) -> Side:
    if share_left >= _ONE_SIDED:
        return "left"
    return "right" if 1 - share_left >= _ONE_SIDED else "bilateral"
