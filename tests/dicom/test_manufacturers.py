from pathlib import Path

import pydicom
import pytest
from dicom_scanner import MAKERS, SMALL, Protocol, Study, noise, save_classic, save_slice
from pydicom.uid import ImplicitVRLittleEndian

from infarct.dicom.headers import read_header

NAMES = {
    "SIEMENS": "Siemens",
    "GE MEDICAL SYSTEMS": "GE",
    "Philips Medical Systems": "Philips",
    "UIH": "United Imaging",
    "CANON_MEC": "Canon",
}


@pytest.mark.parametrize("maker", MAKERS)
def test_bvalues_are_read_for_every_manufacturer(maker: str, tmp_path: Path) -> None:
    pixels = noise(400, slices=2)
    save_classic(tmp_path, Study.new(maker), Protocol(3, "x"), SMALL, [(0, pixels), (800, pixels)])
    headers = [read_header(path) for path in tmp_path.iterdir()]
    assert {h.maker for h in headers} == {NAMES[maker]}
    assert sorted(h.frames[0].bvalue for h in headers) == [0, 0, 800, 800]


@pytest.mark.parametrize("maker", MAKERS)
def test_private_bvalues_are_read_from_implicit_vr_files(maker: str, tmp_path: Path) -> None:
    """Implicit VR, as sent by archives, and without the standard element, which is optional."""
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


@pytest.mark.parametrize("bvalue", [-1000.0, 1e9, float("nan"), float("inf")])
def test_an_implausible_bvalue_is_ignored(bvalue: float, tmp_path: Path) -> None:
    path = save_slice(tmp_path, bvalue=None)
    image = pydicom.dcmread(path)
    image.DiffusionBValue = bvalue
    image.save_as(path)
    assert read_header(path).frames[0].bvalue is None


def test_private_creators_identify_a_manufacturer_whose_name_was_removed(tmp_path: Path) -> None:
    for maker in ("SIEMENS", "GE MEDICAL SYSTEMS", "Philips Medical Systems", "UIH"):
        folder = tmp_path / maker
        save_classic(folder, Study.new(maker), Protocol(3, "x"), SMALL, [(800, noise(400, 1))])
        (path,) = folder.iterdir()
        image = pydicom.dcmread(path)
        del image.Manufacturer
        image.save_as(path)
        assert read_header(path).maker == NAMES[maker]
        assert read_header(path).frames[0].bvalue == 800
