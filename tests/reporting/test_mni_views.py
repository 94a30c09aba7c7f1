import re

import numpy as np
import pytest

from infarct.core.geometry import MNI_GRID
from infarct.preprocessing.templates import load_template
from infarct.reporting.mni_views import Parcels, glass_brain, mni_slices


def at(x: float, y: float, z: float, radius: float = 8.0) -> np.ndarray:
    """Return a ball in MNI space."""
    where = np.indices(MNI_GRID.shape, dtype=np.float32)
    centre = np.array((x, y, z)) - MNI_GRID.affine[:3, 3]
    apart = sum((where[axis] - centre[axis]) ** 2 for axis in range(3))
    ball: np.ndarray = apart < radius**2
    return ball


def middle(path: str) -> np.ndarray:
    points = np.array([p.split(",") for p in re.findall(r"[\d.]+,[\d.]+", path)], float)
    centre: np.ndarray = (points.min(axis=0) + points.max(axis=0)) / 2
    return centre


def paths(drawing, kind: str) -> list[str]:
    return [path for name, path in drawing.shapes if name == kind and path]


@pytest.fixture(scope="module")
def lesion() -> np.ndarray:
    return at(-40, 20, 30)


def test_glass_brain_shows_the_lesion_at_its_position(lesion) -> None:
    left, right, coronal, axial = glass_brain(lesion, load_template())
    assert paths(left, "lesion")
    assert not paths(right, "lesion")
    # Millimetres from the upper left corner; the left half faces left, and R is on the left.
    assert middle(paths(left, "lesion")[0]) == pytest.approx((92 - 20, 114 - 30), abs=1.5)
    assert middle(paths(coronal, "lesion")[0]) == pytest.approx((96 + 40, 114 - 30), abs=1.5)
    assert middle(paths(axial, "lesion")[0]) == pytest.approx((96 + 40, 92 - 20), abs=1.5)
    for drawing in (left, right, coronal, axial):
        assert paths(drawing, "silhouette")


def test_front_and_back_labels_match_the_projection() -> None:
    frontal = at(-20, 50, 10)
    left = glass_brain(frontal, load_template())[0]
    seen = middle(paths(left, "lesion")[0])[0] < left.width / 2
    assert (left.left == "front") == seen
    right = glass_brain(at(20, 50, 10), load_template())[1]
    seen = middle(paths(right, "lesion")[0])[0] > right.width / 2
    assert (right.right == "front") == seen


def test_slices_cover_the_lesion_in_radiological_orientation(lesion) -> None:
    drawings = mni_slices(lesion, load_template())
    heights = [int(re.findall(r"-?\d+", drawing.title)[0]) for drawing in drawings]
    assert heights == sorted(heights)
    assert all(abs(height - 30) < 9 for height in heights)
    for drawing in drawings:
        assert middle(paths(drawing, "lesion")[0])[0] > drawing.width / 2
        assert drawing.picture.startswith("data:image/jpeg")


def test_parcels_are_drawn_when_given(lesion) -> None:
    labels = np.zeros(MNI_GRID.shape, np.uint16)
    labels[40:90, 60:150, 60:140] = 3
    labels[100:150, 60:150, 60:140] = 7
    with_parcels = mni_slices(lesion, load_template(), Parcels("territories", labels))
    assert all(len(paths(drawing, "parcel")) == 2 for drawing in with_parcels)
    assert not any(paths(d, "parcel") for d in mni_slices(lesion, load_template()))


def test_views_without_lesion_show_the_brain() -> None:
    nothing = np.zeros(MNI_GRID.shape, bool)
    assert len(mni_slices(nothing, load_template())) == 6
    assert all(paths(drawing, "silhouette") for drawing in glass_brain(nothing, load_template()))
