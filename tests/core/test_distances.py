import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import ndimage

from infarct.core.distances import box_around, depth_in, distance_to

SPACING = (1.3, 1.0, 4.0)


@pytest.fixture
def mask() -> np.ndarray:
    """Two blobs, one at the border of the image."""
    mask = np.zeros((30, 26, 12), dtype=bool)
    mask[20:26, 5:12, 6:9] = True
    mask[:4, 20:, 3:5] = np.random.default_rng(0).random((4, 6, 2)) > 0.3
    return mask


def test_the_box_has_a_margin_within_the_image() -> None:
    mask = np.zeros((30, 26, 12), dtype=bool)
    mask[20:26, 1:12, 6] = True
    assert box_around(mask, 3.0, SPACING) == (slice(17, 29), slice(0, 15), slice(5, 8))
    assert box_around(mask, 0.0, SPACING) == (slice(19, 27), slice(0, 13), slice(5, 8))


def test_distances_within_reach_are_those_of_the_whole_image(mask: np.ndarray) -> None:
    exact = ndimage.distance_transform_edt(~mask, sampling=SPACING)
    near = exact <= 5.0
    distance = distance_to(mask, 5.0, SPACING)
    assert_allclose(distance[near], exact[near])
    assert (distance[~near] > 5.0).all()


def test_depth_is_that_of_the_whole_image(mask: np.ndarray) -> None:
    exact = ndimage.distance_transform_edt(mask, sampling=SPACING)
    assert_allclose(depth_in(mask, SPACING), exact)
