"""Filter lesion candidates by their calibrated probability at an operating point."""

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
    """The accepted candidates and their confidence.

    Attributes:
        lesion: (X, Y, Z) bool, lesion mask.
        measurements: Measurements of the lesions; each lesion has a `probability`.
        point: Name of the operating point.
        infarct_probability: Probability that the scan shows an infarct, 0 - 1.
        volume_interval_ml: (low, high) interval that contains the true volume with probability
            `COVERAGE` if there is an infarct, ml.
        rejected: Number of rejected candidates.
        rejected_ml: Total volume of the rejected candidates, ml.
        failure_probability: Probability that the mask is a failure, see `FailureGate`, 0 - 1; None
            for an empty mask, or if the calibration does not predict it.
        failure_limit: A warning is given from this probability.
    """

    lesion: Mask
    measurements: Measurements
    point: str
    infarct_probability: float
    volume_interval_ml: tuple[float, float]
    rejected: int
    rejected_ml: float
    failure_probability: float | None = None
    failure_limit: float = 1.0


@dataclass(frozen=True)
class CandidateFilter:
    """A calibration at one of its operating points.

    Attributes:
        calibration: Calibration of the method.
        point: Name of the operating point.
        file: Name of the calibration file; empty if the calibration was not read from a file.
        sha256: SHA-256 of that file.
    """

    calibration: Calibration
    point: str = DEFAULT_POINT
    file: str = ""
    sha256: str = ""

    @property
    def least_probability(self) -> float:
        """Candidates with a lower probability are rejected."""
        return self.calibration.points[self.point].least_probability

    def keeps(self, logits: ArrayLike) -> Mask:
        """Return which candidates are accepted.

        Args:
            logits: (N,) from `Calibration.lesion_logit`.

        Returns:
            (N,) bool.
        """
        # Negated, so that candidates whose contrast cannot be measured (NaN) are kept.
        keep: Mask = ~(expit(np.asarray(logits, dtype=np.float64)) < self.least_probability)
        return keep


def find_filter(method: str, point: str = "", own: Path | None = None) -> CandidateFilter | None:
    """Return the candidate filter of a method, or None if the method is not calibrated.

    Args:
        method: Name of the method.
        point: Operating point; empty for the default.
        own: Folder with the user's calibrations, as for `load_calibration`.

    Raises:
        AssetError: If the method has no such operating point.
    """
    file = calibration_file(method, own)
    content = read_calibration_file(file) if file else b""
    calibration = parse_calibration(file, content) if file else None
    points = [] if calibration is None else list(calibration.points)
    if point and point not in points:
        reason = f"available: {', '.join(points)}" if points else "the method is not calibrated"
        raise AssetError(f"{method} has no operating point {point!r}; {reason}")
    if file is None or calibration is None:
        return None
    digest = hashlib.sha256(content).hexdigest()
    return CandidateFilter(calibration, point or DEFAULT_POINT, file.name, digest)


def filter_candidates(
    evidence: Evidence, by: CandidateFilter, *, keep_all: bool = False
) -> FilteredLesions:
    """Reject improbable candidates, measure the others, and compute their confidence.

    Args:
        evidence: Candidates and images of one scan.
        by: Candidate filter of the method.
        keep_all: Keep all candidates, because the calibration does not hold for this scan.
    """
    scan, calibration = evidence.scan, by.calibration
    every = measure(evidence.candidates, scan, evidence.slice_axis)
    logits = [calibration.lesion_logit(row) for row in features(evidence, every)]
    probabilities = expit(logits)
    keep = np.ones(len(logits), dtype=bool) if keep_all else by.keeps(logits)
    lesion = keep_pieces(evidence.candidates, keep)
    kept = measure(lesion, scan, evidence.slice_axis)
    lesions = tuple(
        replace(one, probability=float(p))
        for one, p in zip(kept.lesions, probabilities[keep], strict=True)
    )
    visible = calibration.scan.logit((likeliest(logits), peak_of(scan)))
    spread = spread_of(scan)
    failure = calibration.failure_logit(kept.lesion_volume_ml, spread, likeliest(logits))
    return FilteredLesions(
        lesion=lesion,
        measurements=replace(kept, lesions=lesions),
        point=by.point,
        infarct_probability=float(expit(visible)),
        volume_interval_ml=calibration.interval_of(kept.lesion_volume_ml, spread),
        rejected=int((~keep).sum()),
        rejected_ml=every.lesion_volume_ml - kept.lesion_volume_ml,
        failure_probability=None if failure is None else float(expit(failure)),
        failure_limit=calibration.failure.limit if calibration.failure else 1.0,
    )


def keep_pieces(candidates: Mask, keep: Mask) -> Mask:
    """Return a mask with only some of its connected components.

    Args:
        candidates: (X, Y, Z) bool with N components.
        keep: (N,) bool, components to keep, largest first.

    Returns:
        (X, Y, Z) bool.
    """
    kept: Mask = np.concatenate([[False], keep])[pieces(candidates)]
    return kept
