"""Location of lesions: arterial territories, regions, and the lesion pattern.

Every voxel of the scan is looked up in MNI space; volumes are never measured on the MNI grid. The
share of a territory refers to the scanned part of it.
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
from infarct.core.distances import box_around
from infarct.core.geometry import Affine, Grid
from infarct.core.resampling import resample
from infarct.measurement.atlas import Atlas, Entry, Hemisphere, Labels, load_atlas, load_certainty
from infarct.measurement.volumetry import pieces

Compartment = Literal["cortical", "deep", "infratentorial", "ventricle", "unknown"]
Count = Literal["single", "multiple", "none"]

_REACH_MM = 8.0
"""Distance from an atlas up to which a lesion voxel gets the nearest label, as heads differ."""

_CORTICAL = 0.2
"""Share of a lesion in the cortex from which it is cortical; a deep lesion has less."""

_MINOR = 0.1
"""Share of the lesion from which a further territory or hemisphere counts as affected."""

_MIXED = 0.6
"""Probability of the most likely territory below which a voxel lies in a border zone."""


@dataclass(frozen=True)
class Part:
    """Amount of lesion in one part of an atlas.

    Attributes:
        name: Name of the part, without its side.
        side: `left`, `right`, or empty.
        group: Group of the part, see `atlas.Entry`.
        ml: Lesion volume in the part, native ml.
        share_of_part: Lesion volume as a share of the scanned volume of the part, 0 - 1.
        share_of_lesion: Share of all lesion voxels, 0 - 1.
        parts: Subdivisions of the part, if the atlas has any.
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
    """Location of one lesion.

    Attributes:
        label: Number of the lesion, as in `volumetry.Lesion`.
        territory: Name and side of the territory with most of the lesion; `unknown` outside all.
        compartment: Infratentorial if at least half of the lesion is; otherwise cortical if at
            least a fifth is; otherwise deep, or ventricle if it lies only there.
        region: Name and side of the region with most of the lesion, ventricles excluded; `unknown`
            outside all.
    """

    label: int
    territory: str
    compartment: Compartment
    region: str


@dataclass(frozen=True)
class Pattern:
    """Pattern of all lesions together.

    Attributes:
        hemispheres: Hemispheres with more than a tenth of the lesion.
        lesions: Whether there is one lesion or several.
        territories: Whether one or several territories contain more than a tenth of the lesion;
            left and right count separately.
        dominant_territory: Name and side of the territory with most lesion; empty without a lesion.
        border_zone_share: Share of the lesion in border zones, where no territory has a probability
            above 0.6; NaN without a lesion.
    """

    hemispheres: Literal["left", "right", "both", "none"]
    lesions: Count
    territories: Count
    dominant_territory: str
    border_zone_share: float


@dataclass(frozen=True, eq=False)
class Localization:
    """Location of the lesions of one scan.

    Attributes:
        territories: Affected territories, largest volume first; sub-territories are in `parts`.
        regions: Affected regions, largest volume first.
        lesions: Location of each lesion, numbered as in `volumetry.measure`.
        pattern: Pattern of all lesions together.
        atlas: Atlas of territories that was used.
    """

    territories: tuple[Part, ...]
    regions: tuple[Part, ...]
    lesions: tuple[LesionLocation, ...]
    pattern: Pattern
    atlas: Atlas


@dataclass(frozen=True, eq=False)
class Lookup:
    """An atlas on the grid of a scan, and a lesion mask.

    Attributes:
        labels: (X, Y, Z) atlas label of every voxel of the scan; lesion voxels slightly outside the
            atlas have the nearest label.
        scanned: (largest label + 1,) number of scanned voxels with each label.
        lesion: (X, Y, Z) lesion mask, bool.
        entries: Labels of the atlas.
        voxel_ml: Volume of a native voxel, ml.
    """

    labels: Labels
    scanned: NDArray[np.intp]
    lesion: Mask
    entries: tuple[Entry, ...]
    voxel_ml: float

    def parts(self, name_of: Callable[[Entry], str]) -> list[Part]:
        """Tabulate the lesion volume by atlas label.

        Args:
            name_of: Returns the name of the row for an entry; left and right are separate rows.

        Returns:
            Rows with lesion, largest volume first.
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
        """Return the same lookup restricted to one lesion."""
        return replace(self, lesion=piece)


def look_up(
    lesion: Mask,
    atlas: Atlas,
    grid: Grid,
    mni_from_native: Affine,
    scanned: Mask | None = None,
    whole: Atlas | None = None,
) -> Lookup:
    """Look up every voxel of a scan in an atlas; lesion voxels close to it get the nearest label.

    Args:
        lesion: (X, Y, Z) lesion mask, bool.
        atlas: Atlas in MNI space.
        grid: Grid of the scan.
        mni_from_native: (4, 4) world of the grid -> MNI mm.
        scanned: (X, Y, Z) scanned part of the grid; all of it if None.
        whole: Atlas of the complete brain, for an `atlas` that omits some regions on purpose:
            lesion voxels with a label in `whole` are not assigned to the nearest label.
    """
    labels = resample(atlas.labels, grid, mni_from_native, labels=True)
    lost = lesion & (labels == 0)
    if whole:
        lost &= resample(whole.labels, grid, mni_from_native, labels=True) == 0
    if lost.any():
        box = box_around(lost, _REACH_MM, grid.spacing)
        near, wanted = labels[box], lost[box]
        apart, nearest = ndimage.distance_transform_edt(
            near == 0, sampling=grid.spacing, return_indices=True
        )
        wanted &= apart <= _REACH_MM
        near[wanted] = near[tuple(axis[wanted] for axis in nearest)]
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
    """Determine the location of the lesions of a scan.

    Args:
        lesion: (X, Y, Z) lesion mask, bool.
        grid: Grid of the scan.
        mni_from_native: (4, 4) world of the grid -> MNI mm, preferably the refined affine.
        territories: Custom atlas of territories; the bundled atlas if None.
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
            _named([p for p in by_region.within(ranked == label).parts(_name) if _is_tissue(p)]),
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


def _is_tissue(part: Part) -> bool:
    # Lesion in a ventricle is residual registration error.
    return part.group != "ventricle"


def _with_parts(found: Lookup) -> list[Part]:
    """Tabulate by group; each row contains the affected entries of its group."""
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
    """Return the share of the lesion where no territory is clearly the most likely."""
    certainty = resample(load_certainty(), grid, mni_from_native)[lesion]
    known = certainty > 0
    return float((certainty[known] < _MIXED).mean()) if known.any() else math.nan
