"""Features of lesion candidates that help to distinguish infarcts from artefacts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import logit

from infarct.core.diffusion import Image, Mask
from infarct.core.distances import depth_in
from infarct.measurement.volumetry import MeasurementImages, Measurements, pieces

FEATURES = (
    "log_volume_ml",
    "mean_logit",
    "peak_logit",
    "dwi_ratio",
    "adc_ratio",
    "confirmed_share",
    "opposite_dwi",
    "opposite_adc",
    "log_depth_mm",
    "log_beside_ml",
    "height_mm",
    "rim_dwi",
    "log_other_foci",
)
"""Features of a candidate, in order. `confirmed_share` is the share of the candidate that the
second method also segments. `opposite_dwi` and `opposite_adc` are log ratios to the mirrored
position, because skull-base artefacts are often symmetric. Depth is measured from the surface of
the brain. `log_beside_ml` is the log volume of the largest other candidate, because infarcts often
occur together. `height_mm` is the MNI z of the centroid, because artefacts gather at the skull
base. `rim_dwi` is the log ratio of the DWI around the candidate to that of the brain: the rest of a
bright band raises it. `log_other_foci` grows with the number and mean probability of the other
candidates, because emboli come in groups. Calibrations fitted to fewer features use the first ones.
"""

_RIM_MM = 4.0
"""Width of the rim around a candidate."""

_SMALLEST_OTHER_ML = 0.02
"""Added to the volume of the largest other candidate before taking the logarithm."""

LARGEST_LOGIT = 7.0
"""Logits are clipped to +/- this value, beyond which the networks are saturated."""

_WIDE, _NARROW = 0.2, 0.8
"""Probability thresholds of the widest and the narrowest plausible lesion mask."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Input of the candidate filter; all images are (X, Y, Z) on the grid of the scan.

    Attributes:
        scan: Images to measure the candidates on.
        candidates: bool, candidates of the method.
        second: bool, lesion mask of the second method.
        opposite_dwi: DWI at the mirrored position in the other hemisphere.
        opposite_adc: ADC at the mirrored position, mm^2/s.
        slice_axis: Voxel axis along which the slices are stacked.
    """

    scan: MeasurementImages
    candidates: Mask
    second: Mask
    opposite_dwi: Image
    opposite_adc: Image
    slice_axis: int


def features(evidence: Evidence, measured: Measurements) -> list[tuple[float, ...]]:
    """Return the `FEATURES` of each candidate, largest first.

    Args:
        evidence: Candidates and images of one scan.
        measured: Measurements of the candidates.
    """
    if not measured.lesions:
        return []
    scan, ranked = evidence.scan, pieces(evidence.candidates)
    labels = [one.label for one in measured.lesions]

    def mean(image: NDArray[Any]) -> list[float]:
        return [float(x) for x in ndimage.mean(image, ranked, labels)]

    inside = ranked > 0
    peaks = np.zeros(len(labels) + 1)
    # ndimage.maximum would sort all voxels of the scan.
    np.maximum.at(peaks, ranked[inside], scan.probability[inside])
    depth = depth_in(scan.brain, scan.grid.spacing)
    # Sorted by size: the largest other candidate is the second for the first, else the first.
    largest, second = (*(one.volume_ml for one in measured.lesions), 0.0)[:2]
    foci = sum(one.mean_probability for one in measured.lesions)
    columns = zip(
        measured.lesions,
        peaks[labels],
        mean(evidence.second),
        _log_ratios(mean(scan.dwi), mean(evidence.opposite_dwi)),
        _log_ratios(mean(scan.adc), mean(evidence.opposite_adc)),
        mean(depth),
        _rims(evidence, ranked, labels),
        strict=True,
    )
    return [
        (
            math.log(one.volume_ml),
            _logit(one.mean_probability),
            _logit(float(peak)),
            one.dwi_ratio,
            one.adc_ratio,
            share,
            dwi,
            adc,
            math.log1p(mm),
            math.log(_SMALLEST_OTHER_ML + (largest if number else second)),
            one.centroid_mni_mm[2],
            rim,
            math.log1p(foci - one.mean_probability),
        )
        for number, (one, peak, share, dwi, adc, mm, rim) in enumerate(columns)
    ]


def _rims(evidence: Evidence, ranked: NDArray[np.int32], labels: Sequence[int]) -> Sequence[float]:
    """Return the log ratio of the DWI in the rim of each candidate to that of the brain."""
    scan = evidence.scan
    reach = [math.ceil(_RIM_MM / mm) for mm in scan.grid.spacing]
    free = scan.brain & ~evidence.candidates
    brightness: list[float] = []
    for label, box in zip(labels, ndimage.find_objects(ranked), strict=True):
        wide = tuple(
            slice(max(s.start - n, 0), s.stop + n) for s, n in zip(box, reach, strict=True)
        )
        apart = ndimage.distance_transform_edt(ranked[wide] != label, scan.grid.spacing)
        rim = scan.dwi[wide][(apart <= _RIM_MM) & free[wide]]
        brightness.append(float(rim.mean()) if rim.size else math.nan)
    usual = float(scan.dwi[free].mean()) if free.any() else 1.0
    # Without a rim in the brain there is nothing to compare.
    rims = np.where(np.isfinite(brightness), brightness, usual)
    return _log_ratios(rims.tolist(), [usual] * len(rims))


def _log_ratios(here: Sequence[float], there: Sequence[float]) -> list[float]:
    """Return log ratios, clipped because the signal outside the brain may be zero."""
    tiny = float(np.finfo(np.float64).tiny)
    ratios = np.maximum(here, tiny) / np.maximum(there, tiny)
    return [float(x) for x in np.clip(np.log(ratios), -1.5, 1.5)]


def peak_of(scan: MeasurementImages) -> float:
    """Return the clipped logit of the highest voxel probability in the brain."""
    return _logit(float(scan.probability[scan.brain].max(initial=0.0)))


def spread_of(scan: MeasurementImages) -> tuple[float, float]:
    """Return the lesion volumes at a very low and a very high probability threshold, ml."""
    inside = scan.probability[scan.brain]
    wide, narrow = (float((inside > p).sum()) * scan.grid.voxel_ml for p in (_WIDE, _NARROW))
    return wide, narrow


def _logit(probability: float) -> float:
    return float(np.clip(logit(probability), -LARGEST_LOGIT, LARGEST_LOGIT))
