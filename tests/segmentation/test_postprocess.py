import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from infarct.segmentation.postprocess import Cleaning, outline, remove_small_clusters

EVERYWHERE = np.ones((16, 16, 4), bool)


def test_clusters_below_five_pixels_are_removed() -> None:
    probability = np.zeros((16, 16, 4), np.float32)
    probability[2:4, 2:4, 1] = 1.0
    probability[8:13, 8, 2] = 1.0
    mask = outline(probability, 0.5, EVERYWHERE)
    assert not mask[:, :, 1].any()
    assert mask[8:13, 8, 2].all()


def test_cluster_size_is_measured_within_each_slice() -> None:
    mask = np.zeros((16, 16, 4), bool)
    mask[4:6, 4:6, :] = True  # sixteen voxels, but four on each slice
    assert not remove_small_clusters(mask).any()


def test_gaps_and_holes_are_filled_even_at_the_border() -> None:
    probability = np.zeros((16, 16, 4), np.float32)
    probability[0:8, 0:8, 1] = 1.0
    probability[3, 3, 1] = 0.0
    probability[5:7, 4:7, 1] = 0.0
    mask = outline(probability, 0.5, EVERYWHERE)
    assert mask[0:8, 0:8, 1].all()
    assert mask.sum() == 64


def test_closing_uses_a_cross() -> None:
    probability = np.zeros((16, 16, 4), np.float32)
    probability[2:5, 2:5, 1] = probability[2:5, 6:9, 1] = 1.0  # two squares, one pixel apart
    probability[3:9, 3, 2] = probability[3, 3:9, 2] = 1.0
    mask = outline(probability, 0.5, EVERYWHERE)
    assert mask[3, 5, 1]  # no closing would leave the gap
    assert mask[4, 4, 2]  # a square of 3 x 3 would leave the inner corner
    assert mask[:, :, 2].sum() == 12


def test_slices_may_be_stacked_along_any_axis() -> None:
    probability = np.random.default_rng(0).random((16, 16, 16)).astype(np.float32)
    everywhere = np.ones(probability.shape, bool)
    along_z = outline(probability, 0.6, everywhere, slice_axis=2)
    along_x = outline(np.moveaxis(probability, 2, 0), 0.6, everywhere, slice_axis=0)
    assert np.array_equal(np.moveaxis(along_z, 2, 0), along_x)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9))
def test_mask_is_inside_the_brain_and_without_small_clusters(seed: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    probability = rng.random((16, 16, 4)).astype(np.float32)
    brain = rng.random((16, 16, 4)) > 0.3
    mask = outline(probability, level, brain)
    assert not (mask & ~brain).any()
    assert np.array_equal(remove_small_clusters(mask), mask)


def test_smallest_lesion_is_a_volume_in_three_dimensions() -> None:
    probability = np.zeros((16, 16, 4), np.float32)
    probability[2, 2, 0:3] = 1.0  # three voxels
    probability[8, 8, 1] = probability[9, 9, 2] = 1.0  # two voxels that touch at a corner
    cleaning = Cleaning(closing=False, smallest_pixels=1, smallest_mm3=24.0)
    for voxel_mm3, kept in ((8.0, 3), (12.0, 5), (24.0, 5), (7.9, 0)):
        mask = outline(probability, 0.5, EVERYWHERE, 2, cleaning, voxel_mm3)
        assert mask.sum() == kept


def test_without_closing_gaps_stay_open_and_holes_are_filled() -> None:
    probability = np.zeros((16, 16, 4), np.float32)
    probability[2:5, 2:5, 1] = probability[2:5, 6:9, 1] = 1.0  # two squares, one pixel apart
    probability[3, 3, 1] = 0.0
    mask = outline(probability, 0.5, EVERYWHERE, 2, Cleaning(closing=False))
    assert not mask[:, 5, 1].any()
    assert mask[3, 3, 1]
    assert mask.sum() == 18
    assert probability[3, 3, 1] == 0
