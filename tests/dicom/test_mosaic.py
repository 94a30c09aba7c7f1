from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_scanner import SMALL, Plane, Protocol, Study, csa, noise, save_mosaic

from infarct.core.errors import ContentError
from infarct.dicom.convert import Image, convert
from infarct.dicom.mosaic import read_csa
from infarct.dicom.series import find_series

TURN = np.deg2rad(20)
OBLIQUE = Plane(
    (-40.0, -60.0, -20.0),
    row=(float(np.cos(TURN)), float(np.sin(TURN)), 0.0),
    column=(float(-np.sin(TURN)), float(np.cos(TURN)), 0.0),
    spacing=(2.5, 1.75, 4.0),
)
VOLUMES = [(0, noise(900)), (1000, noise(400, seed=1))]


def convert_without(folder: Path, into: Path, *elements: str) -> Image:
    """Convert a series after removing elements from all files."""
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        for name in elements:
            del image[name]
        image.save_as(path)
    (series,) = find_series(folder)
    (made,) = convert(series, into)
    return made


def check(image: Image, plane: Plane) -> None:
    """Compare every pixel with the saved pixel at the same position in space."""
    data = nib.load(image.path).get_fdata()
    voxel_from_world = np.linalg.inv(image.grid.affine)
    for index, (bvalue, frames) in enumerate(VOLUMES):
        assert image.bvalues[index] == bvalue
        for k, frame in enumerate(frames):
            r, c = np.indices(frame.shape).reshape(2, -1)
            lps = np.array(plane.position(k))[:, None]
            lps = lps + np.outer(plane.row, c * plane.spacing[1])
            lps = lps + np.outer(plane.column, r * plane.spacing[0])
            ras = np.vstack([-lps[0], -lps[1], lps[2], np.ones(lps.shape[1])])
            voxels = (voxel_from_world @ ras)[:3]
            assert np.allclose(voxels, np.round(voxels), atol=1e-2)
            found = data[(*np.round(voxels).astype(int), index)]
            assert np.array_equal(found, frame.ravel())


@pytest.mark.parametrize("removed", [(), ("SliceThickness",)])
@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("plane", [SMALL, OBLIQUE])
def test_siemens_tiles_keep_their_positions(plane, downwards, removed, tmp_path: Path) -> None:
    study, protocol = Study.new("SIEMENS"), Protocol(3, "dwi")
    save_mosaic(tmp_path / "in", study, protocol, plane, VOLUMES, downwards=downwards)
    check(convert_without(tmp_path / "in", tmp_path / "work", *removed), plane)


@pytest.mark.parametrize(
    "removed",
    [
        (),
        ("SpacingBetweenSlices",),
        ("SliceThickness",),
        ("SpacingBetweenSlices", "SliceThickness"),
    ],
)
@pytest.mark.parametrize("maker", ["UIH", "SIEMENS"])
def test_slice_distance_comes_from_the_positions(maker, removed, tmp_path: Path) -> None:
    """Without SpacingBetweenSlices, dcm2niix uses the thickness; without both, 1 mm."""
    study, protocol = Study.new(maker), Protocol(3, "dwi")
    positions = maker == "SIEMENS"
    save_mosaic(tmp_path / "in", study, protocol, OBLIQUE, VOLUMES, protocol_positions=positions)
    check(convert_without(tmp_path / "in", tmp_path / "work", *removed), OBLIQUE)


@pytest.mark.parametrize(
    ("maker", "removed"),
    [
        ("SIEMENS", "SpacingBetweenSlices"),
        ("SIEMENS", "00291010"),
        ("SIEMENS", "ImagePositionPatient"),
        ("UIH", "00651051"),
    ],
)
def test_a_mosaic_without_slice_positions_is_rejected(
    maker: str, removed: str, tmp_path: Path
) -> None:
    save_mosaic(tmp_path / "in", Study.new(maker), Protocol(3, "dwi"), SMALL, VOLUMES)
    with pytest.raises(ContentError, match="slice positions in its mosaics are unknown"):
        convert_without(tmp_path / "in", tmp_path / "work", removed)


def test_a_gap_stored_as_the_distance_is_rejected(tmp_path: Path) -> None:
    save_mosaic(tmp_path / "in", Study.new("SIEMENS"), Protocol(3, "dwi"), SMALL, VOLUMES)
    for path in (tmp_path / "in").iterdir():
        image = pydicom.dcmread(path)
        image.SpacingBetweenSlices = 1.0
        image.save_as(path)
    with pytest.raises(ContentError, match="series 3: the slice positions"):
        convert_without(tmp_path / "in", tmp_path / "work")


def test_a_damaged_private_header_yields_nothing() -> None:
    complete = csa({"NumberOfImagesInMosaic": [20], "SliceNormalVector": [0, 0, 1], "none": []})
    found = read_csa(complete)
    assert found == {"NumberOfImagesInMosaic": (20,), "SliceNormalVector": (0, 0, 1)}
    for length in range(0, len(complete) - 84, 7):
        assert read_csa(complete[:length]) in ({}, {"NumberOfImagesInMosaic": (20,)}, found)
    assert read_csa(b"SV10" + b"\xff" * 200) == {}
