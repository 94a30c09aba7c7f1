"""Where lesions lie: arterial territories, regions, and the pattern they make.

Every voxel of the scan is looked up in MNI space; nothing is ever counted on the MNI grid. A share
of a territory is a share of those voxels of the scan that lie in it: of what was scanned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from infarct.core.diffusion import Mask
from infarct.core.geometry import Affine, Grid
from infarct.core.resampling import resample
from infarct.measurement.atlas import Atlas, Entry, Hemisphere, Labels, load_atlas, load_certainty
from infarct.measurement.volumetry import pieces

Compartment = Literal["cortical", "deep", "infratentorial", "ventricle", "unknown"]
Count = Literal["single", "multiple", "none"]

_REACH_MM = 8.0
"""How far outside an atlas a lesion voxel still takes the nearest label: heads differ that much."""

_CORTICAL = 0.2
"""Share of a lesion in cortex from which it is cortical; a deep one touches it at a rim at most."""

_MINOR = 0.1
"""Share of the lesion from which a further territory or hemisphere counts as touched."""

_MIXED = 0.6
"""Probability of the likeliest territory below which a voxel lies in a border zone."""


@dataclass(frozen=True)
class Part:
    """How much of a lesion lies in one part of an atlas.

    Attributes:
        name: Of the part, without its side.
        side: `left`, `right`, or empty.
        group: What the part belongs to, see `atlas.Entry`.
        ml: Lesion in it, native ml.
        share_of_part: Of the part's volume on the scan, 0 - 1.
        share_of_lesion: Of all lesion voxels, 0 - 1.
        parts: What it is made of, if the atlas divides it further.
    """

    name: str
    side: Hemisphere
    group: str
    ml: float
    share_of_part: float
    share_of_lesion: float
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class LesionLocation:
    """Where one lesion lies.

    Attributes:
        label: As in `volumetry.Lesion`.
        territory: Name and side of the territory that holds most of it; `unknown` outside all.
        compartment: Infratentorial if half of it is; else cortical if a fifth of it is; else deep.
    """

    label: int
    territory: str
    compartment: Compartment


@dataclass(frozen=True)
class Pattern:
    """What all lesions together look like.

    Attributes:
        hemispheres: Those with more than a tenth of the lesion.
        lesions: One piece or several.
        territories: Those with more than a tenth of the lesion, left and right apart.
        dominant_territory: Name and side of the one with most ml; empty if there is none.
        border_zone_share: Of the lesion, where no artery is likelier than .6; NaN without a lesion.
    """

    hemispheres: Literal["left", "right", "both", "none"]
    lesions: Count
    territories: Count
    dominant_territory: str
    border_zone_share: float


@dataclass(frozen=True, eq=False)
class Localization:
    """Where the lesions of one scan lie.

    Attributes:
        territories: Territories touched, most ml first; their sub-territories in `parts`.
        regions: Regions touched, most ml first.
        lesions: One by one, as numbered in `quantify`.
        pattern: All together.
        atlas: The atlas of territories that was used.
    """

    territories: tuple[Part, ...]
    regions: tuple[Part, ...]
    lesions: tuple[LesionLocation, ...]
    pattern: Pattern
    atlas: Atlas


@dataclass(frozen=True, eq=False)
class Lookup:
    """An atlas on the grid of a scan, and the lesion on it.

    Attributes:
        labels: (X, Y, Z) the atlas's label of every voxel of the scan; lesion voxels a little
            outside the atlas have the nearest label.
        scanned: (largest label + 1,) voxels of the scan with each label.
        lesion: (X, Y, Z) bool.
        entries: Of the atlas.
        voxel_ml: Native ml.
    """

    labels: Labels
    scanned: NDArray[np.intp]
    lesion: Mask
    entries: tuple[Entry, ...]
    voxel_ml: float

    def parts(self, name_of: Callable[[Entry], str]) -> list[Part]:
        """Tabulate the lesion.

        Args:
            name_of: Row that an entry goes to; sides stay apart.

        Returns:
            Rows that hold lesion, most ml first.
        """
        rows: dict[tuple[str, Hemisphere], list[Entry]] = {}
        for entry in self.entries:
            rows.setdefault((name_of(entry), entry.side), []).append(entry)
        held = np.bincount(self.labels[self.lesion], minlength=self.scanned.size)
        parts = []
        for (name, side), members in rows.items():
            index = [entry.index for entry in members]
            n = int(held[index].sum())
            if n:
                share, of_lesion = n / int(self.scanned[index].sum()), n / int(self.lesion.sum())
                group = members[0].group
                parts.append(Part(name, side, group, n * self.voxel_ml, share, of_lesion))
        return sorted(parts, key=lambda part: -part.ml)

    def within(self, piece: Mask) -> Lookup:
        """Return the same for one lesion of several."""
        return replace(self, lesion=piece)


def look_up(
    lesion: Mask,
    atlas: Atlas,
    grid: Grid,
    mni_from_native: Affine,
    scanned: Mask | None = None,
    whole: Atlas | None = None,
) -> Lookup:
    """Look up every voxel of a scan in an atlas; lesion close beside it takes the nearest label.

    Args:
        lesion: (X, Y, Z) bool.
        atlas: In MNI space.
        grid: Of the scan.
        mni_from_native: (4, 4) world of the grid -> MNI mm.
        scanned: (X, Y, Z) what of the grid was scanned; all of it if None.
        whole: Another atlas, of all the brain, for one that leaves some of it out on purpose:
            lesion that has a label there lies beside no label here.
    """
    labels = resample(atlas.labels, grid, mni_from_native, labels=True)
    lost = lesion & (labels == 0)
    if whole:
        lost &= resample(whole.labels, grid, mni_from_native, labels=True) == 0
    if lost.any():
        apart, nearest = ndimage.distance_transform_edt(
            labels == 0, sampling=grid.spacing, return_indices=True
        )
        lost &= apart <= _REACH_MM
        labels[lost] = labels[tuple(axis[lost] for axis in nearest)]
    size = max(entry.index for entry in atlas.entries) + 1
    seen = labels.ravel() if scanned is None else labels[scanned | lesion]
    return Lookup(labels, np.bincount(seen, minlength=size), lesion, atlas.entries, grid.voxel_ml)


def locate(
    lesion: Mask,
    grid: Grid,
    mni_from_native: Affine,
    territories: Atlas | None = None,
    scanned: Mask | None = None,
) -> Localization:
    """Say where the lesions of a scan lie.

    Args:
        lesion: (X, Y, Z) bool.
        grid: Of the scan.
        mni_from_native: (4, 4) world of the grid -> MNI mm, as good as it gets: an affine.
        territories: Another atlas of territories than the one that ships.
        scanned: As for `look_up`.
    """
    atlas = territories or load_atlas("territories")
    by_territory = look_up(lesion, atlas, grid, mni_from_native, scanned)
    by_region = look_up(lesion, load_atlas("regions"), grid, mni_from_native, scanned)
    majors = _with_parts(by_territory)
    ranked = pieces(lesion)
    lesions = tuple(
        LesionLocation(
            label,
            _named(by_territory.within(ranked == label).parts(_group)),
            _compartment(by_region.within(ranked == label).parts(_group)),
        )
        for label in range(1, int(ranked.max(initial=0)) + 1)
    )
    mixed = math.nan if territories else _border_zone_share(lesion, grid, mni_from_native)
    pattern = Pattern(
        _hemispheres(lesion, grid, mni_from_native),
        _count(len(lesions)),
        _count(sum(part.share_of_lesion > _MINOR for part in majors)),
        _named(majors) if lesion.any() else "",
        mixed,
    )
    regions = tuple(by_region.parts(_name))
    return Localization(tuple(majors), regions, lesions, pattern, atlas)


def _name(entry: Entry) -> str:
    return entry.name


def _group(entry: Entry) -> str:
    return entry.group


def _with_parts(found: Lookup) -> list[Part]:
    """Tabulate by group, each row with the entries of its group that hold lesion."""
    finer = found.parts(_name)
    rows = []
    for major in found.parts(_group):
        own = [part for part in finer if (part.group, part.side) == (major.name, major.side)]
        divided = [part.name for part in own] != [major.name]
        rows.append(replace(major, parts=tuple(own) if divided else ()))
    return rows


def _named(parts: Sequence[Part]) -> str:
    return f"{parts[0].name} {parts[0].side}".strip() if parts else "unknown"


def _compartment(classes: Sequence[Part]) -> Compartment:
    share = dict.fromkeys(("cortical", "deep", "infratentorial", "ventricle"), 0.0)
    for part in classes:
        share[part.name] += part.share_of_lesion
    if not classes:
        return "unknown"
    if share["infratentorial"] >= 0.5:
        return "infratentorial"
    if share["cortical"] >= _CORTICAL:
        return "cortical"
    return "deep" if share["deep"] else "ventricle"


def _count(n: int) -> Count:
    return "none" if n == 0 else "single" if n == 1 else "multiple"


def _hemispheres(
    lesion: Mask, grid: Grid, mni_from_native: Affine
) -> Literal["left", "right", "both", "none"]:
    if not lesion.any():
        return "none"
    row = (mni_from_native @ grid.affine)[0]
    left = float((np.argwhere(lesion) @ row[:3] + row[3] < 0).mean())
    if min(left, 1 - left) > _MINOR:
        return "both"
    return "left" if left > 0.5 else "right"


def _border_zone_share(lesion: Mask, grid: Grid, mni_from_native: Affine) -> float:
    """Return the share of the lesion where the likeliest artery is not much likelier."""
    certainty = resample(load_certainty(), grid, mni_from_native)[lesion]
    known = certainty > 0
    return float((certainty[known] < _MIXED).mean()) if known.any() else math.nan
