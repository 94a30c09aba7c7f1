"""Build the region atlas by majority vote of whole heads aligned to MNI space, split by planes.

The FreeSurfer labels distinguish cortex and white matter but not lobes. The lobes, the internal
capsule and the parts of the brainstem are defined by the rules below, in MNI mm. Both hemispheres
vote together, so the atlas is symmetric.

References:
    Naidich et al. 2013, Duvernoy's Atlas of the Human Brain Stem (planes of the brainstem);
    Mai et al. 2015, Atlas of the Human Brain (sulci in stereotaxic space).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from infarct.core.diffusion import Mask
from infarct.core.errors import InputFileError
from infarct.core.file_search import matching
from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume, read
from infarct.core.resampling import resample
from infarct.lab.atlases.atlas_files import ATLAS_GRID, coordinates, publish, two_sided
from infarct.lab.sources import anatomy, templates
from infarct.measurement.atlas import Labels

_LEFT_RIGHT: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "white matter": ((2, 25), (41, 57)),
    "cortex": ((3,), (42,)),
    "thalamus": ((10,), (49,)),
    "ventral diencephalon": ((28,), (60,)),
    "caudate": ((11, 26), (50, 58)),
    "lentiform": ((12, 13), (51, 52)),
    "hippocampus and amygdala": ((17, 18), (53, 54)),
    "brainstem": ((16,), (16,)),
    "cerebellum": ((7, 8), (46, 47)),
    "ventricle": ((4, 5, 14, 15, 72), (43, 44, 14, 15, 72)),
}
"""Structures of the vote: FreeSurfer labels on the left and on the right."""

CLASSES = {
    "frontal cortex": "cortical",
    "parietal cortex": "cortical",
    "temporal cortex": "cortical",
    "occipital cortex": "cortical",
    "insula": "cortical",
    "cingulate": "cortical",
    "hippocampus and amygdala": "cortical",
    "white matter": "deep",
    "internal capsule": "deep",
    "thalamus": "deep",
    "ventral diencephalon": "deep",
    "caudate": "deep",
    "lentiform": "deep",
    "midbrain": "infratentorial",
    "pons": "infratentorial",
    "medulla": "infratentorial",
    "cerebellum": "infratentorial",
    "ventricle": "ventricle",
}
"""Region -> class, in the order of the labels."""

_VOTE_SIGMA_MM = 1.5
_CAPSULE_MM = 13.0


def build(anatomies: Path) -> Path:
    """Build the atlas from a folder of FreeSurfer-like label maps and add it to the assets.

    Args:
        anatomies: Folder of label maps of whole heads, `*.nii.gz`.

    Returns:
        The label map.

    Raises:
        InputFileError: If no label maps are found.
    """
    files = matching(anatomies, "*.nii.gz")
    if not files:
        raise InputFileError(f"{anatomies}: no label maps (*.nii.gz) found")
    tissue = templates.icbm_tissue()
    votes, brain = vote((aligned(file, tissue) for file in files), tissue)
    named = cut(votes, brain)
    source = (
        f"{len(files)} label maps of whole heads (SynthSeg training maps, Apache-2.0), affinely "
        "aligned and averaged with their mirror images; lobes, internal capsule and parts of the "
        f"brainstem cut by planes; brain outline: {templates.MNI_NOTICE}"
    )
    return publish("regions", two_sided(named, list(CLASSES)), CLASSES, "Apache-2.0", source)


def aligned(file: Path, tissue: templates.Tissue) -> Labels:
    """Read a label map and align it to the symmetric atlas grid with an affine registration."""
    labels = read(file)
    classes = anatomy.from_freesurfer(labels.data.astype(np.int32))
    _, head_from_mni = anatomy.align(classes, labels.affine, tissue)
    whole = Volume(labels.data.astype(np.uint16), labels.affine)
    return np.asarray(resample(whole, ATLAS_GRID, head_from_mni, labels=True), dtype=np.uint16)


def vote(
    heads: Iterable[Labels], tissue: templates.Tissue
) -> tuple[dict[str, NDArray[np.float64]], Mask]:
    """Compute how often each structure occurs at each voxel; sulcal fluid has no vote.

    Args:
        heads: FreeSurfer labels on the atlas grid.
        tissue: Tissue maps that define the brain mask.

    Returns:
        Structure -> fraction of hemispheres, smoothed, and the brain mask; both on the left half of
        the grid.
    """
    half = ATLAS_GRID.shape[0] // 2
    shape = (half, *ATLAS_GRID.shape[1:])
    votes = {name: np.zeros(shape) for name in _LEFT_RIGHT}
    count = 0
    for head in heads:
        count += 2
        for name, (left, right) in _LEFT_RIGHT.items():
            votes[name] += np.isin(head[:half], left)
            votes[name] += np.isin(head[::-1][:half], right)
    sigma = _VOTE_SIGMA_MM / ATLAS_GRID.spacing[0]
    smooth = {name: ndimage.gaussian_filter(v / count, sigma) for name, v in votes.items()}
    outline = Volume(tissue.brain.astype(np.float32), MNI_GRID.affine)
    brain = resample(outline, ATLAS_GRID) >= 0.5
    return smooth, brain[:half] | brain[::-1][:half]


def cut(votes: dict[str, NDArray[np.float64]], brain: Mask) -> dict[str, Mask]:
    """Assign every brain voxel to exactly one region.

    Args:
        votes: Structure -> fraction of hemispheres, left half of the atlas grid.
        brain: Brain mask, left half of the grid.

    Returns:
        Region -> bool mask, left half of the grid. The masks partition the brain.
    """
    names = list(votes)
    shares = np.stack([votes[name] for name in names])
    winner = np.argmax(shares, axis=0)
    # Voxels without votes (fluid at the surface) get the nearest structure.
    no_votes = shares.max(axis=0) < 0.1
    nearest = ndimage.distance_transform_edt(no_votes, return_distances=False, return_indices=True)
    winner = winner[tuple(nearest)]
    found: dict[str, Mask] = {n: (winner == i) & brain for i, n in enumerate(names)}
    cortex, stem = found.pop("cortex"), found.pop("brainstem")
    # FreeSurfer includes the cerebral peduncles, part of the midbrain, in the ventral diencephalon.
    _, y, z = coordinates()
    peduncle = found["ventral diencephalon"] & (z < -8) & (y < -10)
    found["ventral diencephalon"] &= ~peduncle
    stem = stem | peduncle
    found["internal capsule"] = _internal_capsule(found)
    found["white matter"] &= ~found["internal capsule"]
    lobes = _lobes(cortex, found["lentiform"], brain)
    regions = found | lobes | _parts_of_brainstem(stem)
    return {name: regions[name] for name in CLASSES}


def _distance_mm(mask: Mask) -> NDArray[np.float64]:
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=ATLAS_GRID.spacing))


def _internal_capsule(found: dict[str, Mask]) -> Mask:
    """Return the white matter between the lentiform nucleus and the caudate or thalamus."""
    x, _, z = coordinates()
    to_lentiform = _distance_mm(found["lentiform"])
    to_medial = _distance_mm(found["caudate"] | found["thalamus"])
    between = (to_lentiform + to_medial <= _CAPSULE_MM) & (to_medial <= 9) & (np.abs(x) < 32)
    return np.asarray(found["white matter"] & between & (z >= -6) & (z <= 22))


def _lobes(cortex: Mask, lentiform: Mask, brain: Mask) -> dict[str, Mask]:
    """Divide the cortex into lobes.

    Insula: within 13 mm of the lentiform nucleus and at least 12 mm below the surface. Cingulate:
    within 16 mm of the midline, inside an ellipse around the corpus callosum. Occipital: posterior
    to a plane from the preoccipital notch along the parieto-occipital sulcus. Temporal: below the
    lateral fissure. Frontal and parietal: separated by the central sulcus, which runs anteriorly
    from medial to lateral.
    """
    x, y, z = coordinates()
    x = np.abs(x)
    depth = ndimage.distance_transform_edt(np.pad(brain, ((0, 1), (0, 0), (0, 0)), mode="edge"))
    depth = depth[:-1] * ATLAS_GRID.spacing[0]
    insula = (x > 26) & (_distance_mm(lentiform) <= 13) & (depth >= 12) & (y > -26) & (z > -14)
    ring = ((y + 3) / 49) ** 2 + ((z - 10) / 37) ** 2 < 1
    cingulate = (x < 16) & ring & (z > -2) & (y > -54)
    occipital = y < -60 - 0.45 * np.maximum(z - 5, 0)
    fissure = np.where(y > 8, -8 - 1.1 * (y - 8), -8 - 0.55 * (y - 8))
    temporal = (z < np.minimum(fissure, 18)) & (y < 24) & ((x > 20) | ((y < -4) & (z < 0)))
    parietal = y < -36 + 0.42 * x
    regions: dict[str, Mask] = {}
    left = cortex
    for name, rule in (
        ("insula", insula),
        ("cingulate", cingulate),
        ("occipital cortex", occipital),
        ("temporal cortex", temporal),
        ("parietal cortex", parietal),
    ):
        regions[name] = left & rule
        left = left & ~rule
    return regions | {"frontal cortex": left}


def _parts_of_brainstem(stem: Mask) -> dict[str, Mask]:
    """Divide the brainstem across its axis, which tilts posteriorly towards the medulla."""
    _, y, z = coordinates()
    along = 0.928 * z + 0.371 * y
    return {
        "midbrain": stem & (along >= -25.5),
        "pons": stem & (along < -25.5) & (along >= -52),
        "medulla": stem & (along < -52),
    }
