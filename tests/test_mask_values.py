from pathlib import Path

import numpy as np
import pytest

from infarct.errors import ContentError
from infarct.mask_values import whole_labels

PATH = Path("mask.nii.gz")


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 1, 1], [0, 1, 1]),
        ([0, 0.99999, 1], [0, 1, 1]),
        ([1e-5, 2.0004, 3], [0, 2, 3]),
        ([np.nan, 1, 0], [0, 1, 0]),
        ([-1, 1, -1], [0, 1, 0]),
        ([-1, 0, 2], [0, 0, 2]),
        ([0, 0, 0], [0, 0, 0]),
        ([0, 255, 0], [0, 255, 0]),
    ],
)
def test_background_and_rounding(values: list[float], labels: list[int]) -> None:
    assert whole_labels(np.array(values, np.float32), PATH).tolist() == labels


@pytest.mark.parametrize(
    "values", [[0, 0.5, 1], [np.nan, np.nan], [0, np.inf], [-1, 0], [-2, -1, 1], [-0.4, 1]]
)
def test_what_is_not_a_mask_is_refused(values: list[float]) -> None:
    with pytest.raises(ContentError, match=r"mask\.nii\.gz"):
        whole_labels(np.array(values, np.float32), PATH)
