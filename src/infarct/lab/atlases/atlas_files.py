"""The grid of the bundled atlases, and helpers that add them to the package assets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infarct.core import assets
from infarct.core.diffusion import Mask
from infarct.core.geometry import Grid
from infarct.core.nifti import Volume, write
from infarct.core.serialization import write_tsv
from infarct.measurement.atlas import Labels, load_atlas

_AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
_AFFINE[:3, 3] = (-79.0, -113.0, -73.0)
ATLAS_GRID = Grid((80, 98, 78), _AFFINE)
"""2 mm, MNI152. The midline lies between two voxels, so flipping the array mirrors the head."""

HALF = ATLAS_GRID.shape[0] // 2


def coordinates() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return MNI x, y, z (mm) of the left half of the grid, in shapes that broadcast."""
    x, y, z = (
        origin + 2.0 * np.arange(n)
        for n, origin in zip(ATLAS_GRID.shape, ATLAS_GRID.affine[:3, 3], strict=True)
    )
    return x[:HALF, None, None], y[None, :, None], z[None, None, :]


def two_sided(named: Mapping[str, Mask], order: Sequence[str]) -> Labels:
    """Create a symmetric label map from left-hemisphere masks; odd labels are left, even right.

    Args:
        named: Name -> bool mask on the left half of the grid; masks must not overlap.
        order: Names in the order of the labels.

    Returns:
        (80, 98, 78) labels on `ATLAS_GRID`.
    """
    left = np.zeros((HALF, *ATLAS_GRID.shape[1:]), dtype=np.uint16)
    for number, name in enumerate(order):
        left[named[name]] = 2 * number + 1
    right = np.where(left > 0, left + 1, 0).astype(np.uint16)
    return np.concatenate([left, right[::-1]])


def publish(
    name: str, labels: Labels, groups: Mapping[str, str], licence: str, source: str
) -> Path:
    """Write an atlas and its label table to the package assets and register both.

    Args:
        name: Name of the atlas, such as `regions`.
        labels: Result of `two_sided`.
        groups: Name -> group, in the order of the labels.
        licence: Licence of the atlas.
        source: Origin of the data.

    Returns:
        The label map.
    """
    folder = assets.ROOT / "atlas"
    folder.mkdir(exist_ok=True)
    image, table = folder / f"{name}.nii.gz", folder / f"{name}.tsv"
    write(Volume(labels, ATLAS_GRID.affine), image, np.uint8)
    rows = [
        [str(2 * number + side), entry, name, group]
        for number, (entry, group) in enumerate(groups.items())
        for side, name in ((1, "left"), (2, "right"))
    ]
    write_tsv(table, ["index", "name", "side", "group"], rows)
    record(f"atlas/{name}", image, licence, source)
    record(f"atlas/{name}-labels", table, licence, source)
    return image


def record(name: str, file: Path, licence: str, source: str) -> None:
    """Register a file of the data folder in the asset index."""
    relative = file.relative_to(assets.ROOT).as_posix()
    assets.register_asset(assets.Asset(name, relative, assets.sha256(file), licence, source))
    # Atlases built next may depend on this one.
    load_atlas.cache_clear()
