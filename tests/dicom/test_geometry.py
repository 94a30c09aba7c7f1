from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_scanner import SMALL, Protocol, Study, noise, save_classic, save_enhanced
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from infarct.core.errors import ContentError
from infarct.dicom.convert import Image, convert
from infarct.dicom.series import find_series

VOLUMES = [(0, noise(900, 4)), (1000, noise(400, 4, seed=1))]


def converted(
    tmp_path: Path,
    change: Callable[[Dataset, int], None],
    save: Callable[..., str] = save_classic,
) -> Image:
    """Convert a series after `change(image, InstanceNumber)` was applied to each file."""
    folder = tmp_path / "in"
    save(folder, Study.new("CANON_MEC"), Protocol(3, "dwi"), SMALL, VOLUMES)
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        change(image, int(image.InstanceNumber))
        image.save_as(path)
    (series,) = find_series(folder)
    (made,) = convert(series, tmp_path / "work")
    return made


def put(image: Dataset, name: str, *values: str) -> None:
    """Write values that pydicom would reject."""
    image[name]._value = MultiValue(str, values)


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("ImagePositionPatient", ("1", "2"), "ImagePositionPatient has 2 instead of 3 numbers"),
        ("ImagePositionPatient", ("1", "2", "3", "4"), "has 4 instead of 3 numbers"),
        ("ImagePositionPatient", ("1", "2", "abc"), "has none instead of 3 numbers"),
        ("ImagePositionPatient", ("1", "2", "nan"), "has none instead of 3 numbers"),
        ("ImageOrientationPatient", ("1", "0", "0", "0", "1"), "has 5 instead of 6 numbers"),
        ("ImageOrientationPatient", ("1", "0", "0", "0", "0", "0"), "perpendicular unit"),
        ("ImageOrientationPatient", ("1", "0", "0", "1", "0", "0"), "perpendicular unit"),
        ("PixelSpacing", ("2", "0"), "PixelSpacing is 0 to 2 mm"),
    ],
)
def test_malformed_geometry_elements_are_rejected(
    name: str, values: tuple[str, ...], message: str, every: bool, tmp_path: Path
) -> None:
    def change(image: Dataset, number: int) -> None:
        if every or number == 3:
            put(image, name, *values)

    with pytest.raises(ContentError, match=f"series 3: .*{message}"):
        converted(tmp_path, change)


@pytest.mark.parametrize(
    "name", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"]
)
@pytest.mark.parametrize("save", [save_classic, save_enhanced])
def test_missing_geometry_elements_are_rejected(
    name: str, save: Callable[..., str], tmp_path: Path
) -> None:
    """dcm2niix would assume an axial plane or 1 mm."""

    def change(image: Dataset, number: int) -> None:
        shared = image.get("SharedFunctionalGroupsSequence") or []
        groups = [*shared, *(image.get("PerFrameFunctionalGroupsSequence") or [])]
        items = [item for group in groups for element in group for item in element.value]
        for holder in (image, *items):
            if name in holder:
                del holder[name]

    with pytest.raises(ContentError, match=f"series 3: {name} has none instead of"):
        converted(tmp_path, change, save)


@pytest.mark.parametrize(
    "removed", [(), ("SpacingBetweenSlices",), ("SpacingBetweenSlices", "SliceThickness")]
)
def test_slice_distance_comes_from_positions_not_thickness(
    removed: tuple[str, ...], tmp_path: Path
) -> None:
    def change(image: Dataset, number: int) -> None:
        image.SliceThickness = 0.01
        for name in removed:
            del image[name]

    made = converted(tmp_path, change)
    assert np.allclose(made.grid.spacing, (2, 2, 5), atol=1e-4)
    assert made.findings == ()
    data = nib.load(made.path).get_fdata()
    for index, (_, frames) in enumerate(VOLUMES):
        assert np.array_equal(data[..., index][:, ::-1].transpose(2, 1, 0), frames)


def test_a_distance_that_contradicts_the_positions_is_reported(tmp_path: Path) -> None:
    """As if every other slice were missing."""

    def change(image: Dataset, number: int) -> None:
        image.SpacingBetweenSlices = image.SliceThickness = 2.5

    made = converted(tmp_path, change)
    assert made.grid.spacing[2] == pytest.approx(5)
    (finding,) = made.findings
    assert (finding.code, finding.level) == ("dicom-spacing", "warning")
    assert (
        "5.00 mm apart according to their positions, 2.50 mm according to Spacing"
        in finding.message
    )


def test_a_gap_stored_as_the_distance_causes_no_warning(tmp_path: Path) -> None:
    def change(image: Dataset, number: int) -> None:
        image.SpacingBetweenSlices, image.SliceThickness = 1.0, 4.0

    assert converted(tmp_path, change).findings == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("StudyInstanceUID", "2 different values of StudyInstanceUID"),
        ("FrameOfReferenceUID", "2 different values of FrameOfReferenceUID"),
    ],
)
def test_a_series_with_two_studies_or_frames_of_reference_is_rejected(
    name, message, tmp_path: Path
) -> None:
    def change(image: Dataset, number: int) -> None:
        if number > 4:
            setattr(image, name, "1.2.3.4")

    with pytest.raises(ContentError, match=message) as refusal:
        converted(tmp_path, change)
    # The message may become a warning in the report, which must not contain UIDs.
    assert "1.2.3.4" not in str(refusal.value)


def test_different_orientations_or_sizes_are_rejected(tmp_path: Path) -> None:
    def coronal(image: Dataset, number: int) -> None:
        if number == 4:
            image.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    def small(image: Dataset, number: int) -> None:
        if number == 4:
            image.Rows = 32
            image.PixelData = image.PixelData[: len(image.PixelData) // 2]

    with pytest.raises(ContentError, match="different orientations"):
        converted(tmp_path / "a", coronal)
    with pytest.raises(ContentError, match="images of 32 x 48 and 64 x 48 pixels"):
        converted(tmp_path / "b", small)
