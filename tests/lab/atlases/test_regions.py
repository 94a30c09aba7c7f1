"""The region atlas."""

import numpy as np
import pytest

pytest.importorskip("nilearn")

from infarct.lab.atlases.atlas_files import ATLAS_GRID, HALF, two_sided
from infarct.lab.atlases.regions import CLASSES, aligned, cut, vote
from infarct.lab.sources import templates
from infarct.measurement.atlas import load_atlas

FREESURFER = {
    **dict.fromkeys(
        ("frontal cortex", "parietal cortex", "temporal cortex", "occipital cortex"), (3, 42)
    ),
    **dict.fromkeys(("insula", "cingulate"), (3, 42)),
    **dict.fromkeys(("white matter", "internal capsule"), (2, 41)),
    **dict.fromkeys(("midbrain", "pons", "medulla"), (16, 16)),
    "hippocampus and amygdala": (17, 53),
    "thalamus": (10, 49),
    "ventral diencephalon": (28, 60),
    "caudate": (11, 50),
    "lentiform": (12, 51),
    "cerebellum": (8, 47),
    "ventricle": (4, 43),
}


@pytest.fixture(scope="module")
def tissue() -> templates.Tissue:
    return templates.icbm_tissue()


def test_vote_of_the_atlas_itself_returns_the_atlas(tissue) -> None:
    shipped = load_atlas("regions")
    table = np.zeros(64, np.uint16)
    for entry in shipped.entries:
        table[entry.index] = FREESURFER[entry.name][entry.side == "right"]
    votes, brain = vote([table[shipped.labels.data]], tissue)
    labels = two_sided(cut(votes, brain), list(CLASSES))
    inside = shipped.labels.data > 0
    assert (labels[inside] == shipped.labels.data[inside]).mean() > 0.95
    assert np.array_equal(labels > 0, inside)


def test_regions_partition_the_brain(tissue) -> None:
    rng = np.random.default_rng(0)
    numbers = rng.choice([2, 3, 8, 10, 16, 24, 41, 42, 43, 47, 49, 51], ATLAS_GRID.shape)
    votes, brain = vote([numbers.astype(np.uint16)], tissue)
    regions = cut(votes, brain)
    assert list(regions) == list(CLASSES)
    assert np.array_equal(np.sum(list(regions.values()), axis=0), brain.astype(int))
    assert brain.shape[0] == HALF


def test_real_heads_agree_with_the_atlas(real_data, tissue) -> None:
    head = aligned(real_data / "anatomies" / "training_seg_01.nii.gz", tissue)
    shipped = load_atlas("regions")
    for name, (left, right) in {"thalamus": (10, 49), "cerebellum": (8, 47)}.items():
        for side, number in (("left", left), ("right", right)):
            index = next(e.index for e in shipped.entries if (e.name, e.side) == (name, side))
            assert (shipped.labels.data[head == number] == index).mean() > 0.75
