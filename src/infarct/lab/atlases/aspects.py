"""Define the ASPECTS and PC-ASPECTS regions in MNI space from the region and territory atlases.

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
"""Region -> score it belongs to, in the order of the labels."""

_GANGLIONIC_BELOW_MM = 20.0
_FRONT_MM, _BACK_MM = 4.0, -34.0


def build() -> Path:
    """Build the map from the bundled region and territory atlases and add it to the assets.

    Returns:
        The label map.
    """
    named = draw(_left_masks(load_atlas("regions")), _left_masks(load_atlas("territories")))
    source = "cut by planes in MNI space from atlas/regions and atlas/territories"
    return publish("aspects", two_sided(named, list(GROUPS)), GROUPS, "Apache-2.0", source)


def draw(regions: dict[str, Mask], territories: dict[str, Mask]) -> dict[str, Mask]:
    """Define the regions of both scores.

    M1 to M6 are the MCA territory without the insula, the deep nuclei and the internal capsule.
    Below z = 20 mm (top of the caudate head), M1 is anterior to y = 4 mm, excluding the temporal
    lobe, M3 is posterior to y = -34 mm, and M2 lies between them, lateral to the insula. M4, M5 and
    M6 lie above and are separated by the same planes.

    Args:
        regions: Name -> bool mask, left half of the atlas grid.
        territories: Name -> bool mask, left half of the atlas grid.

    Returns:
        Region -> bool mask, left half of the atlas grid, in the order of `GROUPS`.
    """
    _, y, z = coordinates()
    deep = ("insula", "caudate", "lentiform", "internal capsule", "thalamus")
    excluded = np.logical_or.reduce([regions[name] for name in (*deep, "ventricle")])
    mantle = (territories["MCA cortical"] | territories["MCA lenticulostriate"]) & ~excluded
    low = z < _GANGLIONIC_BELOW_MM
    front = y >= _FRONT_MM
    # Below the lateral fissure, the temporal pole extends anterior to the insula.
    front_low = front & ~((z < -8 - 1.1 * (y - 8)) & (y < 24))
    back = y < _BACK_MM
    drawn = {
        "M1": mantle & low & front_low,
        "M2": mantle & low & ~front_low & ~back,
        "M3": mantle & low & back,
        "M4": mantle & ~low & front,
        "M5": mantle & ~low & ~front & ~back,
        "M6": mantle & ~low & back,
        "PCA territory": territories["PCA cortical"] & ~excluded,
    }
    return {name: drawn[name] if name in drawn else regions[name] for name in GROUPS}


def _left_masks(atlas: Atlas) -> dict[str, Mask]:
    left = atlas.labels.data[:HALF]
    return {entry.name: left == entry.index for entry in atlas.entries if entry.side == "left"}
