import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infarct.inference.subvolumes import PHASES, brain_box, merge, split


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.sampled_from([(), (3,)]))
def test_merge_undoes_split_exactly(x: int, y: int, z: int, lead: tuple[int, ...]) -> None:
    shape = (*lead, 2 * x, 2 * y, 4 * z)
    volume = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    parts = split(volume)
    assert parts.shape == (16, *lead, x, y, z)
    assert np.array_equal(merge(parts), volume)


def test_each_part_takes_every_second_voxel_and_every_fourth_slice() -> None:
    volume = np.arange(8 * 8 * 8).reshape(8, 8, 8)
    parts = split(volume)
    assert len(set(PHASES)) == 16
    for (i, j, k), part in zip(PHASES, parts, strict=True):
        assert part[1, 2, 1] == volume[2 + i, 4 + j, 4 + k]


@given(st.integers(0, 10**6), st.floats(0, 0.02))
def test_the_box_is_the_smallest_aligned_one_around_the_brain(seed: int, share: float) -> None:
    brain = np.random.default_rng(seed).random((24, 32, 16)) < share
    box = brain_box(brain, 8)
    assert all(s.start % 8 == s.stop % 8 == 0 for s in box)
    assert brain[box].sum() == brain.sum()
    if brain.any():
        for axis, size in enumerate(brain[box].shape):
            for block in (range(8), range(size - 8, size)):
                assert brain[box].take(list(block), axis).any()
    else:
        assert brain[box].shape == brain.shape


def test_shapes_that_are_not_divisible_are_rejected() -> None:
    with pytest.raises(ValueError, match="not divisible"):
        split(np.zeros((4, 4, 6)))
    with pytest.raises(ValueError, match="16 sub-volumes"):
        merge(np.zeros((4, 2, 2, 2)))
