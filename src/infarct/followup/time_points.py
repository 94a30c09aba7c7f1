"""The scans of one patient: reading, order, and scans that cannot be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np

from infarct.core.diffusion import TISSUE_ADC, Image, Mask
from infarct.core.errors import FollowUpError, InputFileError
from infarct.followup.registration import Alignment, Scan
from infarct.reporting.radiological_view import to_radiological
from infarct.reporting.reader import Stored, read_stored

SAME_SCAN = 0.9995
"""Correlation of two DWI on equal grids above which they are copies of one scan: the noise of two
acquisitions lowers it below .998."""

OTHER_PATIENT = 0.7
"""Similarity below which two brains are not the same one."""

LEAST_OVERLAP = 0.85
"""Dice of the brain masks below which a registration has failed."""

MOST_DISAGREEMENT_MM = 3.0
"""Distance between the two directions of a registration above which it has failed."""


@dataclass(frozen=True, eq=False)
class TimePoint:
    """One scan of a patient and its result.

    Attributes:
        name: Number and folder of the scan, for messages and tables.
        stored: The result.
        when: Date of the scan, with the time if known; None if unknown.
    """

    name: str
    stored: Stored
    when: datetime | None

    @property
    def scan(self) -> Scan:
        """What the registration needs."""
        stored = self.stored
        return Scan(
            stored.b0,
            stored.adc,
            stored.brain.data,
            stored.lesion.data,
            stored.atlas_from_native,
        )

    @property
    def normal(self) -> Mask:
        """(X, Y, Z) normal tissue, defined as in `measurement.volumetry`."""
        stored = self.stored
        low, high = TISSUE_ADC
        adc = stored.adc.data
        normal: Mask = stored.brain.data & ~stored.lesion.data & (adc > low) & (adc < high)
        return normal

    def relative(self, image: Image) -> Image:
        """Return an image as a ratio to its mean in normal tissue."""
        normal = self.normal
        level = float(image[normal].mean()) if normal.any() else np.nan
        return np.asarray(image / np.float32(level))


def read_time_points(folders: Sequence[Path], times: Sequence[str] = ()) -> list[TimePoint]:
    """Read the results of all scans, and refuse copies and the wrong order.

    Args:
        folders: Result folders of `infarct segment`, first scan first; at least two.
        times: Date of each scan in ISO 8601; if empty, the dates in the results are used.

    Raises:
        FollowUpError: If a scan is given twice or the dates are not in order.
        InputFileError: If a result or a date cannot be read.
    """
    results = [read_stored(folder) for folder in folders]
    dates = list(times) or [stored.label.scan_date for stored in results]
    # A date that was given must be valid; one in a result is free text.
    whens = [_parsed(date, strict=bool(times)) for date in dates]
    points = [
        TimePoint(f"scan {number} ({folder.name})", stored, when)
        for number, (folder, stored, when) in enumerate(
            zip(folders, results, whens, strict=True), start=1
        )
    ]
    for one, other in combinations(points, 2):
        _refuse_copy(one, other)
    for one, other in pairwise(points):
        _refuse_wrong_order(one, other)
    return points


def hours_between(first: TimePoint, second: TimePoint) -> float | None:
    """Return the time between two scans, hours; None if a date is unknown."""
    if first.when is None or second.when is None:
        return None
    return (second.when - first.when).total_seconds() / 3600


def check_alignment(first: TimePoint, second: TimePoint, found: Alignment) -> None:
    """Refuse a pair of scans whose brains do not match.

    Raises:
        FollowUpError: If the registration failed, or the scans show different brains.
    """
    pair = f"{first.name} and {second.name}"
    facts = (
        f"similarity {found.similarity:.2f}, overlap {found.overlap:.2f}, "
        f"{found.disagreement_mm:.1f} mm between the two directions"
    )
    if not found.similarity >= OTHER_PATIENT:  # NaN, from constant images, fails as well
        raise FollowUpError(
            f"{pair} do not show the same brain ({facts}; expected a similarity of at least "
            f"{OTHER_PATIENT}); check that both are scans of the head of one patient, and that "
            "neither is badly distorted"
        )
    if found.overlap < LEAST_OVERLAP or found.disagreement_mm > MOST_DISAGREEMENT_MM:
        raise FollowUpError(
            f"{pair} could not be registered ({facts}; expected an overlap of at least "
            f"{LEAST_OVERLAP} and at most {MOST_DISAGREEMENT_MM} mm); check the brain masks, or "
            "segment a scan again with --brain"
        )


def _parsed(date: str, *, strict: bool) -> datetime | None:
    try:
        return datetime.fromisoformat(date).replace(tzinfo=None)
    except ValueError as error:
        if strict:
            raise InputFileError(
                f"{date!r} is not a date; expected ISO 8601, such as 2026-03-01 or 2026-03-01T14:30"
            ) from error
        return None


def _refuse_copy(one: TimePoint, other: TimePoint) -> None:
    hashes = [
        (point.stored.manifest["inputs"].get("dwi") or {}).get("sha256") for point in (one, other)
    ]
    if (hashes[0] is not None and hashes[0] == hashes[1]) or _is_copy(one.stored, other.stored):
        raise FollowUpError(
            f"{one.name} and {other.name} are the same scan; give one scan of each time point"
        )


def _is_copy(one: Stored, other: Stored) -> bool:
    """Return whether two DWI hold the same voxels, in any order of the axes and any unit."""
    a, b = (to_radiological(stored.dwi.data, stored.dwi.affine) for stored in (one, other))
    if a.shape != b.shape:
        return False
    return bool(np.corrcoef(a.ravel(), b.ravel())[0, 1] > SAME_SCAN)


def _refuse_wrong_order(one: TimePoint, other: TimePoint) -> None:
    hours = hours_between(one, other)
    if hours is not None and hours < 0:
        raise FollowUpError(
            f"{one.name} is dated {one.when}, after {other.name} ({other.when}); give the scans in "
            "the order in which they were made, or correct the dates with --times"
        )
