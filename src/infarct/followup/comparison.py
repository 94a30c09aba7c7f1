"""Comparison of two scans of one patient: growth, fate of the tissue, and signal."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

import numpy as np

from infarct.core.diffusion import Image, Mask
from infarct.core.nifti import Volume
from infarct.core.resampling import resample
from infarct.followup.change import (
    Fate,
    Ratios,
    Tissue,
    count_separate,
    fates,
    measure_tissue,
    onto,
    pseudonormalised,
)
from infarct.followup.paired_interval import Bounds, growth_interval, load_paired_errors
from infarct.followup.registration import Alignment, align
from infarct.followup.time_points import TimePoint, check_alignment, hours_between
from infarct.measurement.atlas import load_atlas
from infarct.measurement.localization import Part, look_up

AtlasName = Literal["territories", "regions"]
ATLASES: tuple[AtlasName, ...] = ("territories", "regions")

_LEAST_COVERED = 0.98
"""Share of the earlier lesion below which the later scan does not cover it."""

_PSEUDONORMALISED = 0.1
"""Share of the earlier lesion from which pseudo-normalisation is reported."""


@dataclass(frozen=True)
class Growth:
    """Difference of the lesion volumes of two scans.

    Attributes:
        ml: Second minus first volume, ml.
        interval_ml: Its interval, ml; None if the interval of a volume is unknown.
        percent: Growth relative to the first volume, %; None if that is 0.
        interval_percent: `interval_ml` relative to the first volume.
        verdict: `growth` or `shrinkage` if the interval excludes 0; otherwise `no change`, or
            `unknown` without an interval.
    """

    ml: float
    interval_ml: Bounds | None
    percent: float | None
    interval_percent: Bounds | None
    verdict: str


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two scans of one patient, compared in the space of the second.

    Attributes:
        first: Earlier scan.
        second: Later scan.
        alignment: Rigid registration.
        growth: Difference of the volumes, each measured in its own space.
        fate: Label map on the grid of the second scan, see `change.Fate`.
        tissue: Measurements of each fate.
        new_lesions: Number of lesions that are separate from every earlier one.
        resolved_lesions: Number of earlier lesions of which nothing is left.
        pseudonormalised_ml: Volume of the earlier lesion with normal ADC but prolonged T2, ml.
        covered: Share of the earlier lesion that the second scan covers.
        hours: Time between the scans; None if unknown.
        ratios: Both scans as ratios to normal tissue, on the grid of the second.
    """

    first: TimePoint
    second: TimePoint
    alignment: Alignment
    growth: Growth
    fate: Volume
    tissue: dict[Fate, Tissue]
    new_lesions: int
    resolved_lesions: int
    pseudonormalised_ml: float
    covered: float
    hours: float | None
    ratios: tuple[Ratios, Ratios]

    @property
    def remarks(self) -> list[str]:
        """Sentences that a reader must know before using the numbers."""
        remarks = []
        if self.covered < _LEAST_COVERED:
            remarks.append(
                f"{self.second.name} covers only {self.covered:.0%} of the lesion of "
                f"{self.first.name}; the growth is underestimated."
            )
        before = self.tissue[Fate.persistent].ml + self.tissue[Fate.reversed].ml
        if before and self.pseudonormalised_ml >= _PSEUDONORMALISED * before:
            remarks.append(
                f"ADC pseudo-normalisation in {self.pseudonormalised_ml:.1f} ml of the earlier "
                "lesion: its ADC is normal again but its T2 is prolonged. This tissue is "
                "infarcted, not recovered; a mask based on diffusion may miss it."
            )
        if self.growth.interval_ml is None:
            remarks.append(
                "No interval of the growth: a volume has none (manual correction, an image "
                "warning, or a method without calibration)."
            )
        return remarks

    def parts(self, kind: AtlasName) -> list[tuple[Fate, Part]]:
        """Return the volume of each fate in each part of an atlas, in the space of the second scan.

        Args:
            kind: The bundled atlas.
        """
        place = self.second.stored.atlas_from_native
        found = look_up(self.fate.data > 0, load_atlas(kind), self.fate.grid, place)
        names = {"territories": attrgetter("group"), "regions": attrgetter("name")}
        return [
            (fate, part)
            for fate in Fate
            for part in found.within(self.fate.data == fate).parts(names[kind])
        ]


