from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_scanner import (
    ADC,
    ANATOMY,
    FA,
    MAKERS,
    SMALL,
    TRACE,
    Protocol,
    Study,
    noise,
    save_classic,
    save_enhanced,
)
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from infarct.dicom.headers import read_header

ACQUIRED = ("ORIGINAL", "PRIMARY", "DIFFUSION", "NONE")
NAMES = {
    "SIEMENS": "Siemens",
    "GE MEDICAL SYSTEMS": "GE",
    "Philips Medical Systems": "Philips",
    "UIH": "United Imaging",
    "CANON_MEC": "Canon",
}


@pytest.mark.parametrize("maker", MAKERS)
def test_bvalues_are_found_where_each_maker_keeps_them(maker: str, tmp_path: Path) -> None:
    pixels = noise(400, slices=2)
    save_classic(tmp_path, Study.new(maker), Protocol(3, "x"), SMALL, [(0, pixels), (800, pixels)])
    headers = [read_header(path) for path in tmp_path.iterdir()]
    assert {h.maker for h in headers} == {NAMES[maker]}
    assert sorted(h.frames[0].bvalue for h in headers) == [0, 0, 800, 800]


@pytest.mark.parametrize("maker", MAKERS)
def test_bvalues_are_found_where_the_transfer_syntax_hides_their_type(
    maker: str, tmp_path: Path
) -> None:
    """As archives send it: implicit VR; and without the standard's element, which not all write."""
    pixels = noise(400, slices=1)
    save_classic(tmp_path, Study.new(maker), Protocol(3, "x"), SMALL, [(0, pixels), (800, pixels)])
    for path in tmp_path.iterdir():
        image = pydicom.dcmread(path)
        if maker != "CANON_MEC" and "DiffusionBValue" in image:
            del image.DiffusionBValue
        if maker == "SIEMENS":
            del image.SequenceName
        image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        image.save_as(path, implicit_vr=True, little_endian=True)
    headers = [read_header(path) for path in tmp_path.iterdir()]
    assert sorted(str(h.frames[0].bvalue) for h in headers) == ["0.0", "800.0"]


def test_every_frame_of_a_multi_frame_file_has_its_place_and_bvalue(tmp_path: Path) -> None:
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
def test_what_a_file_may_serve_as(
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


def test_a_weighted_image_is_no_map_because_its_protocol_makes_one(tmp_path: Path) -> None:
    """All series of a protocol share its name."""
    protocol = Protocol(3, "DWI with ADC", ("DERIVED", "PRIMARY", "OTHER"))
    save_classic(tmp_path, Study.new("SIEMENS"), protocol, SMALL, [(1000, noise(400, 1))])
    (path,) = tmp_path.iterdir()
    image = pydicom.dcmread(path)
    del image.SeriesDescription
    image.save_as(path)
    assert read_header(path).content == "signal"


def test_a_file_tells_when_it_was_acquired_and_of_what_it_was_made(tmp_path: Path) -> None:
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
    whole = tmp_path / "enhanced-4.dcm"
    image, derivation = pydicom.dcmread(whole), Dataset()
    image.AcquisitionDateTime = "20240229120001.5+0100"
    derivation.SourceImageSequence = [source]
    image.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence = [derivation]
    image.save_as(whole)
    assert read_header(whole).acquired == 120001.5
    assert read_header(whole).cited == {"1.2.3"}


def test_what_is_no_dicom_is_passed_over(tmp_path: Path) -> None:
    for name, content, reason in (
        ("empty", b"", "empty"),
        ("text", b"Roe^Jane", None),
        ("cut", b"\0" * 128 + b"DICM\x02", "no SeriesInstanceUID"),
    ):
        (tmp_path / name).write_bytes(content)
        read = read_header(tmp_path / name)
        assert (read and read.reason) == reason
