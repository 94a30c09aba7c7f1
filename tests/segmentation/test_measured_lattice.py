"""The measured-slice lattice: slice positions and mirror-symmetric boxes."""

from __future__ import annotations

import numpy as np
import pytest

from infarct.segmentation.measured_lattice import SIDES, brain_box, lattice


def plane(spacing: tuple[float, float, float], axis: int, flipped: bool) -> np.ndarray:
    """Return a voxel -> MNI transform with slices along one voxel axis and an in-plane rotation."""
    order = [a for a in range(3) if a != axis]
    affine = np.eye(4)
    affine[:3, :3] = 0
    turn = np.deg2rad(7)
    affine[0, order[0]], affine[1, order[0]] = spacing[0] * np.cos(turn), spacing[0] * np.sin(turn)
    affine[0, order[1]], affine[1, order[1]] = -spacing[1] * np.sin(turn), spacing[1] * np.cos(turn)
    affine[2, axis] = -spacing[2] if flipped else spacing[2]
    affine[:3, 3] = (-70, -100, 83.7 if flipped else -41.3)
    return affine


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("flipped", [False, True])
def test_lattice_slices_are_at_the_measured_positions(axis: int, flipped: bool) -> None:
    affine = plane((1.2, 1.2, 5.0), axis, flipped)
    shape = tuple(26 if a == axis else 120 for a in range(3))
    grid = lattice(affine, shape)
    voxels = np.zeros((4, 26))
    voxels[axis], voxels[3] = np.arange(26), 1
    measured = np.sort((affine @ voxels)[2])
    assert grid.shape == (192, 224, 26)
    np.testing.assert_allclose(grid.affine[2, 3] + grid.affine[2, 2] * np.arange(26), measured)


def test_thin_slices_are_subsampled_and_slices_outside_the_grid_omitted() -> None:
    grid = lattice(plane((1.0, 1.0, 1.0), 2, False), (120, 120, 100))
    assert grid.affine[2, 2] == 2.0
    assert grid.shape[2] == 50
    tall = lattice(plane((1.0, 1.0, 5.0), 2, False), (120, 120, 100))
    assert tall.affine[2, 3] + 5.0 * (tall.shape[2] - 1) <= 113.5


def test_reversing_x_mirrors_the_lattice_at_the_midplane() -> None:
    grid = lattice(plane((1.0, 1.0, 5.0), 2, False), (120, 120, 20))
    x = grid.affine[0, 3] + np.arange(grid.shape[0])
    np.testing.assert_array_equal(x[::-1], -x)


def test_brain_box_is_symmetric_and_contains_the_brain() -> None:
    brain = np.zeros((192, 224, 31), bool)
    brain[40:120, 21:199, 3:29] = True
    x, y, z = brain_box(brain)
    assert brain[x, y, z].sum() == brain.sum()
    assert x.start + x.stop == 192
    assert (x.stop - x.start) % SIDES[0] == (y.stop - y.start) % SIDES[1] == 0
    assert (z.start, z.stop) == (3, 29)


def test_brain_box_of_an_empty_mask_is_the_whole_lattice() -> None:
    assert brain_box(np.zeros((192, 224, 9), bool)) == (slice(0, 192), slice(0, 224), slice(0, 9))
