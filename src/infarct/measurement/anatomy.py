"""Where an outline lies: territories, regions, and the scores that sum them up."""

from __future__ import annotations

from dataclasses import dataclass

from infarct.core.diffusion import Mask
from infarct.core.geometry import Affine, Grid
from infarct.measurement.aspects import Score, score
from infarct.measurement.atlas import Atlas
from infarct.measurement.localization import Localization, locate


@dataclass(frozen=True)
class Anatomy:
    """Where an outline lies.

    Attributes:
        places: Territories, regions, pattern, and the place of each lesion.
        aspects: Score of the worse side; None without a lesion or where the scan is too short.
        pc_aspects: The same for the posterior circulation.
    """

    places: Localization
    aspects: Score | None
    pc_aspects: Score | None

    @property
    def unscored(self) -> bool:
        """Whether there is a lesion, but the scan is too short for a score."""
        return bool(self.places.lesions) and None in (self.aspects, self.pc_aspects)


def find_anatomy(
    lesion: Mask,
    grid: Grid,
    mni_from_native: Affine,
    territories: Atlas | None = None,
    scanned: Mask | None = None,
) -> Anatomy:
    """Look up where an outline lies.

    Args:
        lesion: (X, Y, Z) bool.
        grid: Of the scan.
        mni_from_native: (4, 4) world of the scan -> MNI mm.
        territories: Atlas for the table of territories; the one that ships if None.
        scanned: (X, Y, Z) what of the grid was scanned; all of it if None.
    """
    places = locate(lesion, grid, mni_from_native, territories, scanned)
    return Anatomy(places, *score(lesion, grid, mni_from_native, scanned))
