"""Build the atlas of arterial territories from lesions: tissue of one territory infarcts together.

The lesions of both hemispheres are mirrored to one side. Supervoxels of 4 mm that are affected by
the same lesions are grouped by non-negative matrix factorisation, and each group is named by its
anatomical location. The group memberships of a voxel, summed by artery, give the probability that
it belongs to each territory.

References:
    Lee and Seung 2001 (factorisation by the Kullback-Leibler divergence).
    Tatu et al. 1998 and 2012, Arterial territories of the human brain (anatomy of the groups).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from infarct.core import assets
from infarct.core.diffusion import Mask
from infarct.core.errors import InputFileError
from infarct.core.file_search import matching
from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume, write
from infarct.lab.atlases.atlas_files import (
    ATLAS_GRID,
    HALF,
    coordinates,
    publish,
    record,
    two_sided,
)
from infarct.lab.sources.bank import LARGEST_LESION_ML
from infarct.lab.sources.packing import read_lesions
from infarct.measurement.atlas import load_atlas

TERRITORIES = {
    "ACA": "ACA",
    "MCA cortical": "MCA",
    "MCA lenticulostriate": "MCA",
    "PCA cortical": "PCA",
    "PCA thalamic": "PCA",
    "VB brainstem": "VB",
    "VB superior cerebellar": "VB",
    "VB inferior cerebellar": "VB",
}
"""Sub-territory -> territory, in the order of the labels."""

HELD_OUT = 300
"""Number of lesions excluded from the atlas and reserved for testing."""

_GROUPS, _ITERATIONS = 20, 120
_MIN_LESIONS = 3
_SMOOTH_MM = 3.0
_SMALLEST_ML = 0.05
_BLOCK = 4
_SHAPE = tuple(n * 2 // _BLOCK for n in (HALF, *ATLAS_GRID.shape[1:]))


@dataclass(frozen=True, eq=False)
class Groups:
    """Result of the factorisation.

    Attributes:
        maps: (groups, 20, 49, 39) expected lesion load of the left supervoxels; 0 without data.
        seen: (20, 49, 39) supervoxels affected by enough lesions.
        n: Number of hemispheres with a lesion.
    """

    maps: NDArray[np.float64]
    seen: Mask
    n: int


def build(lesions: Path) -> Path:
    """Build the atlas from a folder of lesion masks in MNI space and add it to the assets.

    The region atlas must exist. It names the groups and separates the supratentorial from the
    infratentorial territories.

    Args:
        lesions: Folder of masks, `*.nii.gz`, 1 mm.

    Returns:
        The label map.

    Raises:
        InputFileError: If there are too few masks.
    """
    files = matching(lesions, "*.nii.gz")
    kept_back = held_out(file.name for file in files)
    chosen = [file for file in files if file.name not in kept_back]
    if len(chosen) < HELD_OUT:
        raise InputFileError(
            f"{lesions}: found {len(files)} lesion masks (*.nii.gz), but at least "
            f"{2 * HELD_OUT} are required"
        )
    return publish_groups(factorise(hemispheres(mask for _, mask in read_lesions(chosen))))


def publish_groups(groups: Groups) -> Path:
    """Name the groups and add the atlas, its probabilities and its note to the assets."""
    membership = memberships(groups)
    source = (
        f"{groups.n} hemispheres with an expert lesion mask of the Stroke Outcome Optimization "
        "Project (OpenNeuro ds004889, CC0), grouped by the lesions that touch the same voxels; "
        f"{HELD_OUT} masks held out for testing"
    )
    arteries = _sum_by_artery(membership)
    # Choose the most likely artery first, then its most likely sub-territory.
    owners = np.array([list(arteries).index(artery) for artery in TERRITORIES.values()])
    leading = np.argmax(np.stack(list(arteries.values())), axis=0)
    winner = np.argmax(membership * (owners[:, None, None, None] == leading), axis=0)
    inside = membership.sum(axis=0) > 0
    names = list(TERRITORIES)
    named = {name: (winner == i) & inside for i, name in enumerate(names)}
    image = publish("territories", two_sided(named, names), TERRITORIES, "CC0-1.0", source)
    _publish_probabilities(arteries, source)
    return image


def held_out(names: Iterable[str]) -> set[str]:
    """Select the lesions to hold out by a hash of their file names."""
    return set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:HELD_OUT])


def hemispheres(masks: Iterable[Mask]) -> Iterator[NDArray[np.float32]]:
    """Split lesions by hemisphere, mirror the right ones, and average over 4 mm supervoxels.

    Args:
        masks: Lesion masks on the MNI grid, (192, 224, 192).

    Yields:
        (20, 49, 39) lesion fraction of each supervoxel, for every hemisphere with a lesion.
    """
    # In voxels of the MNI grid: 0 mm is voxel 96, and the atlas grid starts at y, z.
    middle = round(-MNI_GRID.affine[0, 3])
    first = np.rint(ATLAS_GRID.affine[1:3, 3] - 1 - MNI_GRID.affine[1:3, 3]).astype(int)
    y, z = (slice(f, f + n * _BLOCK) for f, n in zip(first, _SHAPE[1:], strict=True))
    reach = _SHAPE[0] * _BLOCK
    for mask in masks:
        if mask.sum() / 1000 > LARGEST_LESION_ML:
            continue
        left = mask[middle - reach : middle, y, z]
        right = mask[middle + 1 : middle + 1 + reach, y, z][::-1]
        for side in (left, right):
            if side.sum() / 1000 >= _SMALLEST_ML:
                blocks = side.reshape(*(m for n in _SHAPE for m in (n, _BLOCK)))
                yield blocks.mean(axis=(1, 3, 5), dtype=np.float32)


def factorise(loads: Iterable[NDArray[np.float32]]) -> Groups:
    """Group supervoxels that are affected by the same lesions.

    Args:
        loads: Result of `hemispheres`.
    """
    from sklearn.decomposition import NMF  # noqa: PLC0415 - only needed here

    table = np.stack([load.ravel() for load in loads])
    seen = (table > 0.3).sum(axis=0) >= _MIN_LESIONS
    table = table[:, seen]
    size = table.sum(axis=1)
    # Ten 20 ml lesions define borders better than one of 200 ml, so weight by the square root.
    rows = table[size > 0] / np.sqrt(size[size > 0])[:, None]
    model = NMF(
        _GROUPS,
        init="nndsvda",
        solver="mu",
        beta_loss="kullback-leibler",
        max_iter=_ITERATIONS,
        tol=0.0,
        random_state=0,
    )
    weights = model.fit_transform(rows)
    maps = np.zeros((_GROUPS, seen.size))
    maps[:, seen] = model.components_ * weights.sum(axis=0)[:, None]
    return Groups(maps.reshape(_GROUPS, *_SHAPE), seen.reshape(_SHAPE), len(rows))


def memberships(groups: Groups) -> NDArray[np.float64]:
    """Name the groups and compute the membership of each voxel in every sub-territory.

    Args:
        groups: Result of `factorise`.

    Returns:
        (sub-territories, 40, 98, 78) on the left half of the atlas grid; the sum over
        sub-territories is 1 in the brain and 0 elsewhere.
    """
    regions, brain = _regions()
    _, y, z = coordinates()
    anchors = _anchors(regions)
    fine = np.stack([_upsample(m, groups.seen) for m in groups.maps])
    share = fine / np.maximum(fine.sum(axis=0), 1e-12)
    names = list(TERRITORIES)
    found = np.zeros((len(names), *brain.shape))
    for load, portion in zip(fine, share, strict=True):
        found[_name(portion, anchors)] += load
    found /= _prevalence(found)
    # Infarcts do not cross the tentorium, but registered masks may.
    fourth = (regions == "ventricle") & (z < -10) & (y < -28)
    below = fourth | np.isin(regions, ["midbrain", "pons", "medulla", "cerebellum"])
    posterior = np.array([TERRITORIES[name] == "VB" for name in names])
    found[np.ix_(posterior)] *= below
    found[np.ix_(~posterior)] *= ~below
    stem = np.isin(regions, ["midbrain", "pons", "medulla"])
    found[names.index("VB brainstem")] *= stem
    for name in ("VB superior cerebellar", "VB inferior cerebellar"):
        found[names.index(name)] *= ~stem
    total = found.sum(axis=0)
    filled = np.where(total > 1e-9, found / np.maximum(total, 1e-12), 0.0)
    return _fill(filled, total > 1e-9, brain, (below, stem))


def _prevalence(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lesion frequency in the core of each arterial territory.

    MCA infarcts are several times as common as ACA infarcts. Dividing by the frequency gives
    both arteries equal weight at their common border, so the MCA does not dominate it.
    """
    arteries = np.array(list(TERRITORIES.values()))
    prevalence = np.ones(len(arteries))
    for artery in set(arteries):
        prevalence[arteries == artery] = np.percentile(found[arteries == artery].sum(axis=0), 99.5)
    return prevalence[:, None, None, None]


