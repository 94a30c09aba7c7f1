import math

import numpy as np
import pytest

from infarct.core.geometry import Grid
from infarct.measurement.volumetry import MeasurementImages, measure

AFFINE = np.diag([-1.5, 1.5, 5.0, 1.0])  # stored right to left
AFFINE[:3, 3] = (45.0, -45.0, -30.0)
SHAPE = (61, 61, 12)


def scan(mni_from_native: np.ndarray | None = None) -> MeasurementImages:
    brain = np.ones(SHAPE, bool)
    brain[:, :, 0] = False
    dwi = np.full(SHAPE, 100.0, np.float32)
    adc = np.full(SHAPE, 0.8e-3, np.float32)
    adc[:, 50:] = 3e-3  # fluid, no part of normal tissue
    dwi[:, 50:] = 20.0
    probability = np.zeros(SHAPE, np.float32)
    grid = Grid(SHAPE, AFFINE)
    return MeasurementImages(
        dwi,
        adc,
        probability,
        brain,
        grid,
        np.eye(4) if mni_from_native is None else mni_from_native,
    )


def test_two_lesions_are_measured_in_ml_and_mm() -> None:
    s = scan()
    lesion = np.zeros(SHAPE, bool)
    lesion[40:50, 10:20, 3:5] = True  # x = 45 - 1.5 * 44.5 < 0: the patient's left
    lesion[5:8, 10:13, 8] = True
    s.dwi[lesion], s.adc[lesion], s.probability[lesion] = 250.0, 0.4e-3, 0.8
    m = measure(lesion, s, slice_axis=2)
    voxel_ml = 1.5 * 1.5 * 5 / 1000
    assert m.lesion_volume_ml == pytest.approx(209 * voxel_ml)
    assert m.intracranial_volume_ml == pytest.approx(61 * 61 * 11 * voxel_ml)
    assert (m.left_ml, m.right_ml) == pytest.approx((200 * voxel_ml, 9 * voxel_ml))
    assert (m.dwi_ratio, m.adc_ratio) == pytest.approx((2.5, 0.5), rel=1e-4)
    large, small = m.lesions
    assert (large.label, large.side, large.slices) == (1, "left", 2)
    assert (small.label, small.side, small.slices) == (2, "right", 1)
    assert large.centroid_mm == pytest.approx((45 - 1.5 * 44.5, -45 + 1.5 * 14.5, -30 + 5 * 3.5))
    assert large.mean_adc == pytest.approx(0.4e-3)
    assert large.mean_probability == pytest.approx(0.8)
    assert large.volume_ml + small.volume_ml == pytest.approx(m.lesion_volume_ml)


def test_sides_are_those_of_the_mni_frame() -> None:
    shift = np.eye(4)
    shift[0, 3] = 60.0  # the head lies far to the left in the scanner
    lesion = np.zeros(SHAPE, bool)
    lesion[40:50, 10:20, 3] = True
    m = measure(lesion, scan(shift), 2)
    assert m.lesions[0].side == "right"
    assert m.lesions[0].centroid_mni_mm[0] == pytest.approx(m.lesions[0].centroid_mm[0] + 60)


def test_a_lesion_across_the_midline_is_bilateral() -> None:
    lesion = np.zeros(SHAPE, bool)
    lesion[22:38, 10:20, 3] = True
    assert measure(lesion, scan(), 2).lesions[0].side == "bilateral"


@pytest.mark.parametrize(("left", "side"), [(9, "left"), (8, "bilateral"), (1, "right")])
def test_nine_tenths_on_one_side_define_the_side(left: int, side: str) -> None:
    lesion = np.zeros(SHAPE, bool)
    lesion[21 + left : 31 + left, 10, 3] = True  # from 31 on, x < 0
    assert measure(lesion, scan(), 2).lesions[0].side == side


def test_pieces_that_touch_at_a_corner_are_one_lesion() -> None:
    lesion = np.zeros(SHAPE, bool)
    lesion[10, 10, 3] = lesion[11, 11, 4] = lesion[20, 20, 5] = True
    assert measure(lesion, scan(), 2).lesion_count == 2


def test_no_lesion_leaves_volumes_at_zero_and_ratios_undefined() -> None:
    m = measure(np.zeros(SHAPE, bool), scan(), 2)
    assert (m.lesion_volume_ml, m.lesion_count, m.lesions) == (0.0, 0, ())
    assert math.isnan(m.dwi_ratio)
    assert math.isnan(m.mean_adc)
