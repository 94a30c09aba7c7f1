import numpy as np
import pytest

from infarct.core.errors import ContentError
from infarct.core.nifti import Volume
from infarct.preprocessing.slice_checks import check_slices, empty_between

AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])


def codes(data: np.ndarray) -> list[str]:
    return [finding.code for finding in check_slices("DWI", Volume(data, AFFINE))]


@pytest.fixture
def dwi(head) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 0.01 * head.dwi.max(), head.dwi.shape)
    return (head.dwi + noise).astype(np.float32)


def test_slices_in_order_pass_in_both_directions(dwi: np.ndarray) -> None:
    padded = dwi.copy()
    padded[:, :, :3] = padded[:, :, -2:] = 0
    assert codes(dwi) == codes(dwi[:, :, ::-1]) == codes(padded) == []


@pytest.mark.parametrize("value", [0.0, np.nan, 7.0])
def test_empty_slices_are_numbered_from_one(dwi: np.ndarray, value: float) -> None:
    dwi[:, :, [12, 14]] = value
    (finding,) = check_slices("DWI", Volume(dwi, AFFINE))
    assert finding.code == "empty-slices"
    assert "slice 13, 15" in finding.message


def test_a_slice_stored_twice_is_reported(dwi: np.ndarray) -> None:
    dwi[:, :, 12] = dwi[:, :, 11]
    (finding,) = check_slices("DWI", Volume(dwi, AFFINE))
    assert finding.code == "repeated-slices"
    assert "slice 13" in finding.message
    assert codes(np.repeat(dwi, 2, axis=2)) == []  # resampled to half the thickness


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_slices_in_another_order_are_rejected(dwi: np.ndarray, seed: int | None) -> None:
    count = dwi.shape[2]
    interleaved = [*range(0, count, 2), *range(1, count, 2)]
    order = interleaved if seed is None else np.random.default_rng(seed).permutation(count)
    with pytest.raises(ContentError, match="anatomical order"):
        codes(dwi[:, :, order])
    few = dwi[:, :, order][:, :, :7]
    assert codes(few) == []  # too few to tell


def test_padding_at_both_ends_is_not_empty() -> None:
    shown = np.array([0, 0, 1, 0, 1, 1, 0], bool)
    assert np.flatnonzero(empty_between(shown)).tolist() == [3]
    assert not empty_between(np.zeros(4, bool)).any()
