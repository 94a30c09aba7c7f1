import numpy as np
import pytest
from scipy import ndimage

from infarct.core.geometry import Grid
from infarct.core.nifti import Volume
from infarct.core.resampling import reached, resample

RNG = np.random.default_rng(4)


def test_identity_returns_the_image() -> None:
    volume = Volume(RNG.random((9, 8, 7)).astype(np.float32), np.diag([1.2, 1.2, 5, 1]))
    assert resample(volume, volume.grid) == pytest.approx(volume.data)


def test_agrees_with_scipy_under_a_general_affine() -> None:
    volume = Volume(RNG.random((20, 22, 18)).astype(np.float32), np.diag([2.0, 2.0, 3.0, 1.0]))
    grid = Grid((12, 11, 10), np.diag([1.5, 2.5, 2.0, 1.0]))
    matrix = np.eye(4)
    matrix[:3, :3] += RNG.normal(0, 0.05, (3, 3))  # with shear
    matrix[:3, 3] = (9.0, 8.0, 12.0)
    index = np.linalg.inv(volume.affine) @ matrix @ grid.affine
    expected = ndimage.affine_transform(volume.data, index, output_shape=grid.shape, order=1)
    assert resample(volume, grid, matrix) == pytest.approx(expected, abs=1e-5)


def test_an_image_ends_half_a_voxel_beyond_its_outer_slices() -> None:
    volume = Volume(np.ones((4, 4, 3), np.float32), np.diag([1.0, 1.0, 5.0, 1.0]))
    affine = np.eye(4)
    affine[2, 3] = -5.0
    values = resample(volume, Grid((1, 1, 21), affine))[0, 0]
    z = np.arange(21) - 5.0
    assert np.array_equal(values > 0, (z >= -2.5) & (z <= 12.5))


def test_labels_stay_labels() -> None:
    labels = RNG.integers(0, 5, (10, 10, 10)).astype(np.uint8)
    moved = resample(Volume(labels, np.eye(4)), Grid((20, 20, 20), np.eye(4) / 2), labels=True)
    assert moved.dtype == np.uint8
    assert set(np.unique(moved)) <= set(range(5))
    mask = resample(Volume(labels > 2, np.eye(4)), Grid((5, 5, 5), np.eye(4)), labels=True)
    assert mask.dtype == bool


def test_the_covered_voxels_do_not_depend_on_the_content() -> None:
    volume = Volume(np.zeros((10, 10, 4), np.float32), np.diag([2.0, 2.0, 5.0, 1.0]))
    affine = np.eye(4)
    affine[2, 3] = -8.0
    reach = reached(volume, Grid((19, 19, 40), affine))
    # From half a slice below the first centre to half a slice above the last.
    assert np.array_equal(np.flatnonzero(reach.all(axis=(0, 1))), np.arange(6, 26))
    assert not reach[..., :5].any()
    assert not reach[..., 26:].any()
