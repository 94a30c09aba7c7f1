"""Anatomical location of a lesion mask: territories, regions, and ASPECTS."""

from __future__ import annotations

from dataclasses import dataclass

from infarct.core.diffusion import Mask
from infarct.core.geometry import Affine, Grid
from infarct.measurement.aspects import Score, score
from infarct.measurement.atlas import Atlas
from infarct.measurement.localization import Localization, locate


@dataclass(frozen=True)
class Anatomy:
    """Anatomical location of a lesion mask.

    Attributes:
        places: Territories, regions, pattern, and the location of each lesion.
        aspects: ASPECTS of the worse side; None without a lesion or if the coverage is too small.
        pc_aspects: The same for the posterior circulation.
    """

    places: Localization
    aspects: Score | None
    pc_aspects: Score | None

    @property
    def unscored(self) -> bool:
        """Whether there is a lesion, but the scan does not cover every region of a score."""
        return bool(self.places.lesions) and None in (self.aspects, self.pc_aspects)


def find_anatomy(
    lesion: Mask,
    grid: Grid,
    mni_from_native: Affine,
    territories: Atlas | None = None,
    scanned: Mask | None = None,
) -> Anatomy:
    """Determine the anatomical location of a lesion mask.

    Args:
        lesion: (X, Y, Z) lesion mask, bool.
        grid: Grid of the scan.
        mni_from_native: (4, 4) world of the scan -> MNI mm.
        territories: Atlas of territories; the bundled atlas if None.
        scanned: (X, Y, Z) scanned part of the grid; all of it if None.
    """
    places = locate(lesion, grid, mni_from_native, territories, scanned)
    return Anatomy(places, *score(lesion, grid, mni_from_native, scanned))
