import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from infarct.reporting.radiological_view import to_radiological
from infarct.reporting.reader import Stored
from infarct.reporting.slice_viewer import Viewer, slice_of, view


@pytest.fixture(scope="module")
def viewer(stored: Stored) -> Viewer:
    return view(stored)


def picture(viewer: Viewer, key: str) -> np.ndarray:
    (sheet,) = (sheet for sheet in viewer.sheets if sheet.key == key)
    stream = io.BytesIO(base64.b64decode(sheet.uri.split(",")[1]))
    return np.asarray(Image.open(stream).convert("L"), float)


def tile(viewer: Viewer, key: str, z: int) -> np.ndarray:
    x, y = viewer.corner(z)
    return picture(viewer, key)[y : y + viewer.height, x : x + viewer.width]


def points_of(path: str) -> np.ndarray:
    return np.array([p.split(",") for p in re.findall(r"[\d.]+,[\d.]+", path)], float)


def test_every_slice_has_a_tile_on_every_sheet(stored, viewer) -> None:
    n = stored.dwi.data.shape[2]
    assert len(viewer.outlines) == len(viewer.areas_ml) == n
    for sheet in viewer.sheets:
        size = (viewer.rows * viewer.height, viewer.columns * viewer.width)
        assert picture(viewer, sheet.key).shape == size
    assert [sheet.key for sheet in viewer.sheets] == [
        *("dwi", "adc", "b0", "probability", "uncertainty")
    ]
    assert len({viewer.corner(z) for z in range(n)}) == n


def test_contour_surrounds_the_bright_lesion_on_the_viewers_right(viewer) -> None:
    z = viewer.start
    points = points_of(viewer.outlines[z])
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    assert left > viewer.width / 2  # the painted lesion is in the left hemisphere
    dwi = tile(viewer, "dwi", z)
    inside = dwi[int(top) + 2 : int(bottom) - 1, int(left) + 2 : int(right) - 1]
    mirrored = dwi[:, ::-1][int(top) + 2 : int(bottom) - 1, int(left) + 2 : int(right) - 1]
    assert np.median(inside) > 1.3 * np.median(mirrored)
    adc = tile(viewer, "adc", z)
    assert np.median(adc[int(top) + 2 : int(bottom) - 1, int(left) + 2 : int(right) - 1]) < 70


def test_areas_add_up_to_the_lesion_volume(stored, viewer) -> None:
    assert sum(viewer.areas_ml) == pytest.approx(stored.summary["lesion_volume_ml"])
    for path, area in zip(viewer.outlines, viewer.areas_ml, strict=True):
        assert bool(path) == (area > 0)
    assert all(viewer.areas_ml[z] > 0 for z in viewer.montage)


def test_slice_of_a_centroid_contains_the_lesion(stored, viewer) -> None:
    lesion = stored.summary["lesions"][0]
    assert viewer.areas_ml[slice_of(stored, tuple(lesion["centroid_mm"]))] > 0
    assert slice_of(stored, (0.0, 0.0, -1e4)) == 0


def test_scan_with_many_slices_is_downsampled(stored) -> None:
    def thin(volume):
        affine = volume.affine @ np.diag([0.5, 0.5, 1 / 3, 1.0])
        data = np.repeat(np.repeat(np.repeat(volume.data, 2, 0), 2, 1), 3, 2)
        return type(volume)(data, affine)

    names = ("dwi", "b0", "adc", "probability", "lesion", "brain", "second", "uncertainty")
    viewer = view(replace(stored, **{name: thin(getattr(stored, name)) for name in names}))
    assert len(viewer.outlines) == 102
    assert viewer.rows * viewer.height * viewer.columns * viewer.width < 2.6e6
    size = sum(len(sheet.uri) for sheet in viewer.sheets) + sum(map(len, viewer.outlines))
    assert size < 4e6


def test_viewer_without_lesion_starts_at_the_middle_slice(stored) -> None:
    empty = stored.lesion.like(np.zeros_like(stored.lesion.data))
    viewer = view(replace(stored, lesion=empty))
    assert not any(viewer.outlines)
    assert viewer.start == len(viewer.outlines) // 2
    assert len(viewer.montage) == 10


def test_stored_pixels_give_the_values_of_the_images(stored, viewer) -> None:
    """The value under the pointer: pixel / 255 * top, with the loss of 8 bits and JPEG."""
    z = viewer.start
    for sheet in viewer.sheets[:3]:
        image = to_radiological(getattr(stored, sheet.key).data, stored.dwi.affine)[:, :, z]
        values = tile(viewer, sheet.key, z) / 255 * sheet.top
        lesion = to_radiological(stored.lesion.data, stored.dwi.affine)[:, :, z]
        points = points_of(viewer.outlines[z])
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        x, y = int((left + right) / 2), int((top + bottom) / 2)
        inside = values[y - 2 : y + 3, x - 2 : x + 3].mean()
        assert inside == pytest.approx(np.median(image[lesion]), rel=0.3)


def test_second_method_and_lesion_have_contours_on_their_own_slices(stored, viewer) -> None:
    shown = to_radiological(stored.second.data, stored.dwi.affine).any(axis=(0, 1))
    assert [bool(path) for path in viewer.second_outlines] == shown.tolist()
    assert view(replace(stored, second=None)).second_outlines == ()


def test_mirrored_point_lies_in_the_other_hemisphere(stored, viewer) -> None:
    """Mirroring twice leads back, and the lesion of the left half lies on the viewer's right."""
    matrix = np.array(viewer.mirror)
    points = points_of(viewer.outlines[viewer.start])
    x, y = points.mean(axis=0)
    there = matrix @ [x, y, viewer.start, 1]
    back = matrix @ [*there, viewer.start, 1]
    assert back == pytest.approx([x, y], abs=2.5)
    assert x > viewer.width / 2 > there[0]
    dwi = tile(viewer, "dwi", viewer.start)
    assert dwi[int(y), int(x)] > 1.3 * dwi[int(there[1]), int(there[0])] > 10