def _regions() -> tuple[NDArray[np.str_], Mask]:
    """Return the region name at each voxel of the left half, and the brain mask."""
    atlas = load_atlas("regions")
    names = np.array([""] + [entry.name for entry in atlas.entries])
    labels = atlas.labels.data[:HALF]
    return names[labels], labels > 0


def _anchors(regions: NDArray[np.str_]) -> list[Mask]:
    """Return the anatomy that undisputedly belongs to each sub-territory, as masks."""
    x, _, z = coordinates()
    medial, lateral = np.abs(x) < 12, np.abs(x) > 36
    cortex = np.char.endswith(regions, "cortex")
    occipital, frontal = regions == "occipital cortex", regions == "frontal cortex"
    textbook = {
        "ACA": (regions == "cingulate") | (frontal & medial),
        "MCA cortical": (regions == "insula") | (cortex & lateral),
        "MCA lenticulostriate": np.isin(regions, ["lentiform", "caudate", "internal capsule"]),
        "PCA cortical": (occipital & (np.abs(x) < 24)) | (regions == "hippocampus and amygdala"),
        "PCA thalamic": np.isin(regions, ["thalamus", "ventral diencephalon"]),
        "VB brainstem": np.isin(regions, ["midbrain", "pons", "medulla"]),
        "VB superior cerebellar": (regions == "cerebellum") & (z > -26),
        "VB inferior cerebellar": (regions == "cerebellum") & (z < -38),
    }
    return [textbook[name] for name in TERRITORIES]


