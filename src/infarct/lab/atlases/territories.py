"""Builds the atlas of arterial territories: what one artery feeds is lesioned together.

Hemispheres with their lesions are folded onto one side; supervoxels of 4 mm that the same lesions
touch are grouped by non-negative matrix factorisation; each group is named by the anatomy it lies
in. A voxel's membership of the groups, summed by artery, is its probability of belonging to each.

References:
    Lee and Seung 2001 (factorisation by the Kullback-Leibler divergence).
    Tatu et al. 1998 and 2012, Arterial territories of the human brain (whose anatomy names groups).
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
"""Lesions that never go in, so that the atlas can be tested on them."""

_GROUPS, _ITERATIONS = 20, 120
_LEAST_TOUCHES = 3
_SMOOTH_MM = 3.0
_SMALLEST_ML = 0.05
_BLOCK = 4
_SHAPE = tuple(n * 2 // _BLOCK for n in (HALF, *ATLAS_GRID.shape[1:]))


@dataclass(frozen=True, eq=False)
class Groups:
    """What the factorisation found.

    Attributes:
        maps: (groups, *half of the grid in supervoxels) expected lesion load, 0 where no data.
        seen: (half of the grid in supervoxels) where enough lesions reach.
        n: Hemispheres with a lesion that went in.
    """

    maps: NDArray[np.float64]
    seen: Mask
    n: int


def build(lesions: Path) -> Path:
    """Build the atlas from a folder of lesion masks in MNI space; put it among the assets.

    The map of regions must be there: it names the groups and keeps the tentorium closed.

    Args:
        lesions: Holds `*.nii.gz`, 1 mm.

    Raises:
        InputFileError: If there are too few.
    """
    files = matching(lesions, "*.nii.gz")
    kept_back = held_out(file.name for file in files)
    chosen = [file for file in files if file.name not in kept_back]
    if len(chosen) < HELD_OUT:
        raise InputFileError(f"{lesions}: {len(files)} masks; some hundreds more are needed")
    return publish_groups(factorise(hemispheres(mask for _, mask in read_lesions(chosen))))


def publish_groups(groups: Groups) -> Path:
    """Name the groups and put the atlas, its probabilities and its note among the assets."""
    membership = memberships(groups)
    source = (
        f"{groups.n} hemispheres with an expert lesion mask of the Stroke Outcome Optimization "
        "Project (OpenNeuro ds004889, CC0), grouped by the lesions that touch the same voxels; "
        f"{HELD_OUT} masks held out for testing"
    )
    arteries = _by_artery(membership)
    # The likeliest artery first, then the likeliest part of it.
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
    """Choose the lesions to hold out, by a hash of their file names."""
    return set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:HELD_OUT])


def hemispheres(masks: Iterable[Mask]) -> Iterator[NDArray[np.float32]]:
    """Cut lesions into hemispheres, the right ones mirrored, as load of 4 mm supervoxels.

    Args:
        masks: (192, 224, 192) on the MNI grid.

    Yields:
        (20, 49, 39) shares of each supervoxel; hemispheres without a lesion are left out.
    """
    # In voxels of the MNI grid: 0 mm is voxel 96, and the grid of the atlas begins at y, z.
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
    """Group supervoxels by the lesions that touch them.

    Args:
        loads: From `hemispheres`.
    """
    from sklearn.decomposition import NMF  # noqa: PLC0415 - only this builder needs it

    table = np.stack([load.ravel() for load in loads])
    seen = (table > 0.3).sum(axis=0) >= _LEAST_TOUCHES
    table = table[:, seen]
    size = table.sum(axis=1)
    # A lesion of 200 ml says less about borders than ten of 20 ml: its weight grows with the root.
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
    """Name the groups and return how much each voxel belongs to every sub-territory.

    Returns:
        (sub-territories, *left half of the atlas grid), summing to 1 in the brain, else 0.
    """
    regions, brain = _regions()
    _, y, z = coordinates()
    anchors = _anchors(regions)
    fine = np.stack([_at_2mm(m, groups.seen) for m in groups.maps])
    share = fine / np.maximum(fine.sum(axis=0), 1e-12)
    names = list(TERRITORIES)
    found = np.zeros((len(names), *brain.shape))
    for load, portion in zip(fine, share, strict=True):
        found[_name(portion, anchors)] += load
    found /= _prevalence(found)
    # Infarcts do not cross the tentorium; warped masks do.
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
    """Return how often each artery's heart is lesioned.

    MCA infarcts are several times as common as ACA infarcts; the border between the two lies where
    either would be as likely in a patient of its own, not where the commoner takes over.
    """
    arteries = np.array(list(TERRITORIES.values()))
    heart = np.ones(len(arteries))
    for artery in set(arteries):
        heart[arteries == artery] = np.percentile(found[arteries == artery].sum(axis=0), 99.5)
    return heart[:, None, None, None]


def _regions() -> tuple[NDArray[np.str_], Mask]:
    """Return the name of the region at each voxel of the left half, and where brain is."""
    atlas = load_atlas("regions")
    names = np.array([""] + [entry.name for entry in atlas.entries])
    labels = atlas.labels.data[:HALF]
    return names[labels], labels > 0


def _anchors(regions: NDArray[np.str_]) -> list[Mask]:
    """Return, for each sub-territory, what belongs to it in every textbook."""
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
    """Return the sub-territory whose anchor holds most of a group, its core above all."""
    return int(np.argmax([(portion[anchor] ** 2).sum() for anchor in anchors]))


def _at_2mm(image: NDArray[np.float64], seen: Mask) -> NDArray[np.float64]:
    """Smooth within what was seen and interpolate to the voxels of the atlas."""
    sigma = _SMOOTH_MM / _BLOCK
    # The other hemisphere is the mirror image: smoothing must not lose load at the midline.
    pad = ((0, 4), (0, 0), (0, 0))
    weight = ndimage.gaussian_filter(np.pad(seen.astype(float), pad, mode="symmetric"), sigma)
    smooth = ndimage.gaussian_filter(np.pad(image, pad, mode="symmetric"), sigma)
    coarse = np.where(weight > 0.1, smooth / np.maximum(weight, 0.1), 0.0)
    fine = ndimage.zoom(coarse, 2, order=1, grid_mode=True, mode="nearest")
    return np.asarray(fine[:HALF])


def _fill(
    found: NDArray[np.float64], known: Mask, brain: Mask, rooms: tuple[Mask, Mask]
) -> NDArray[np.float64]:
    """Give brain that no lesion reaches the membership of the nearest that one does.

    Args:
        found: (sub-territories, X, Y, Z).
        known: Where `found` is known.
        brain: Where it is wanted.
        rooms: Infratentorial, and the brainstem in it: nearest within the same room.
    """
    below, stem = rooms
    filled = np.zeros_like(found)
    for room in (brain & ~below, brain & below & ~stem, brain & stem):
        source = known & room
        index = ndimage.distance_transform_edt(~source, return_distances=False, return_indices=True)
        filled[:, room] = found[(slice(None), *index)][:, room]
    return filled


def _by_artery(membership: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Sum the sub-territories of each artery."""
    owners = np.array(list(TERRITORIES.values()))
    return {name: membership[owners == name].sum(axis=0) for name in dict.fromkeys(owners.tolist())}


def _publish_probabilities(arteries: dict[str, NDArray[np.float64]], source: str) -> None:
    """Write the probability of each artery, in hundredths: at borders it is mixed."""
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
