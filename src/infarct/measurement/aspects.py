"""ASPECTS and PC-ASPECTS of a lesion mask, and the rule for an affected region.

References:
    Barber et al. 2000, Lancet 355, 1670; Puetz et al. 2008, Stroke 39, 2485;
    Schroeder et al. 2018, Front Neurol 9, 273 (lesion size that makes a region affected on DWI).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from infarct.core.diffusion import Mask
from infarct.core.geometry import Affine, Grid
from infarct.measurement.atlas import Atlas, load_atlas
from infarct.measurement.localization import Lookup, Part, look_up

_COVERED = 0.8
"""Share of each region that must have been scanned to report a score."""

_TWO_POINTS = {"midbrain", "pons"}

_MINOR = 0.1
"""In a region that crosses the midline, share of its lesion up to which a side counts as free."""


@dataclass(frozen=True)
class Rule:
    """Rule for an affected region: a share or a volume of lesion, whichever is reached first.

    Attributes:
        share: Lesion volume as a share of the region, 0 - 1.
        ml: Lesion volume in the region, ml.
    """

    share: float
    ml: float

    def __str__(self) -> str:
        return (
            f"a region is affected if at least {self.share:.0%} or {self.ml:g} ml of it is lesion"
        )

    def holds(self, part: Part) -> bool:
        """Return whether a region is affected."""
        return part.share_of_part >= self.share or part.ml >= self.ml


ASPECTS_RULE = Rule(0.2, 3.0)
PC_ASPECTS_RULE = Rule(0.05, 0.5)


@dataclass(frozen=True)
class Score:
    """A score out of ten.

    Attributes:
        score: 10 if no region is affected.
        side: Scored side; `both` if both sides have affected regions, empty if none is affected.
        affected: Names of affected regions, with their side if the score covers both hemispheres.
        rule: Description of the rule for an affected region.
    """

    score: int
    side: str
    affected: tuple[str, ...]
    rule: str


def score(
    lesion: Mask, grid: Grid, mni_from_native: Affine, scanned: Mask | None = None
) -> tuple[Score | None, Score | None]:
    """Compute ASPECTS and PC-ASPECTS of a lesion mask.

    Args:
        lesion: (X, Y, Z) lesion mask, bool.
        grid: Grid of the scan.
        mni_from_native: (4, 4) world of the grid -> MNI mm.
        scanned: (X, Y, Z) scanned part of the grid; all of it if None.

    Returns:
        ASPECTS of the worse side, and PC-ASPECTS; None without a lesion, or if the scan does not
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
    # If both sides have the same number of affected regions, the one with more lesion counts.
    count, _, side, affected = max(sides)
    return Score(10 - count, side if affected else "", affected, str(ASPECTS_RULE))


def _pc_aspects(found: Lookup) -> Score:
    """Compute PC-ASPECTS; midbrain and pons are single regions worth two points each."""
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
    """Return for each score whether the scan covers enough of every region.

    Atlas voxels are mapped to the scan and not vice versa, because small regions contain too few
    voxels of a scan with thick slices.
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
