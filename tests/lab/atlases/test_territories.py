"""The atlas of arterial territories."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from infarct.core.geometry import MNI_GRID
from infarct.lab.atlases import territories
from infarct.lab.atlases.territories import (
    HELD_OUT,
    TERRITORIES,
    Groups,
    factorise,
    held_out,
    hemispheres,
    memberships,
)
from infarct.measurement.atlas import load_atlas


def lesion(centre: tuple[int, int, int], radius: int) -> np.ndarray:
    """Return a cube on the MNI grid."""
    mask = np.zeros(MNI_GRID.shape, bool)
    first = np.array(centre) - MNI_GRID.affine[:3, 3].astype(int) - radius
    mask[tuple(slice(f, f + 2 * radius) for f in first)] = True
    return mask


def test_right_hemispheres_are_mirrored() -> None:
    left, right = lesion((-40, 0, 10), 8), lesion((41, 0, 10), 8)  # mirror images
    folded = list(hemispheres([left, right, left | right, np.zeros_like(left)]))
    assert len(folded) == 4
    for other in folded[1:]:
        assert np.array_equal(folded[0], other)
    assert folded[0].sum() * 4**3 == pytest.approx(left.sum())
    outermost_first = np.argwhere(folded[0])[:, 0].mean()
    assert outermost_first == pytest.approx((80 - 40) / 4 - 0.5, abs=0.6)


def test_failed_registrations_are_skipped() -> None:
    assert list(hemispheres([lesion((-40, 0, 10), 38)])) == []  # 439 ml


def test_supervoxels_with_the_same_lesions_form_one_group(monkeypatch) -> None:
    monkeypatch.setattr(territories, "_GROUPS", 2)
    rng = np.random.default_rng(1)
    front, back = np.zeros((2, 20, 49, 39), np.float32)
    front[5:9, 30:40, 15:25], back[5:9, 8:16, 15:25] = 1, 1
    loads = [area * (rng.random(area.shape) < 0.7) for area in (front, back) for _ in range(30)]
    groups = factorise(loads)
    winner = groups.maps.argmax(axis=0)
    (in_front,) = np.unique(winner[(front > 0) & groups.seen])
    (in_back,) = np.unique(winner[(back > 0) & groups.seen])
    assert in_front != in_back
    assert groups.n == 60


def test_groups_are_named_by_anatomy_and_fill_the_brain() -> None:
    shipped = load_atlas("territories")
    left = shipped.labels.data[:40]
    names = list(TERRITORIES)
    areas = [left == 2 * i + 1 for i in range(len(names))]
    maps = np.stack([a.reshape(20, 2, 49, 2, 39, 2).mean(axis=(1, 3, 5)) for a in areas])
    seen = maps.sum(axis=0) > 0
    seen[:, :, :6] = False  # no lesion data in the lowest 24 mm
    order = np.random.default_rng(0).permutation(len(names))  # groups come in any order
    found = memberships(Groups((maps * seen)[order], seen, 1))
    brain = left > 0
    assert found.sum(axis=0)[brain] == pytest.approx(1)
    assert found.sum(axis=0)[~brain] == pytest.approx(0)
    assert (found.argmax(axis=0)[brain] == (left[brain] - 1) // 2).mean() > 0.9


def test_held_out_lesions_do_not_depend_on_the_order() -> None:
    names = [f"sub-{i}_lesion.nii.gz" for i in range(1000)]
    assert held_out(names) == held_out(reversed(names))
    assert len(held_out(names)) == HELD_OUT
