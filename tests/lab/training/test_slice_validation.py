"""Scores of masks on measured slices, checked against counts by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch")

from infarct.core.diffusion import Mask
from infarct.lab.training.slice_validation import (
    COMPOSITION,
    SIZES,
    CaseScore,
    SliceCase,
    names,
    score,
    table,
    to_box,
)
from infarct.segmentation.measured_lattice import SIDES, brain_box

SHAPE = (16, 16, 8)
SPACING_MM = 4.0
VOXEL_ML = 0.004


def _case(lesion: Mask, name: str = "test-000") -> SliceCase:
    image = np.zeros((4, *SHAPE), np.float32)
    return SliceCase(name, image, lesion, np.ones(SHAPE, bool), SPACING_MM)


def _empty() -> Mask:
    return np.zeros(SHAPE, bool)


def _row(name: str, **changes: object) -> CaseScore:
    """Return the score of a scan; without an infarct and without a mask unless changed."""
    values: dict[str, object] = {
        "dice": math.nan,
        "reference_ml": 0.0,
        "predicted_ml": 0.0,
        "foci": (),
        "false_foci": 0,
    }
    return CaseScore(name=name, **(values | changes))  # type: ignore[arg-type]


def test_score_counts_a_found_a_missed_and_a_false_focus() -> None:
    lesion, mask = _empty(), _empty()
    lesion[1:4, 1:4, 1:3] = True  # 18 voxels, 12 of them found
    mask[2:5, 1:4, 1:3] = True  # 18 voxels
    lesion[10:12, 10:12, 5] = True  # 4 voxels, missed
    mask[14, 2, 6] = True  # 1 voxel, false
    found = score(mask, _case(lesion))
    assert found.dice == pytest.approx(2 * 12 / (22 + 19))
    assert found.reference_ml == pytest.approx(22 * VOXEL_ML)
    assert found.predicted_ml == pytest.approx(19 * VOXEL_ML)
    assert sorted(found.foci) == [
        (pytest.approx(4 * VOXEL_ML), False),
        (pytest.approx(18 * VOXEL_ML), True),
    ]
    assert found.false_foci == 1


def test_an_identical_mask_scores_one_and_an_empty_mask_zero() -> None:
    lesion = _empty()
    lesion[2:6, 2:6, 2:4] = True
    same, nothing = score(lesion, _case(lesion)), score(_empty(), _case(lesion))
    assert same.dice == 1
    assert same.predicted_ml == same.reference_ml
    assert same.false_foci == 0
    assert nothing.dice == 0
    assert nothing.predicted_ml == 0
    assert [hit for _, hit in same.foci + nothing.foci] == [True, False]


def test_voxels_that_touch_at_a_corner_are_one_focus() -> None:
    lesion = _empty()
    lesion[3, 3, 3] = lesion[4, 4, 4] = True
    mask = _empty()
    mask[4, 4, 4] = mask[5, 5, 5] = True
    found = score(mask, _case(lesion))
    assert found.foci == ((pytest.approx(2 * VOXEL_ML), True),)
    assert found.false_foci == 0


def test_one_component_of_the_mask_can_find_two_foci() -> None:
    lesion = _empty()
    lesion[2, 2, 2] = lesion[6, 2, 2] = True
    mask = _empty()
    mask[2:7, 2, 2] = True
    found = score(mask, _case(lesion))
    assert [hit for _, hit in found.foci] == [True, True]
    assert found.false_foci == 0


def test_without_an_infarct_every_component_is_false_and_dice_is_undefined() -> None:
    mask = _empty()
    mask[1, 1, 1] = mask[8, 8, 4] = True
    found = score(mask, _case(_empty()))
    assert math.isnan(found.dice)
    assert (found.reference_ml, found.foci, found.false_foci) == (0, (), 2)
    assert found.predicted_ml == pytest.approx(2 * VOXEL_ML)
    clean = score(_empty(), _case(_empty()))
    assert math.isnan(clean.dice)
    assert (clean.predicted_ml, clean.false_foci) == (0, 0)


def test_mirroring_scan_and_mask_together_leaves_the_score_unchanged() -> None:
    rng = np.random.default_rng(0)
    lesion, mask = rng.random(SHAPE) < 0.02, rng.random(SHAPE) < 0.02
    plain, mirrored = score(mask, _case(lesion)), score(mask[::-1], _case(lesion[::-1]))
    assert sorted(plain.foci) == sorted(mirrored.foci)
    assert (plain.dice, plain.false_foci) == (mirrored.dice, mirrored.false_foci)


def test_table_averages_dice_by_cohort_with_the_standard_error() -> None:
    rows = dict(
        table(
            [
                _row("test-000", dice=0.5, reference_ml=1.0),
                _row("test-001", dice=0.9, reference_ml=2.0),
                _row("embolic-000", dice=0.2, reference_ml=1.6),
                _row("test-002"),
            ]
        )
    )
    # The SD of .5 and .9 is .2, and .2 / sqrt(2) = .141; the lesion-free scan does not count.
    assert rows["Dice, test"] == "0.700 +- 0.141 (2)"
    assert rows["Dice, embolic"] == "0.200 +- 0.000 (1)"
    assert "Dice, hyperacute" not in rows
    assert rows["Dice, below 1.7 ml"] == "0.350 (2)"


def test_table_counts_recall_by_size_and_lesion_wise_f1() -> None:
    scores = [
        _row("test-000", reference_ml=16.05, foci=((0.05, False), (16.0, True)), false_foci=2),
        _row("embolic-000", reference_ml=0.6, foci=((0.05, True), (0.05, True), (0.5, False))),
        _row("embolic-001", reference_ml=0.1, foci=((0.1, True),), false_foci=1),
    ]
    rows = dict(table(scores))
    assert rows["recall of foci, below .1 ml"] == "0.667 (3)"
    assert rows["recall of foci, .1 to 1 ml"] == "0.500 (2)"  # a size includes its lower limit
    assert rows["recall of foci, 1 to 14 ml"] == "-"
    assert rows["recall of foci, above 14 ml"] == "1.000 (1)"
    # 4 found, 2 missed, 3 false; of the embolic ones 3 found, 1 missed, 1 false.
    assert rows["lesion-wise F1, all"] == f"{8 / 13:.3f} (3 false)"
    assert rows["lesion-wise F1, embolic"] == "0.750 (1 false)"


def test_table_takes_the_median_volume_ratio_of_large_infarcts_only() -> None:
    rows = dict(
        table(
            [
                _row("test-000", reference_ml=14.0, predicted_ml=7.0),
                _row("test-001", reference_ml=20.0, predicted_ml=20.0),
                _row("test-002", reference_ml=40.0, predicted_ml=80.0),
                _row("test-003", reference_ml=13.9, predicted_ml=139.0),
            ]
        )
    )
    assert rows["volume ratio, 14 ml and more"] == "1.000 (3)"


def test_table_reports_false_voxels_of_lesion_free_scans() -> None:
    scores = [
        _row("not-visible-000"),
        _row("not-visible-001", predicted_ml=0.3, false_foci=1),
        _row("not-visible-002"),
        _row("test-000", dice=0.8, reference_ml=1.0, predicted_ml=5.0),
    ]
    rows = dict(table(scores))
    assert rows["lesion-free scans with false voxels"] == "0.33 (3)"
    assert rows["false volume in them, ml"] == "0.100"
    assert "lesion-free scans with false voxels" not in dict(table(scores[-1:]))


def test_the_sizes_divide_all_volumes_without_gap_or_overlap() -> None:
    limits = list(SIZES.values())
    assert limits[0][0] == 0
    assert limits[-1][1] == math.inf
    assert [high for _, high in limits[:-1]] == [low for low, _ in limits[1:]]


def test_names_are_unique_and_a_part_is_the_beginning_of_every_cohort() -> None:
    every = names()
    assert len(every) == len(set(every)) == sum(COMPOSITION.values())
    half = names(0.5)
    assert set(half) <= set(every)
    for cohort, count in COMPOSITION.items():
        of_cohort = [name for name in half if name.rpartition("-")[0] == cohort]
        assert of_cohort == [f"{cohort}-{k:03d}" for k in range(round(count / 2))]


def test_a_case_knows_its_cohort_and_voxel_volume() -> None:
    case = _case(_empty(), "day-after-012")
    assert case.cohort == "day-after"
    assert case.voxel_ml == pytest.approx(VOXEL_ML)


@pytest.mark.parametrize("slices", [1, 5, 16, 33])
def test_to_box_keeps_the_brain_and_pads_slices_for_the_networks(slices: int) -> None:
    brain = np.zeros((192, 224, slices), bool)
    brain[60:130, 50:150] = True
    volume = np.zeros((2, *brain.shape), np.float32)
    volume[:, brain] = np.arange(1, brain.sum() + 1)
    box = to_box(volume, brain)
    assert box.shape[0] == 2
    assert all(size % side == 0 for size, side in zip(box.shape[1:], SIDES, strict=True))
    assert box.shape[-1] - slices in range(SIDES[2])
    # Order and values of the voxels stay; padded slices are empty.
    assert np.array_equal(box[:, to_box(brain, brain)], volume[:, brain])
    assert not box[..., slices:].any()


def test_to_box_is_symmetric_about_the_midplane() -> None:
    brain = np.zeros((192, 224, 8), bool)
    brain[70:150, 60:140] = True
    x = brain_box(brain)[0]
    assert x.start + x.stop == 192
    assert np.array_equal(to_box(brain, brain)[::-1], to_box(brain[::-1], brain[::-1]))
