"""Compare each matrix with the equivalent SciPy operation."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from infarct.core.geometry import Grid
from infarct.core.nifti import Volume
from infarct.core.resampling import resample
from infarct.lab.simulation import separable_filters


@pytest.fixture
def volume():
    return np.random.default_rng(0).normal(size=(13, 11, 9)).astype(np.float32)


def test_apply_multiplies_one_matrix_per_axis(volume):
    rng = np.random.default_rng(1)
    a, b, c = rng.normal(size=(5, 13)), rng.normal(size=(17, 11)), rng.normal(size=(20, 9))
    expected = np.einsum("ijk,ai,bj,ck->abc", volume, a, b, c)
    found = separable_filters.apply(torch.from_numpy(volume), [a, b, c])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_apply_leaves_axes_without_matrix_unchanged(volume):
    shrink = np.ones((2, 9)) / 9
    found = separable_filters.apply(torch.from_numpy(volume), [None, None, shrink])
    np.testing.assert_allclose(found[..., 0], volume.mean(axis=2), atol=1e-6)


def test_reflecting_blur_matches_scipy(volume):
    fwhm = 2.5
    blurs = [separable_filters.reflecting_blur(n, fwhm) for n in volume.shape]
    found = separable_filters.apply(torch.from_numpy(volume), blurs)
    expected = gaussian_filter(volume, fwhm / np.sqrt(8 * np.log(2)), truncate=3.0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_blur_preserves_constants_and_has_the_given_sd():
    spike = np.zeros(101)
    spike[50] = 1
    spread = separable_filters.blur(101, 3.0) @ spike
    apart = np.arange(101) - 50
    assert np.sqrt((spread * apart**2).sum() / spread.sum()) == pytest.approx(3.0, rel=1e-3)
    np.testing.assert_allclose(separable_filters.blur(20, 3.0) @ np.ones(20), 1)


def test_linear_matches_resample(volume):
    """Interpolation to the MNI grid matches preprocessing, including the borders."""
    origin, step = np.array([1.3, -0.8, 2.1]), np.array([1.7, 0.9, 2.5])
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = origin
    wanted = Grid((22, 12, 25), np.eye(4))
    expected = resample(Volume(volume, affine), wanted)
    matrices = [
        separable_filters.linear(n, (np.arange(m) - o) / s)
        for n, m, o, s in zip(volume.shape, wanted.shape, origin, step, strict=True)
    ]
    found = separable_filters.apply(torch.from_numpy(volume), matrices)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_splines_reproduce_constants_and_linear_functions():
    basis = separable_filters.spline(50, 7.0)
    basis = basis / basis.sum(axis=1).mean()
    knots = np.arange(basis.shape[1]) - 1.0
    np.testing.assert_allclose(basis.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(basis @ knots, np.arange(50) / 7.0, atol=1e-6)
