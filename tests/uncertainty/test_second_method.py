"""Agreement between two methods and the findings about disagreement."""

import numpy as np
import pytest

from infarct.core.geometry import Grid
from infarct.uncertainty.second_method import compare_methods, second_method_findings

GRID = Grid((40, 5, 5), np.diag([2.0, 10.0, 5.0, 1.0]))
"""A layer of 25 voxels of 0.1 ml, 2.5 ml in total."""


def compare(first: slice, second: slice):
    masks = np.zeros((2, *GRID.shape), dtype=bool)
    masks[0, first], masks[1, second] = True, True
    comparison = compare_methods(masks[0], masks[1], GRID, 2, "cfuzzy")
    volume = float(masks[0].sum()) * 0.1
    return comparison, [finding.level for finding in second_method_findings(comparison, volume)]


@pytest.mark.parametrize(
    ("first", "second", "agrees", "levels"),
    [
        # A third of the smaller mask is shared, whatever the volumes.
        (slice(0, 6), slice(4, 40), True, []),
        (slice(0, 36), slice(34, 40), True, []),
        (slice(0, 7), slice(5, 40), False, ["warning"]),
        (slice(0, 36), slice(35, 40), False, ["warning"]),
        (slice(0, 10), slice(20, 30), False, ["warning"]),
        (slice(0, 10), slice(0), False, ["warning"]),
        # Without a lesion there is nothing to confirm.
        (slice(0), slice(0), None, []),
        (slice(0), slice(0, 10), None, []),
    ],
)
def test_methods_agree_if_they_share_a_third_of_the_smaller_mask(
    first, second, agrees, levels
) -> None:
    comparison, found = compare(first, second)
    assert comparison.agrees is agrees
    assert found == levels


@pytest.mark.parametrize(
    ("voxels", "agrees"),
    # 0.9 ml are not compared; of 1 ml at least 0.34 ml must be shared.
    [(9, None), (10, False)],
)
def test_lesions_below_one_millilitre_are_not_compared(voxels, agrees) -> None:
    first, second = np.zeros((2, 2500), dtype=bool)
    first[:voxels], second[100:200] = True, True
    masks = (mask.reshape(100, 5, 5) for mask in (first, second))
    grid = Grid((100, 5, 5), GRID.affine)
    assert compare_methods(*masks, grid, 2, "cfuzzy").agrees is agrees


def test_a_second_mask_below_one_millilitre_must_share_a_third_of_one() -> None:
    first, second = np.zeros((2, *GRID.shape), dtype=bool)
    first[:10] = True
    second[0, 0, :3] = True
    assert compare_methods(first, second, GRID, 2, "cfuzzy").agrees is False
    second[0, 0, :4] = True
    assert compare_methods(first, second, GRID, 2, "cfuzzy").agrees is True


def test_volumes_are_in_millilitres() -> None:
    comparison, _ = compare(slice(0, 10), slice(5, 25))
    assert comparison.volume_ml == pytest.approx(50.0)
    assert comparison.overlap_ml == pytest.approx(12.5)
    (finding,) = second_method_findings(compare(slice(0, 10), slice(0))[0], 25.0)
    assert "25 ml by the network and 0 ml by the cfuzzy map do not overlap" in finding.message


def test_the_largest_difference_is_a_point_in_scanner_space() -> None:
    affine = np.array([[-2.0, 0, 0, 50], [0, 10, 0, -20], [0, 0, 5, 7], [0, 0, 0, 1]])
    first, second = np.zeros((2, *GRID.shape), dtype=bool)
    first[10:13, 2, 1] = True
    second[20:25, 2, 3] = True
    grid = Grid(GRID.shape, affine)
    assert compare_methods(first, second, grid, 2, "cfuzzy").differs_at_mm == (6.0, 0.0, 22.0)
    assert compare_methods(first, first, grid, 2, "cfuzzy").differs_at_mm is None
