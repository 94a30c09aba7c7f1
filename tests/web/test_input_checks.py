from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from infarct.core.errors import InputFileError
from infarct.core.nifti import Volume
from infarct.web.input_checks import case_files, check_input, preview


def test_the_b_values_stay_next_to_the_dwi(tmp_path) -> None:
    files = case_files(tmp_path, {"dwi": "dwi.nii", "bval": "dwi.bval"})
    assert files.dwi == tmp_path / "dwi.nii"
    assert files.b0 is None


def test_a_scan_without_b0_is_refused_with_the_message_of_the_command(head, tmp_path) -> None:
    head.save(tmp_path, dwi=head.dwi)
    with pytest.raises(InputFileError, match="DWI alone"):
        check_input(str(tmp_path), {"dwi": "dwi.nii.gz"}, "cfuzzy")


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, 1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
def test_the_right_side_is_on_the_left_of_the_picture(flips, order) -> None:
    # In RAS+ the right, anterior quadrant is bright.
    data = np.ones((40, 40, 20), np.float32)
    data[20:, 20:] = 100.0
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    affine[:3, 3] = -39, -39, -38
    turned = data.transpose(order)
    columns = affine[:, [*order, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip < 0:
            turned = np.flip(turned, axis)
            columns[:, 3] += columns[:, axis] * (turned.shape[axis] - 1)
            columns[:, axis] *= -1
    picture = Image.open(io.BytesIO(base64.b64decode(preview(Volume(turned, columns)))))
    first = np.asarray(picture)[:, : picture.height]
    quarter = picture.height // 4
    assert first[quarter, quarter] > 200
    for y, x in ((quarter, 3), (3, quarter)):
        assert first[y * quarter if y == 3 else y, x * quarter if x == 3 else x] < 20
