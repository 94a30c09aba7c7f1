from pathlib import Path

import pydicom
import pytest
from dicom_scanner import save_slice
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from infarct.dicom.headers import read_header


@pytest.mark.parametrize(("cut", "fault"), [(100, "are truncated"), (6150, "no pixel data")])
def test_a_truncated_file_is_detected(cut: int, fault: str, tmp_path: Path) -> None:
    path = save_slice(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    assert fault in read_header(path).fault


def test_truncated_compressed_pixel_data_are_detected(tmp_path: Path) -> None:
    path = save_slice(tmp_path)
    image = pydicom.dcmread(path)
    image.file_meta.TransferSyntaxUID = JPEG2000Lossless
    image.PixelData = encapsulate([b"\xff" * 400])
    image["PixelData"].is_undefined_length = True
    image.save_as(path)
    assert read_header(path).fault == ""
    path.write_bytes(path.read_bytes()[:-100])
    assert read_header(path).fault == "compressed pixel data are truncated"


def test_pixel_data_of_the_wrong_length_are_detected(tmp_path: Path) -> None:
    path = save_slice(tmp_path)
    image = pydicom.dcmread(path)
    image.Columns = 47
    image.save_as(path)
    assert "6144 bytes of pixel data found, 6016 expected" in read_header(path).fault


def test_an_unsupported_transfer_syntax_is_named(tmp_path: Path) -> None:
    path = save_slice(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"))
    assert "transfer syntax 1.2.840.10008.1.2.9 cannot be converted" in read_header(path).fault


@pytest.mark.parametrize(("stored", "high"), [(0, 15), (8, 15), (17, 16), (12, 15)])
def test_contradictory_bits_are_detected(stored: int, high: int, tmp_path: Path) -> None:
    path = save_slice(tmp_path)
    image = pydicom.dcmread(path)
    image.BitsStored, image.HighBit = stored, high
    image.save_as(path)
    assert "are contradictory" in read_header(path).fault
    image.BitsStored, image.HighBit = 12, 11
    image.save_as(path)
    assert read_header(path).fault == ""
