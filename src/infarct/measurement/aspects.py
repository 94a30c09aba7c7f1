"""ASPECTS and PC-ASPECTS of an outlined lesion, and the rule by which a region counts.

References:
    Barber et al. 2000, Lancet 355, 1670; Puetz et al. 2008, Stroke 39, 2485;
    Schroeder et al. 2018, Front Neurol 9, 273 (how much lesion makes a region count on DWI).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from infarct.core.diffusion import Mask
from infarct.core.geometry import Affine, Grid
from infarct.measurement.atlas import Atlas, load_atlas
from infarct.measurement.localization import Lookup, Part, look_up

_COVERED = 0.8
"""Share of each region that must have been scanned, or there is no score."""

_TWO_POINTS = {"midbrain", "pons"}

_MINOR = 0.1
"""Share of the lesion of a region across the midline up to which that side counts as untouched."""


@dataclass(frozen=True)
class Rule:
    """When a region counts as affected: by its share or by ml, whichever is reached first.

    Attributes:
        share: Of the region, 0 - 1.
        ml: Lesion in the region.
    """

    share: float
    ml: float

    def __str__(self) -> str:
        return f"a region counts when at least {self.share:.0%} or {self.ml:g} ml of it is lesion"

    def holds(self, part: Part) -> bool:
        """Tell whether a region is affected."""
        return part.share_of_part >= self.share or part.ml >= self.ml


ASPECTS_RULE = Rule(0.2, 3.0)
PC_ASPECTS_RULE = Rule(0.05, 0.5)


@dataclass(frozen=True)
class Score:
    """A score out of ten.

    Attributes:
        score: 10 is no region affected.
        side: The side scored, `both` if the regions lie on both, empty if none is affected.
        affected: Names of the regions, with their side if the score spans both hemispheres.
        rule: In words.
    """

    score: int
    side: str
    affected: tuple[str, ...]
    rule: str


def score(
    lesion: Mask, grid: Grid, mni_from_native: Affine, scanned: Mask | None = None
) -> tuple[Score | None, Score | None]:
    """Score a lesion.

    Args:
        lesion: (X, Y, Z) bool.
        grid: Of the scan.
        mni_from_native: (4, 4) world of the grid -> MNI mm.
        scanned: (X, Y, Z) what of the grid was scanned; all of it if None.

    Returns:
        ASPECTS of the worse side, and PC-ASPECTS; None without a lesion, or where the scan does not
        cover every region of the score.
    """
    if not lesion.any():
        return None, None
    atlas, whole = load_atlas("aspects"), load_atlas("territories")
    found = look_up(lesion, atlas, grid, mni_from_native, scanned, whole)
    everywhere = np.ones(grid.shape, dtype=bool)
    seen = everywhere if scanned is None else scanned
    covered = _covered(atlas, seen, mni_from_native @ grid.affine)
    anterior = _aspects(_parts(found)) if covered["ASPECTS"] else None
    return anterior, _pc_aspects(found) if covered["PC-ASPECTS"] else None


def _parts(found: Lookup) -> list[Part]:
    return found.parts(lambda entry: entry.name)


def _aspects(parts: list[Part]) -> Score:
    sides = []
    for side in ("left", "right"):
        own = [part for part in parts if part.group == "ASPECTS" and part.side == side]
        affected = tuple(sorted(part.name for part in own if ASPECTS_RULE.holds(part)))
        sides.append((len(affected), sum(part.ml for part in own), side, affected))
    # Of two sides with as many regions affected, that with more lesion in its regions.
    count, _, side, affected = max(sides)
    return Score(10 - count, side if affected else "", affected, str(ASPECTS_RULE))


def _pc_aspects(found: Lookup) -> Score:
    """Score the posterior circulation; midbrain and pons are one region each, worth two points."""
    undivided = tuple(
        replace(entry, side="") if entry.name in _TWO_POINTS else entry for entry in found.entries
    )
    regions = _parts(replace(found, entries=undivided))
    own = [part for part in regions if part.group == "PC-ASPECTS" and PC_ASPECTS_RULE.holds(part)]
    middle = {part.name: part.ml for part in own if not part.side}
    sides = {part.side for part in own if part.side} | {
        half.side
        for half in _parts(found)
        if half.name in middle and half.ml > _MINOR * middle[half.name]
    }
    return Score(
        10 - sum(1 if part.side else 2 for part in own),
        "both" if len(sides) > 1 else "".join(sides),
        tuple(sorted(f"{part.name} {part.side}".strip() for part in own)),
        str(PC_ASPECTS_RULE),
    )


def _covered(atlas: Atlas, scanned: Mask, mni_from_voxel: Affine) -> dict[str, bool]:
    """Tell, for each score, whether the scan holds enough of every region of it.

    Voxels of the atlas are taken to the scan, not the other way round: in thick slices, counts of
    small regions are too coarse to tell.
    """
    labels = atlas.labels.data
    voxel_from_voxel = np.linalg.inv(mni_from_voxel) @ atlas.labels.affine
    at = np.argwhere(labels)
    voxels = np.rint(at @ voxel_from_voxel[:3, :3].T + voxel_from_voxel[:3, 3]).astype(int)
    inside = ((voxels >= 0) & (voxels < scanned.shape)).all(axis=1)
    at, voxels = at[inside], voxels[inside]
    seen = at[scanned[tuple(voxels.T)]]
    held = np.bincount(labels[tuple(seen.T)], minlength=int(labels.max()) + 1)
    whole = np.bincount(labels.ravel())
    enough = {entry.group: True for entry in atlas.entries}
    for entry in atlas.entries:
        enough[entry.group] &= bool(held[entry.index] >= _COVERED * whole[entry.index])
    return enough
