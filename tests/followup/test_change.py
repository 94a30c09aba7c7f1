"""Fate of tissue: labels that partition both masks, masks that keep their volume when resampled."""

import numpy as np
import pytest
from heads import AFFINE, SHAPE, ball, rigid
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from infarct.core.geometry import Grid
from infarct.core.nifti import Volume
from infarct.followup.change import (
    Fate,
    Ratios,
    count_separate,
    fates,
    measure_tissue,
    onto,
    pseudonormalised,
)

GRID = Grid(SHAPE, AFFINE)
SMALL = Grid((7, 7, 5), AFFINE)
MASKS = arrays(bool, (7, 7, 5), elements=st.booleans())


@given(MASKS, MASKS)
def test_the_labels_partition_both_masks(earlier, later):
    label = fates(earlier, later, SMALL)
    assert ((label > 0) == (earlier | later)).all()
    assert (np.isin(label, [Fate.persistent, Fate.reversed]) == earlier).all()
    assert (np.isin(label, [Fate.persistent, Fate.recruited, Fate.new]) == later).all()


def test_growth_is_recruited_and_a_distant_lesion_is_new():
    earlier = ball((30, 0, 0), 14)
    grown, apart = ball((30, 0, 0), 20), ball((-35, 20, 10), 8)
    label = fates(earlier, grown | apart, GRID)
    assert (label[grown & ~earlier] == Fate.recruited).all()
    assert (label[apart] == Fate.new).all()
    assert count_separate(grown | apart, earlier, GRID) == 1
    assert count_separate(earlier, grown | apart, GRID) == 0


def test_a_lesion_within_a_slice_of_an_earlier_one_is_growth():
    earlier = np.zeros(SHAPE, bool)
    earlier[40, 40, 10] = True
    for step, fate in ((2, Fate.recruited), (5, Fate.new)):
        later = np.zeros(SHAPE, bool)
        later[40 + step, 40, 10] = True
        assert fates(earlier, later, GRID)[40 + step, 40, 10] == fate


@pytest.mark.parametrize("radius", [4, 9, 20])
def test_a_resampled_mask_keeps_its_volume_and_place(radius):
    mask = ball((20, -10, 5), radius)
    move = rigid((5, 3, -8), (4, -3, 6))
    finer = Grid(
        (150, 180, 60), np.diag([1.0, 1.0, 2.0, 1.0]) + np.pad(np.zeros((4, 3)), ((0, 0), (0, 1)))
    )
    finer.affine[:3, 3] = (-75, -90, -60)
    moved = onto(Volume(mask, AFFINE), finer, np.linalg.inv(move))
    before, after = mask.sum() * GRID.voxel_ml, moved.sum() * finer.voxel_ml
    assert after == pytest.approx(before, rel=0.1)
    centre = finer.affine[:3, :3] @ np.argwhere(moved).mean(axis=0) + finer.affine[:3, 3]
    own = AFFINE[:3, :3] @ np.argwhere(mask).mean(axis=0) + AFFINE[:3, 3]
    assert np.linalg.norm(move[:3, :3] @ own + move[:3, 3] - centre) < 1.0


def test_an_empty_mask_stays_empty():
    assert not onto(Volume(np.zeros(SHAPE, bool), AFFINE), GRID, np.eye(4)).any()


def test_pseudonormalisation_needs_normal_adc_and_prolonged_t2():
    def ratios(adc, b0):
        return Ratios(np.array(adc), np.ones(4), np.array(b0))

    earlier = np.array([True, True, True, False])
    first = ratios([0.6, 0.6, 0.6, 0.6], [1, 1, 1, 1])
    second = ratios([1.0, 1.0, 0.6, 1.0], [1.5, 1.0, 1.5, 1.5])
    assert pseudonormalised(earlier, first, second).tolist() == [True, False, False, False]


def test_tissue_is_measured_in_both_scans():
    where = ball((0, 0, 0), 10)
    first, second = (
        Ratios(*(np.full(SHAPE, v) for v in values)) for values in ((0.6, 2, 1), (1, 3, 4))
    )
    found = measure_tissue(where, first, second, GRID)
    assert found.adc_ratio == (0.6, 1)
    assert found.dwi_ratio == (2, 3)
    assert found.ml == pytest.approx(where.sum() * 0.02)
    assert np.isnan(measure_tissue(where & False, first, second, GRID).adc_ratio[0])
