from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_scanner import (
    ADC,
    ANATOMY,
    FA,
    SMALL,
    TRACE,
    Protocol,
    Study,
    noise,
    save_classic,
    save_enhanced,
    save_slice,
)
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from infarct.dicom.headers import read_header

ACQUIRED = ("ORIGINAL", "PRIMARY", "DIFFUSION", "NONE")


def test_every_frame_of_a_multi_frame_file_has_a_position_and_bvalue(tmp_path: Path) -> None:
    volumes = [(0, noise(900, 3)), (1500, noise(400, 3))]
    save_enhanced(tmp_path, Study.new("CANON_MEC"), Protocol(3, "x"), SMALL, volumes)
    (path,) = tmp_path.iterdir()
    header = read_header(path)
    assert [f.bvalue for f in header.frames] == [0, 0, 0, 1500, 1500, 1500]
    assert [f.number for f in header.frames] == [1, 2, 3, 4, 5, 6]
    assert np.allclose(header.frames[4].position, SMALL.position(1))


@pytest.mark.parametrize(
    ("description", "image_type", "bvalue", "content"),
    [
        ("ep2d_diff", ACQUIRED, 1000, "signal"),
        ("ep2d_diff", ACQUIRED, 0, "signal"),
        ("ep2d_diff_TRACEW", TRACE, 1000, "signal"),
        ("Ax DWI b1000", ("ORIGINAL", "PRIMARY", "OTHER"), None, "signal"),
        ("no words", ("ORIGINAL", "PRIMARY", "OTHER"), 1000, "signal"),
        ("Ax DTI TENSOR", ("ORIGINAL", "PRIMARY", "OTHER"), 1000, "signal"),
        ("DWI phase AP", ACQUIRED, 1000, "signal"),
        ("ep2d_diff_ADC", ADC, None, "adc"),
        ("ADC (10^-6 mm2/s)", ("DERIVED", "SECONDARY"), 1000, "adc"),
        ("dADC map", ("DERIVED", "PRIMARY"), None, "adc"),
        ("Apparent Diffusion Coefficient", ("DERIVED", "SECONDARY"), None, "adc"),
        ("no words", ("DERIVED", "PRIMARY", "ADC_UNSPECIFIED", "ADC"), None, "adc"),
        ("Ax DTI Average DC", ("DERIVED", "SECONDARY", "PROCESSED"), 1000, "adc"),
        ("DWI with ADC", ACQUIRED, 1000, "signal"),
        ("ep2d_diff_ADC_TRACEW", TRACE, 1000, "signal"),
        ("ep2d_diff_ADC_TRACEW", TRACE, 0, "signal"),
        ("ep2d_diff_FA", FA, None, "other"),
        ("Ax DTI Fractional Aniso.", ("DERIVED", "SECONDARY", "PROCESSED"), 1000, "other"),
        ("Synthetic DWI b1500", ("DERIVED", "SECONDARY"), 1500, "other"),
        ("ep2d_diff_Pha", ("ORIGINAL", "PRIMARY", "P", "ND"), 1000, "other"),
        ("ep2d_diff", ("ORIGINAL", "PRIMARY", "M", "ND"), 1000, "signal"),
        ("eADC", ("DERIVED", "PRIMARY"), 1000, "other"),
        ("Exponential Apparent Diffusion Coefficient", ("DERIVED", "PRIMARY"), None, "other"),
        ("dwi_calc_b1500", ("DERIVED", "PRIMARY"), 1500, "other"),
        ("t1_mprage", ANATOMY, None, "other"),
    ],
)
def test_the_content_of_a_file_is_identified(
    description: str,
    image_type: tuple[str, ...],
    bvalue: float | None,
    content: str,
    tmp_path: Path,
) -> None:
    protocol = Protocol(3, description, image_type)
    save_classic(tmp_path, Study.new("SIEMENS"), protocol, SMALL, [(bvalue, noise(400, 1))])
    (path,) = tmp_path.iterdir()
    assert read_header(path).content == content


