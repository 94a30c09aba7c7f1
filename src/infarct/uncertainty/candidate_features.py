"""What a judge of candidates looks at: the numbers that tell an infarct from an artefact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import logit

from infarct.core.diffusion import Image, Mask
from infarct.measurement.volumetry import MeasurementImages, Measurements, pieces

FEATURES = (
    "log_volume_ml",
    "mean_logit",
    "peak_logit",
    "kappa_dwi",
    "kappa_adc",
    "confirmed_share",
    "opposite_dwi",
    "opposite_adc",
    "log_depth_mm",
    "log_beside_ml",
)
"""What a candidate is judged by, in order. `confirmed_share` of it a second reader outlines too;
`opposite_dwi` and `opposite_adc` are log ratios to the same place of the other hemisphere, which
artefacts at the skull base often share; depth is below the brain's surface; `log_beside_ml` is that
of the largest other candidate, for infarcts come in company."""

_SMALLEST_BESIDE_ML = 0.02
"""Added to the volume of what lies beside: less is as good as nothing."""

LARGEST_LOGIT = 7.0
"""Either way; beyond, a network is no surer, only more saturated."""

_WIDE, _NARROW = 0.2, 0.8
"""Probabilities between which a voxel may go either way."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a judge looks at, all (X, Y, Z) on the grid of the scan.

    Attributes:
        scan: What was outlined on.
        candidates: bool, outlined by the method.
        second: bool, outlined by the second reader.
        opposite_dwi: DWI of the same place in the other hemisphere.
        opposite_adc: ADC there, mm^2/s.
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
        evidence: Of one scan.
        measured: Its candidates, measured.
    """
    if not measured.lesions:
        return []
    scan, ranked = evidence.scan, pieces(evidence.candidates)
    labels = [one.label for one in measured.lesions]

    def mean(image: Image | Mask) -> list[float]:
        return [float(x) for x in ndimage.mean(image, ranked, labels)]

    peaks = ndimage.maximum(scan.probability, ranked, labels)
    depth = ndimage.distance_transform_edt(scan.brain, scan.grid.spacing)
    # They come largest first: beside the largest lies the second, beside all others the largest.
    largest, second = (*(one.volume_ml for one in measured.lesions), 0.0)[:2]
    columns = zip(
        measured.lesions,
        peaks,
        mean(evidence.second),
        _log_ratios(mean(scan.dwi), mean(evidence.opposite_dwi)),
        _log_ratios(mean(scan.adc), mean(evidence.opposite_adc)),
        mean(depth),
        strict=True,
    )
    return [
        (
            math.log(one.volume_ml),
            _logit(one.mean_probability),
            _logit(float(peak)),
            one.kappa_dwi,
            one.kappa_adc,
            share,
            dwi,
            adc,
            math.log1p(mm),
            math.log(_SMALLEST_BESIDE_ML + (largest if number else second)),
        )
        for number, (one, peak, share, dwi, adc, mm) in enumerate(columns)
    ]


def _log_ratios(here: Sequence[float], there: Sequence[float]) -> list[float]:
    """Return log ratios, within bounds: beside the brain there may be nothing at all."""
    tiny = float(np.finfo(np.float64).tiny)
    ratios = np.maximum(here, tiny) / np.maximum(there, tiny)
    return [float(x) for x in np.clip(np.log(ratios), -1.5, 1.5)]


def peak_of(scan: MeasurementImages) -> float:
    """Return the logit of the network's likeliest voxel of the brain, within bounds."""
    return _logit(float(scan.probability[scan.brain].max(initial=0.0)))


def spread_of(scan: MeasurementImages) -> tuple[float, float]:
    """Return the volumes, ml, that a very bold and a very timid reader would outline."""
    inside = scan.probability[scan.brain]
    bold, timid = (float((inside > p).sum()) * scan.grid.voxel_ml for p in (_WIDE, _NARROW))
    return bold, timid


def _logit(probability: float) -> float:
    return float(np.clip(logit(probability), -LARGEST_LOGIT, LARGEST_LOGIT))