def compare(first: TimePoint, second: TimePoint, alignment: Alignment | None = None) -> Comparison:
    """Compare two scans of one patient.

    Args:
        first: Earlier scan.
        second: Later scan.
        alignment: Their registration; computed if None.

    Raises:
        FollowUpError: If the scans cannot be registered or show different brains.
    """
    found = alignment or align(first.scan, second.scan)
    check_alignment(first, second, found)
    grid = second.stored.lesion.grid
    first_from_second = np.linalg.inv(found.second_from_first)
    earlier = onto(first.stored.lesion, grid, first_from_second)
    later: Mask = second.stored.lesion.data
    label = fates(earlier, later, grid)
    ratios = (_ratios_on(first, second, first_from_second), _ratios(second))
    return Comparison(
        first=first,
        second=second,
        alignment=found,
        growth=_growth(first, second),
        fate=second.stored.lesion.like(label),
        tissue={fate: measure_tissue(label == fate, *ratios, grid) for fate in Fate},
        new_lesions=count_separate(later, earlier, grid),
        resolved_lesions=count_separate(earlier, later, grid),
        pseudonormalised_ml=float(pseudonormalised(earlier, *ratios).sum()) * grid.voxel_ml,
        covered=_covered(first, earlier, grid.voxel_ml),
        hours=hours_between(first, second),
        ratios=ratios,
    )


def _covered(first: TimePoint, earlier: Mask, voxel_ml: float) -> float:
    ml = float(first.stored.summary["lesion_volume_ml"])
    return min(1.0, float(earlier.sum()) * voxel_ml / ml) if ml else 1.0


def _ratios(point: TimePoint) -> Ratios:
    stored = point.stored
    adc, dwi, b0 = (point.relative(v.data) for v in (stored.adc, stored.dwi, stored.b0))
    return Ratios(adc, dwi, b0)


def _ratios_on(first: TimePoint, second: TimePoint, first_from_second: np.ndarray) -> Ratios:
    own, stored = _ratios(first), first.stored

    def moved(image: Image) -> Image:
        grid = second.stored.lesion.grid
        return np.asarray(resample(stored.dwi.like(image), grid, first_from_second))

    return Ratios(moved(own.adc), moved(own.dwi), moved(own.b0))


def volume_interval(point: TimePoint) -> Bounds | None:
    """Return the interval of the lesion volume of a scan, ml; None if it has none."""
    confidence = point.stored.summary.get("confidence") or {}
    bounds = confidence.get("volume_interval_ml")
    return (float(bounds[0]), float(bounds[1])) if bounds else None


def _growth(first: TimePoint, second: TimePoint) -> Growth:
    before, after = (float(p.stored.summary["lesion_volume_ml"]) for p in (first, second))
    ml = after - before
    bounds = volume_interval(first), volume_interval(second)
    interval = None
    if bounds[0] is not None and bounds[1] is not None:
        correlation = load_paired_errors().correlation
        interval = growth_interval(before, bounds[0], after, bounds[1], correlation)
    relative = None
    if interval is not None and before:
        relative = (100 * interval[0] / before, 100 * interval[1] / before)
    return Growth(ml, interval, 100 * ml / before if before else None, relative, _verdict(interval))


def _verdict(interval: Bounds | None) -> str:
    if interval is None:
        return "unknown"
    if interval[0] > 0:
        return "growth"
    return "shrinkage" if interval[1] < 0 else "no change"