def test_a_weighted_image_is_signal_even_if_its_protocol_mentions_adc(tmp_path: Path) -> None:
    """All series of a protocol share its name."""
    protocol = Protocol(3, "DWI with ADC", ("DERIVED", "PRIMARY", "OTHER"))
    save_classic(tmp_path, Study.new("SIEMENS"), protocol, SMALL, [(1000, noise(400, 1))])
    (path,) = tmp_path.iterdir()
    image = pydicom.dcmread(path)
    del image.SeriesDescription
    image.save_as(path)
    assert read_header(path).content == "signal"


def test_acquisition_time_and_source_images_are_read(tmp_path: Path) -> None:
    study, frames = Study.new("CANON_MEC"), noise(400, 1)
    save_classic(tmp_path, study, Protocol(3, "ADC", ADC), SMALL, [(None, frames)])
    (classic,) = tmp_path.iterdir()
    assert read_header(classic).studied == (20240229, 115900)
    assert read_header(classic).acquired == 120000
    assert read_header(classic).cited == frozenset()
    source = Dataset()
    source.ReferencedSOPInstanceUID = "1.2.3"
    image = pydicom.dcmread(classic)
    image.SourceImageSequence = [source]
    image.StudyDate, image.StudyTime = "", None
    image.save_as(classic)
    assert read_header(classic).studied == (0, 0)
    assert read_header(classic).cited == {"1.2.3"}
    save_enhanced(tmp_path, study, Protocol(4, "ADC", ADC), SMALL, [(0, frames)])
    enhanced = tmp_path / "enhanced-4.dcm"
    image, derivation = pydicom.dcmread(enhanced), Dataset()
    image.AcquisitionDateTime = "20240229120001.5+0100"
    derivation.SourceImageSequence = [source]
    image.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence = [derivation]
    image.save_as(enhanced)
    assert read_header(enhanced).acquired == 120001.5
    assert read_header(enhanced).cited == {"1.2.3"}


def test_files_that_are_not_dicom_are_ignored(tmp_path: Path) -> None:
    for name, content, reason in (
        ("empty", b"", "empty"),
        ("text", b"Roe^Jane", None),
        ("cut", b"\0" * 128 + b"DICM\x02", "no SeriesInstanceUID"),
    ):
        (tmp_path / name).write_bytes(content)
        read = read_header(tmp_path / name)
        assert (read and read.reason) == reason


def test_control_characters_never_reach_the_terminal(tmp_path: Path) -> None:
    path = save_slice(tmp_path)
    image = pydicom.dcmread(path)
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SeriesDescription = "\x1b[31mdiff\x1b[0m \x07\u202etxt"
    with pytest.warns(UserWarning, match="Invalid value for VR CS"):
        image.Modality = "M\x1bR"
    image.save_as(path)
    header = read_header(path)
    assert header.description == "[31mdiff[0m txt"
    assert header.content == "signal"


@pytest.mark.parametrize(
    ("element", "value", "reason"),
    [
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7", "Secondary Capture Image Storage, not an MR"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.104.1", "Encapsulated PDF Storage, not an MR"),
        ("Modality", "OT", "modality OT"),
        ("PhotometricInterpretation", "RGB", "RGB pixels, not grayscale"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"], "neither diffusion signal nor ADC"),
        ("ImageType", ["DERIVED", "SECONDARY", "REFORMATTED"], "neither diffusion signal nor ADC"),
    ],
)
def test_other_images_are_not_signal(element, value, reason, tmp_path: Path) -> None:
    path = save_slice(tmp_path)
    image = pydicom.dcmread(path)
    setattr(image, element, value)
    image.save_as(path)
    header = read_header(path)
    assert header.content == "other"
    assert reason in header.reason


def test_one_damaged_element_does_not_hide_a_file(tmp_path: Path) -> None:
    path = save_slice(tmp_path)
    image = pydicom.dcmread(path)
    for name in ("SeriesNumber", "InstanceNumber", "AcquisitionNumber", "ImagePositionPatient"):
        image[name]._value = "abc"
    image.save_as(path)
    header = read_header(path)
    assert (header.number, header.instance, header.content) == (0, 0, "signal")
    assert header.frames[0].position is None


def test_a_deflated_file_is_rejected_without_decompression(tmp_path: Path) -> None:
    path = save_slice(tmp_path)
    image = pydicom.dcmread(path)
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    image.save_as(path)
    assert read_header(path).reason == "deflated transfer syntax 1.2.840.10008.1.2.1.99"
