import io

import numpy as np
import pytest
from matplotlib.image import imread

from infarct.cohort.figures import native_thumbnail, overlap_figure, thumbnail, volume_figure
from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume


def test_a_thumbnail_is_small_and_shows_the_outline_on_the_side_it_is_on() -> None:
    dwi, lesion = np.zeros((2, *MNI_GRID.shape), np.float32)
    dwi[40:150, 40:190, 20:140] = 100
    lesion[60:70, 100:110, 90] = 1  # x below the midline: the patient's left
    jpeg = thumbnail(Volume(dwi, MNI_GRID.affine), Volume(lesion, MNI_GRID.affine))
    assert len(jpeg) < 6000
    image = imread(io.BytesIO(jpeg), format="jpg").astype(float)
    assert image.shape == (98, 80, 3)
    red = image[..., 0] - image[..., 2] > 80
    rows, columns = np.nonzero(red)
    assert red.sum() >= 20
    assert columns.mean() > 40  # radiological orientation: the patient's left is on the right
    assert 98 - rows.mean() > 40


@pytest.mark.parametrize("flips", [(1, 1), (-1, 1), (1, -1)])
def test_the_thumbnail_of_an_acquired_scan_shows_the_outline_where_it_is(flips) -> None:
    """A head away from the centre of the field of view, with one lesion voxel, in any order."""
    affine = np.diag([1.5 * flips[0], 1.2 * flips[1], 6.0, 1.0])
    dwi, lesion = np.zeros((2, 160, 180, 20), np.float32)
    dwi[10:110, 30:170, 3:18] = 100
    # Left and anterior, at a quarter of the head in world coordinates (RAS+).
    x = 35 if flips[0] > 0 else 85
    y = 135 if flips[1] > 0 else 65
    lesion[x, y, 12] = 1
    jpeg = native_thumbnail(Volume(dwi, affine), Volume(lesion, affine))
    image = imread(io.BytesIO(jpeg), format="jpg").astype(float)
    assert image.shape == (98, 80, 3)
    rows, columns = np.nonzero(image[..., 0] - image[..., 2] > 80)
    # 25 voxels of 1.5 mm to the right of the image, 35 of 1.2 mm above its centre.
    assert abs(columns.mean() - (39.5 + 25 * 1.5 / 2)) < 1.5
    assert abs(rows.mean() - (48.5 - 35 * 1.2 / 2)) < 1.5


def test_a_lesion_free_or_empty_image_has_a_thumbnail() -> None:
    blank = Volume(np.zeros(MNI_GRID.shape, np.float32), MNI_GRID.affine)
    assert thumbnail(blank, blank)[:2] == b"\xff\xd8"
    assert native_thumbnail(blank, blank)[:2] == b"\xff\xd8"


def test_the_map_of_one_case_and_of_thousands_can_be_drawn() -> None:
    for most in (0, 3, 2000):
        count = np.zeros(MNI_GRID.shape, np.uint16)
        count[80:100, 100:120, 80:100] = most
        figure = overlap_figure(count, max(most, 1))
        figure.canvas.draw()
        ticks = figure.axes[-1].get_xticks()
        assert [ticks[0], ticks[-1]] == [1, max(most, 1)]


def test_every_case_is_counted_in_one_bar() -> None:
    volumes = [0.0, 0.0, 0.05, 0.1, 0.2, 5.0, 1000.0]
    bars = volume_figure(volumes).axes[0].patches
    assert [bar.get_height() for bar in bars] == [2, 2, 1, 0, 0, 1, 0, 0, 0, 1]
