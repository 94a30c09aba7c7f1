"""Keeps the candidates that are probable enough at an operating point."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from infarct.core.diffusion import Mask
from infarct.core.errors import AssetError
from infarct.measurement.volumetry import Measurements, measure, pieces
from infarct.uncertainty.calibration import (
    DEFAULT_POINT,
    Calibration,
    calibration_file,
    likeliest,
    parse_calibration,
    read_calibration_file,
)
from infarct.uncertainty.candidate_features import Evidence, features, peak_of, spread_of


@dataclass(frozen=True, eq=False)
class FilteredLesions:
    """What is left of the candidates, and how sure that is.

    Attributes:
        lesion: bool, what counts as lesion.
        measurements: Of it; each lesion has its `probability`.
        point: Name of the operating point.
        lesion_visible: Probability that the scan shows an infarct.
        volume_interval_ml: Holds the true volume with probability `COVERAGE`, if there is an
            infarct at all.
        left_out: How many candidates were too improbable.
        left_out_ml: Their volume.
    """

    lesion: Mask
    measurements: Measurements
    point: str
    lesion_visible: float
    volume_interval_ml: tuple[float, float]
    left_out: int
    left_out_ml: float


@dataclass(frozen=True)
class CandidateFilter:
    """A calibration at one of its operating points.

    Attributes:
        calibration: Of the method.
        point: Name of the operating point.
        file: Name of the file the calibration was read from; empty if it was not.
        sha256: Of that file.
    """

    calibration: Calibration
    point: str = DEFAULT_POINT
    file: str = ""
    sha256: str = ""

    @property
    def least_probability(self) -> float:
        """A candidate less probable than that is left out."""
        return self.calibration.points[self.point].least_probability

    def keeps(self, logits: ArrayLike) -> Mask:
        """Tell which candidates are probable enough to be outlined.

        Args:
            logits: (N,) from `Calibration.lesion_logit`.

        Returns:
            (N,).
        """
        # Written so that a candidate whose contrast can't be measured (NaN) is kept.
        keep: Mask = ~(expit(np.asarray(logits, dtype=np.float64)) < self.least_probability)
        return keep


def find_filter(method: str, point: str = "", own: Path | None = None) -> CandidateFilter | None:
    """Return who judges the candidates of a method; None of one that was never calibrated.

    Args:
        method: Its name.
        point: Operating point; empty for the usual one.
        own: As for `load_calibration`.

    Raises:
        AssetError: If the method has no such operating point.
    """
    file = calibration_file(method, own)
    content = read_calibration_file(file) if file else b""
    calibration = parse_calibration(file, content) if file else None
    points = [] if calibration is None else list(calibration.points)
    if point and point not in points:
        have = f"there are: {', '.join(points)}" if points else "it was never calibrated"
        raise AssetError(f"{method} has no operating point {point!r}; {have}")
    if file is None or calibration is None:
        return None
    digest = hashlib.sha256(content).hexdigest()
    return CandidateFilter(calibration, point or DEFAULT_POINT, file.name, digest)


def filter_candidates(
    evidence: Evidence, by: CandidateFilter, *, keep_all: bool = False
) -> FilteredLesions:
    """Keep the candidates that are probable enough, measure them, and say how sure that is.

    Args:
        evidence: Of one scan.
        by: Of the method.
        keep_all: Remove no candidate, because the calibration does not hold for this scan.
    """
    scan, calibration = evidence.scan, by.calibration
    every = measure(evidence.candidates, scan, evidence.slice_axis)
    logits = [calibration.lesion_logit(row) for row in features(evidence, every)]
    probabilities = expit(logits)
    keep = np.ones(len(logits), dtype=bool) if keep_all else by.keeps(logits)
    lesion = keep_pieces(evidence.candidates, keep)
    kept = measure(lesion, scan, evidence.slice_axis)
    named = tuple(
        replace(one, probability=float(p))
        for one, p in zip(kept.lesions, probabilities[keep], strict=True)
    )
    seen = calibration.scan.logit((likeliest(logits), peak_of(scan)))
    return FilteredLesions(
        lesion=lesion,
        measurements=replace(kept, lesions=named),
        point=by.point,
        lesion_visible=float(expit(seen)),
        volume_interval_ml=calibration.interval_of(kept.lesion_volume_ml, spread_of(scan)),
        left_out=int((~keep).sum()),
        left_out_ml=every.lesion_volume_ml - kept.lesion_volume_ml,
    )


def keep_pieces(candidates: Mask, keep: Mask) -> Mask:
    """Return some of the pieces of a mask.

    Args:
        candidates: (X, Y, Z) bool, N pieces.
        keep: (N,) which of them, largest first.
    """
    kept: Mask = np.concatenate([[False], keep])[pieces(candidates)]
    return kept