def _name(portion: NDArray[np.float64], anchors: list[Mask]) -> int:
    """Return the sub-territory whose anchor contains most of a group, weighted towards its core."""
    return int(np.argmax([(portion[anchor] ** 2).sum() for anchor in anchors]))


def _upsample(image: NDArray[np.float64], seen: Mask) -> NDArray[np.float64]:
    """Smooth within the supervoxels with data and interpolate to the atlas grid."""
    sigma = _SMOOTH_MM / _BLOCK
    # Pad with the mirror image so that smoothing does not lose lesion load at the midline.
    pad = ((0, 4), (0, 0), (0, 0))
    weight = ndimage.gaussian_filter(np.pad(seen.astype(float), pad, mode="symmetric"), sigma)
    smooth = ndimage.gaussian_filter(np.pad(image, pad, mode="symmetric"), sigma)
    coarse = np.where(weight > 0.1, smooth / np.maximum(weight, 0.1), 0.0)
    fine = ndimage.zoom(coarse, 2, order=1, grid_mode=True, mode="nearest")
    return np.asarray(fine[:HALF])


def _fill(
    found: NDArray[np.float64], known: Mask, brain: Mask, parts: tuple[Mask, Mask]
) -> NDArray[np.float64]:
    """Fill brain voxels without lesion data from the nearest voxel with data.

    Args:
        found: (sub-territories, X, Y, Z) memberships.
        known: (X, Y, Z) voxels with data.
        brain: (X, Y, Z) voxels to fill.
        parts: Masks of the infratentorial brain and the brainstem. Values are copied only within
            the cerebrum, the infratentorial brain outside the brainstem, or the brainstem.

    Returns:
        (sub-territories, X, Y, Z) memberships in the whole brain.
    """
    below, stem = parts
    filled = np.zeros_like(found)
    for part in (brain & ~below, brain & below & ~stem, brain & stem):
        source = known & part
        index = ndimage.distance_transform_edt(~source, return_distances=False, return_indices=True)
        filled[:, part] = found[(slice(None), *index)][:, part]
    return filled


def _sum_by_artery(membership: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Sum the memberships of the sub-territories of each artery."""
    owners = np.array(list(TERRITORIES.values()))
    return {name: membership[owners == name].sum(axis=0) for name in dict.fromkeys(owners.tolist())}


def _publish_probabilities(arteries: dict[str, NDArray[np.float64]], source: str) -> None:
    """Write the probability of each arterial territory, in steps of 0.01, and the note."""
    left = np.stack(list(arteries.values()), axis=-1)
    whole = np.concatenate([left, left[::-1]])
    file = assets.ROOT / "atlas" / "territory_probabilities.nii.gz"
    write(Volume(whole, ATLAS_GRID.affine), file, np.uint8, step=0.01)
    record("atlas/territory-probabilities", file, "CC0-1.0", source)
    note = {
        "territories": source,
        "regions": "see atlas/regions in assets.json",
        "volumes of territory_probabilities": list(arteries),
        "rebuild": "infarct lab regions --anatomies DIR, infarct lab territories --lesions DIR",
    }
    file = assets.ROOT / "atlas" / "note.json"
    file.write_text(json.dumps(note, indent=1) + "\n")
    record("atlas/note", file, "CC0-1.0", source)
