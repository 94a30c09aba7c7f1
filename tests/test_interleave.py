import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infarct.interleave import PHASES, merge, split


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


def test_shapes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="not divisible"):
        split(np.zeros((4, 4, 6)))
    with pytest.raises(ValueError, match="16 sub-volumes"):
        merge(np.zeros((4, 2, 2, 2)))
