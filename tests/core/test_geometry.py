from itertools import permutations

import nibabel as nib
import numpy as np
import pytest

from infarct.core.geometry import MNI_GRID, Grid, reorder


def test_spacing_and_volume_of_a_rotated_voxel() -> None:
    turn = np.deg2rad(30)
    affine = np.eye(4)
    affine[:2, :2] = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    affine[:3, :3] = affine[:3, :3] @ np.diag([1.2, 0.9, 5.0])
    grid = Grid((10, 10, 4), affine)
    assert grid.spacing == pytest.approx([1.2, 0.9, 5.0])
    assert grid.voxel_ml == pytest.approx(1.2 * 0.9 * 5.0 / 1000)


def test_grids_match_within_a_tolerance_at_every_corner() -> None:
    tilted = MNI_GRID.affine.copy()
    tilted[2, 1] += 1e-4  # nothing at the first voxel, 22 micrometres at the last row
    assert MNI_GRID.matches(Grid(MNI_GRID.shape, MNI_GRID.affine.copy()))
    assert not MNI_GRID.matches(Grid(MNI_GRID.shape, tilted))
    assert MNI_GRID.matches(Grid(MNI_GRID.shape, tilted), tolerance_mm=0.05)
    assert not MNI_GRID.matches(Grid((192, 224, 191), MNI_GRID.affine))


@pytest.mark.parametrize("axes", [[1, 0, 2], [0, 2, 1], [2, 1, 0], [1, 2, 0]])
def test_a_cube_with_another_axis_order_is_another_grid(axes: list[int]) -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    exchanged = affine.copy()
    exchanged[:, :3] = affine[:, axes]
    assert not Grid((9, 9, 9), affine).matches(Grid((9, 9, 9), exchanged))


def test_mni_grid_has_the_first_voxel_of_the_paper() -> None:
    assert MNI_GRID.affine @ [0, 0, 0, 1] == pytest.approx([-96, -132, -78, 1])


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
def test_permuted_and_flipped_axes_are_reordered(
    order: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] @ np.diag([1.1, 1.3, 5.0])
    affine[:3, 3] = (-80, -100, -40)
    target = Grid((5, 6, 4), affine)
    data = rng.integers(0, 9, target.shape)
    # nibabel is the oracle: it turns the array and keeps its affine up to date.
    ornt = np.array([[axis, -1 if axis in flips else 1] for axis in order])
    turned = nib.Nifti1Image(data.astype(np.int16), affine).as_reoriented(ornt)
    x, y, z = turned.shape
    found = reorder(np.asarray(turned.dataobj), Grid((x, y, z), turned.affine), target)
    assert found is not None
    np.testing.assert_array_equal(found, data)


def test_grids_within_a_few_hundredths_of_a_voxel_match() -> None:
    data = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    affine = np.diag([2.0, 2.0, 6.0, 1.0])
    target = Grid((4, 5, 6), affine)
    for shift, same in ((0.09, True), (0.11, False)):
        moved = affine.copy()
        moved[0, 3] += shift
        assert (reorder(data, Grid(target.shape, moved), target) is not None) is same
    for other in (np.diag([4.0, 2.0, 6.0, 1.0]), np.diag([2.0, 2.0, 6.2, 1.0])):
        assert reorder(data, Grid(target.shape, other), target) is None
    assert reorder(data, Grid(target.shape, affine), Grid((4, 5, 7), affine)) is None
