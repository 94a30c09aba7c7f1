"""Metrics against panoptica, MedPy, scikit-learn and hand calculations; rules for empty masks."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from blobs import AFFINE, SHAPE, blobs, imperfect, mask_pairs
from hypothesis import given, settings
from hypothesis import strategies as st

from infarct.evaluation.metrics import (
    Images,
    contrast,
    dice,
    hausdorff95_mm,
    match_lesions,
    normal_tissue,
    overlap,
    score,
)

ORACLE = Path(__file__).parent.parent / "oracles" / "metrics.json"
NOTHING = np.zeros(SHAPE, dtype=bool)


def cube(*corner: int, size: int = 4) -> np.ndarray:
    mask = NOTHING.copy()
    mask[tuple(slice(c, c + size) for c in corner)] = True
    return mask


@pytest.mark.parametrize("number", range(12))
def test_scores_agree_with_panoptica_medpy_and_scikit_learn(number: int) -> None:
    reference, prediction = mask_pairs()[number]
    expected = json.loads(ORACLE.read_text())["pairs"][number]
    seen = score(reference, prediction, AFFINE)
    matched = match_lesions(reference, prediction).tp
    assert [seen.reference_lesions, seen.prediction_lesions, matched] == expected["lesions"]
    for name in ("dice", "precision", "sensitivity", "recognition_quality", "hausdorff95_mm"):
        assert getattr(seen, name) == pytest.approx(expected[name], rel=1e-9), name


def test_equations_of_the_paper_in_a_hand_calculated_example() -> None:
    counts = overlap(np.array([1, 1, 1, 1, 0], bool), np.array([0, 0, 1, 1, 1], bool))
    assert (counts.tp, counts.fp, counts.fn) == (2, 1, 2)
    assert counts.dice == pytest.approx(4 / 7)
    assert counts.precision == pytest.approx(2 / 3)
    assert counts.sensitivity == pytest.approx(1 / 2)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.2))
def test_dice_is_symmetric_and_precision_mirrors_sensitivity(seed: int, fraction: float) -> None:
    rng = np.random.default_rng(seed)
    reference = blobs(rng, fraction)
    prediction = imperfect(reference, rng)
    there, back = overlap(reference, prediction), overlap(prediction, reference)
    assert there.dice == back.dice
    assert there.precision == back.sensitivity
    assert 0 <= there.dice <= 1
    assert hausdorff95_mm(reference, prediction, AFFINE) == pytest.approx(
        hausdorff95_mm(prediction, reference, AFFINE)
    )


def test_a_perfect_prediction_scores_one() -> None:
    mask = blobs(np.random.default_rng(3))
    seen = score(mask, mask.copy(), AFFINE)
    assert (seen.dice, seen.precision, seen.sensitivity, seen.recognition_quality) == (1, 1, 1, 1)
    assert (seen.fp_voxels, seen.fn_voxels, seen.hausdorff95_mm) == (0, 0, 0)
    assert seen.absolute_difference_ml == seen.lesion_count_difference == 0


DIAGONAL = math.dist((0, 0, 0), np.array(SHAPE) * np.diag(AFFINE)[:3])


def test_two_empty_masks_score_one() -> None:
    seen = score(NOTHING, NOTHING, AFFINE)
    assert (seen.dice, seen.precision, seen.sensitivity, seen.recognition_quality) == (1,) * 4
    assert seen.hausdorff95_mm == 0
    assert not seen.detected


@pytest.mark.parametrize("empty_prediction", [True, False])
def test_one_empty_mask_scores_zero(empty_prediction: bool) -> None:
    lesion = cube(3, 3, 3)
    seen = score(*((lesion, NOTHING) if empty_prediction else (NOTHING, lesion)), AFFINE)
    assert (seen.dice, seen.precision, seen.sensitivity, seen.recognition_quality) == (0,) * 4
    assert seen.hausdorff95_mm == pytest.approx(DIAGONAL)
    assert seen.detected is not empty_prediction
    assert not seen.touched


@pytest.mark.parametrize("reference", [NOTHING, cube(3, 3, 3)], ids=["lesion-free", "lesion"])
def test_a_missing_prediction_is_never_correct(reference: np.ndarray) -> None:
    seen = score(reference, None, AFFINE)
    assert seen.missing
    assert (seen.dice, seen.precision, seen.sensitivity, seen.recognition_quality) == (0,) * 4
    assert seen.detected is not reference.any()
    assert seen.hausdorff95_mm == pytest.approx(DIAGONAL)


def test_a_prediction_elsewhere_counts_as_detected_but_not_touched() -> None:
    seen = score(cube(2, 2, 2), cube(20, 20, 8), AFFINE)
    assert seen.detected
    assert not seen.touched


def test_lesions_that_share_a_corner_are_one_component() -> None:
    two = cube(2, 2, 2) | cube(6, 6, 6)
    assert score(two, two, AFFINE).reference_lesions == 1
    assert score(two, cube(2, 2, 2) | cube(10, 2, 2), AFFINE).prediction_lesions == 2


def test_a_component_over_two_lesions_matches_only_the_larger() -> None:
    reference = cube(2, 2, 2) | cube(8, 2, 2, size=2)
    bridge = NOTHING.copy()
    bridge[2:10, 2:6, 2:6] = True
    match = match_lesions(reference, bridge)
    assert (match.tp, match.fp, match.fn) == (1, 0, 1)
    assert match.recognition_quality == pytest.approx(2 / 3)


def test_an_iou_of_exactly_a_quarter_is_a_match() -> None:
    whole = np.zeros((2, 2, 8), bool)
    whole[:, :, :4] = True
    quarter = np.zeros_like(whole)
    quarter[:, :, 0] = True
    assert match_lesions(whole, quarter).tp == 1
    quarter[0, 0, 0] = False
    assert match_lesions(whole, quarter).tp == 0


def test_distance_is_measured_in_world_space() -> None:
    turn = np.array([[0, -2.0, 0, 7], [1.0, 0, 0, -3], [0, 0, 5.0, 1], [0, 0, 0, 1]])
    one, other = NOTHING.copy(), NOTHING.copy()
    one[5, 5, 5] = other[5, 8, 5] = True
    assert hausdorff95_mm(one, other, turn) == pytest.approx(6.0)
    assert hausdorff95_mm(one, other, AFFINE) == pytest.approx(4.5)


def test_volume_is_in_millilitres() -> None:
    seen = score(cube(2, 2, 2), cube(2, 2, 2, size=2), AFFINE)
    assert seen.reference_ml == pytest.approx(64 * 1.5 * 1.5 * 5 / 1000)
    assert seen.absolute_difference_ml == pytest.approx(56 * 1.5 * 1.5 * 5 / 1000)


def phantom(unit: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return brain, lesion, DWI and ADC of a phantom with tissue, CSF and a lesion."""
    brain = np.ones(SHAPE, bool)
    lesion = cube(2, 2, 2)
    dwi = np.full(SHAPE, 100, np.float32)
    adc = np.full(SHAPE, 0.8e-3 * unit, np.float32)
    dwi[30:], adc[30:] = 20, 3e-3 * unit
    dwi[lesion], adc[lesion] = 250, 0.5e-3 * unit
    return brain, lesion, dwi, adc


