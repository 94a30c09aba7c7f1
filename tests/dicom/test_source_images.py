from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_scanner import (
    IDENTIFIERS,
    SMALL,
    Protocol,
    Study,
    noise,
    save_classic,
    save_enhanced,
)
from pydicom.datadict import dictionary_VR

from infarct.core.errors import ContentError
from infarct.core.nifti import read
from infarct.dicom.convert import Image
from infarct.dicom.headers import read_header
from infarct.dicom.seg import segmentation
from infarct.dicom.select_series import Choice
from infarct.dicom.series import find_series
from infarct.dicom.source_images import find_source_images
from infarct.dicom.study import opened_folder

VOLUMES = [(0, noise(900)), (1000, noise(400)), (1000, noise(410))]
"""b0 and two directions with 8 slices each."""


def choice_of(folder: Path) -> Choice:
    (series,) = find_series(folder)
    dwi = Image(series, Path("x"), "signal", (0, 1000, 1000), None)
    return Choice(dwi, dwi, None)


@pytest.fixture(params=[save_classic, save_enhanced], ids=["classic", "enhanced"])
def scan(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    request.param(tmp_path, Study.new("CANON_MEC"), Protocol(3, "dwi"), SMALL, VOLUMES)
    return tmp_path


def test_one_weighted_volume_represents_all(scan: Path) -> None:
    sources = find_source_images(choice_of(scan), keep_identity=False)
    if sources.frame_numbers is None:
        headers = {read_header(path).frames[0] for path in scan.iterdir()}
        weighted = {f.position for f in headers if f.bvalue == 1000}
        assert {tuple(image.ImagePositionPatient) for image in sources.images} == weighted
        assert len(sources.images) == 8
    else:
        assert len(sources.images) == 1
        assert sources.frame_numbers == frozenset(range(9, 17))


def test_identifiers_are_removed_by_default(scan: Path) -> None:
    known = find_source_images(choice_of(scan), keep_identity=True).images[0]
    sources = find_source_images(choice_of(scan), keep_identity=False)
    text = "\n".join(str(image) for image in sources.images)
    for identifier in (*IDENTIFIERS, "20240229", "Testscan"):
        assert identifier in str(known)
        assert identifier not in text
    image = sources.images[0]
    assert image.PatientID.startswith("infarct-")
    assert image.StudyInstanceUID == known.StudyInstanceUID
    assert image.FrameOfReferenceUID == known.FrameOfReferenceUID


def test_orientations_that_differ_in_the_last_digit_are_unified(tmp_path: Path) -> None:
    study, protocol = Study.new("GE MEDICAL SYSTEMS"), Protocol(3, "dwi")
    save_classic(tmp_path, study, protocol, SMALL, VOLUMES)
    choice = choice_of(tmp_path)
    first = choice.dwi.series.files[-1]
    changed = pydicom.dcmread(first)
    changed.ImageOrientationPatient = [1.0, 0.0, 0.0000004, 0.0, 1.0, 0.0]
    changed.save_as(first)
    images = find_source_images(choice_of(tmp_path), keep_identity=False).images
    assert len(images) == 8
    assert len({tuple(np.array(image.ImageOrientationPatient)) for image in images}) == 1


def test_a_seg_does_not_refer_to_phase_images(tmp_path: Path) -> None:
    study, protocol = Study.new("Philips Medical Systems"), Protocol(3, "dwi")
    save_classic(tmp_path, study, protocol, SMALL, [*VOLUMES[:2], *VOLUMES[:2]])
    for path in tmp_path.iterdir():
        image = pydicom.dcmread(path)
        part = "P" if image.InstanceNumber <= 16 else "M"
        image.ImageType = ["ORIGINAL", "PRIMARY", "PHASE MAP" if part == "P" else "M_SE", part]
        image.save_as(path)
    choice = choice_of(tmp_path)
    images = find_source_images(choice, keep_identity=True).images
    assert len(images) == 8
    assert {image.ImageType[3] for image in images} == {"M"}
    assert len(choice.dwi.series.files) == 4 * 8


def test_images_without_a_frame_of_reference_are_rejected(tmp_path: Path) -> None:
    study = Study("CANON_MEC", uid="1.2.3", frame_of_reference="")
    save_classic(tmp_path, study, Protocol(3, "dwi"), SMALL, VOLUMES)
    with pytest.raises(ContentError, match="run without --dicom-out"):
        find_source_images(choice_of(tmp_path), keep_identity=False)


_MALFORMED = {
    "SliceThickness": "abc",
    "EchoTime": "many",
    "StudyDate": "yesterday",
    "StudyTime": "noon",
    "PatientBirthDate": "199",
    "PatientSex": "unknown to the scanner",
    "AccessionNumber": "A" * 99,
    "DeviceSerialNumber": "S" * 99,
    "LossyImageCompression": "perhaps it was",
}


@pytest.mark.parametrize("keep_identity", [False, True])
def test_malformed_elements_do_not_prevent_a_seg(keep_identity: bool, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    study, protocol = Study.new("GE MEDICAL SYSTEMS"), Protocol(3, "dwi")
    save_classic(folder, study, protocol, SMALL, VOLUMES)
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        for name, value in _MALFORMED.items():
            image.add_new(name, dictionary_VR(name), None)
            image[name]._value = value
        image.save_as(path)
    with opened_folder(folder) as found:
        volume = read(found.choice.dwi.path)
        mask = volume.like(volume.data[..., found.choice.dwi.shell[0]] > 410)
        sources = find_source_images(found.choice, keep_identity=keep_identity)
        made = segmentation(mask, mask, sources, "test")
    made.save_as(tmp_path / "seg.dcm")
    saved = pydicom.dcmread(tmp_path / "seg.dcm")
    assert saved.NumberOfFrames == 16
    assert all(value not in str(saved) for value in _MALFORMED.values() if len(value) > 3)
    assert ("Roe^Jane" in str(saved)) is keep_identity
