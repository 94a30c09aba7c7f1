import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infarct.reporting.radiological_view import (
    box_around,
    contour_path,
    head_of,
    key_slices,
    radiological_spacing,
    to_radiological,
)


def test_patient_left_is_on_the_right_for_every_storage_order() -> None:
    data = np.zeros((6, 7, 8))
    data[0, 6, 7] = 1  # RAS+ storage: left, front, top
    for affine, stored in (
        (np.eye(4), data),
        (np.diag([-1, 1, 1, 1]), data[::-1]),
        (np.eye(4)[:, [2, 0, 1, 3]], data.transpose(2, 0, 1)),
        (np.diag([-1, -1, -1, 1]), data[::-1, ::-1, ::-1]),
    ):
        reordered = to_radiological(stored, affine.astype(float))
        assert reordered.shape == (6, 7, 8)
        assert reordered[5, 6, 7] == 1


def test_spacing_is_reordered_with_the_image() -> None:
    affine = np.array([[0, 0, 3.0, 0], [1.0, 0, 0, 0], [0, -2.0, 0, 0], [0, 0, 0, 1]])
    assert radiological_spacing(affine).tolist() == [3.0, 1.0, 2.0]


def area_of(path: str) -> float:
    """Return the enclosed area of an SVG path; holes are subtracted."""
    total = 0.0
    for piece in re.findall(r"M([^Z]*)Z", path):
        x, y = np.array([point.split(",") for point in piece.split()], float).T
        total += 0.5 * float(x @ np.roll(y, -1) - y @ np.roll(x, -1))
    return abs(total)


@given(st.integers(3, 20), st.integers(3, 20), st.integers(0, 9))
def test_contour_encloses_the_mask(width: int, height: int, corner: int) -> None:
    mask = np.zeros((30, 30), bool)
    mask[corner : corner + width, corner : corner + height] = True
    # The contour runs halfway between pixel centres and cuts an eighth of each corner pixel.
    assert area_of(contour_path(mask, lambda x, y: (x, y))) == pytest.approx(
        mask.sum() - 0.5, abs=0.05
    )


def test_contour_follows_the_placement_and_excludes_holes() -> None:
    mask = np.zeros((12, 12), bool)
    mask[2:10, 2:10] = True
    whole = area_of(contour_path(mask, lambda x, y: (x, y)))
    mask[5, 5] = False
    holed = contour_path(mask, lambda x, y: (x, y))
    assert area_of(holed) == pytest.approx(whole - 0.5, abs=0.05)
    assert area_of(contour_path(mask, lambda x, y: (2 * x + 5, -3 * y))) == pytest.approx(
        6 * area_of(holed), abs=0.5
    )
    assert contour_path(np.zeros((4, 4), bool), lambda x, y: (x, y)) == ""


def test_box_stays_inside_the_image() -> None:
    mask = np.zeros((10, 12, 3), bool)
    mask[8, 4, 1] = True
    columns, rows = box_around(mask, 3)
    assert (columns, rows) == (slice(5, 10), slice(1, 8))


def test_key_slices_contain_lesion_if_there_is_one() -> None:
    brain = np.ones((4, 4, 40), bool)
    lesion = np.zeros_like(brain)
    assert len(key_slices(lesion, brain, 12)) == 12
    lesion[1, 1, [3, 4, 17]] = True
    assert key_slices(lesion, brain, 12) == [3, 4, 17]
    lesion[1, 1, 5:38] = True
    few = key_slices(lesion, brain, 12)
    assert len(few) == 12
    assert (few[0], few[-1]) == (3, 37)


def test_a_poor_brain_mask_hides_no_tissue() -> None:
    b0 = np.zeros((30, 30, 3), np.float32)
    b0[5:25, 5:25] = 100
    b0[1, 1] = 100  # a spark in the air
    brain = np.zeros(b0.shape, bool)
    brain[5:15, 5:25] = True
    assert np.array_equal(head_of(b0, brain), (b0 > 0) & (np.arange(30) > 1)[:, None, None])