@pytest.mark.parametrize("unit", [1.0, 1e3, 1e5, 1e6])
def test_kappa_compares_the_lesion_with_tissue_without_csf(unit: float) -> None:
    brain, lesion, dwi, adc = phantom(unit)
    seen = score(lesion, lesion, AFFINE, Images(brain, dwi, adc))
    assert seen.dwi_ratio_reference == seen.dwi_ratio_prediction == pytest.approx(2.5)
    assert seen.adc_ratio_reference == pytest.approx(0.5 / 0.8)


def test_kappa_without_adc_uses_the_whole_brain_as_normal_tissue() -> None:
    brain, lesion, dwi, _ = phantom(1.0)
    expected = 250 / dwi[brain & ~lesion].mean()
    assert contrast(dwi, lesion, normal_tissue(brain, lesion, None)) == pytest.approx(expected)


def test_kappa_of_an_empty_mask_is_undefined() -> None:
    brain, lesion, dwi, adc = phantom(1.0)
    seen = score(lesion, NOTHING, AFFINE, Images(brain, dwi, adc))
    assert math.isnan(seen.dwi_ratio_prediction)
    assert seen.dwi_ratio_reference == pytest.approx(2.5)
    assert math.isnan(score(lesion, lesion, AFFINE).dwi_ratio_reference)


def test_masks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="masks have different shapes"):
        dice(np.zeros((2, 2, 2), bool), np.zeros((2, 2, 3), bool))
