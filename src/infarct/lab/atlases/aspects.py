"""Draws the regions of ASPECTS and PC-ASPECTS in MNI space, by rule, from regions and territories.

References:
    Barber et al. 2000, Lancet 355, 1670 (ASPECTS); Puetz et al. 2008, Stroke 39, 2485 (PC-ASPECTS).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from infarct.core.diffusion import Mask
from infarct.lab.atlases.atlas_files import HALF, coordinates, publish, two_sided
from infarct.measurement.atlas import Atlas, load_atlas

GROUPS = {
    **dict.fromkeys(("M1", "M2", "M3", "M4", "M5", "M6"), "ASPECTS"),
    **dict.fromkeys(("insula", "caudate", "lentiform", "internal capsule"), "ASPECTS"),
    **dict.fromkeys(("thalamus", "PCA territory", "cerebellum", "midbrain", "pons"), "PC-ASPECTS"),
}
"""Region -> the score it counts for, in the order of the labels."""

_GANGLIONIC_BELOW_MM = 20.0
_FRONT_MM, _BACK_MM = 4.0, -34.0


def build() -> Path:
    """Draw the map from the shipped regions and territories; put it among the assets."""
    named = draw(_left(load_atlas("regions")), _left(load_atlas("territories")))
    source = "cut by planes in MNI space from atlas/regions and atlas/territories"
    return publish("aspects", two_sided(named, list(GROUPS)), GROUPS, "Apache-2.0", source)


def draw(regions: dict[str, Mask], territories: dict[str, Mask]) -> dict[str, Mask]:
    """Draw the regions of both scores.

    M1 to M6 are what is left of the cortical MCA territory: below z = 20 mm, the top of the
    caudate's head, M1 lies in front of y = 4 mm but for the temporal lobe, M3 behind y = -34 mm,
    and M2 between them, lateral to the insula; M4, M5 and M6 lie above, cut by the same planes.

    Args:
        regions: Name -> bool, left half of the atlas grid.
        territories: Name -> bool, left half of the atlas grid.
    """
    _, y, z = coordinates()
    deep = ("insula", "caudate", "lentiform", "internal capsule", "thalamus")
    apart = np.logical_or.reduce([regions[name] for name in (*deep, "ventricle")])
    mantle = (territories["MCA cortical"] | territories["MCA lenticulostriate"]) & ~apart
    low = z < _GANGLIONIC_BELOW_MM
    front = y >= _FRONT_MM
    # Under the lateral fissure, the pole of the temporal lobe reaches in front of the insula.
    front_low = front & ~((z < -8 - 1.1 * (y - 8)) & (y < 24))
    back = y < _BACK_MM
    drawn = {
        "M1": mantle & low & front_low,
        "M2": mantle & low & ~front_low & ~back,
        "M3": mantle & low & back,
        "M4": mantle & ~low & front,
        "M5": mantle & ~low & ~front & ~back,
        "M6": mantle & ~low & back,
        "PCA territory": territories["PCA cortical"] & ~apart,
    }
    return {name: drawn[name] if name in drawn else regions[name] for name in GROUPS}


def _left(atlas: Atlas) -> dict[str, Mask]:
    left = atlas.labels.data[:HALF]
    return {entry.name: left == entry.index for entry in atlas.entries if entry.side == "left"}
