"""Check the pixel data of a DICOM file without decoding them."""

from __future__ import annotations

import struct
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.uid import UID

from infarct.dicom.elements import get_integer, printable_text

_BIG_ENDIAN = UID("1.2.840.10008.1.2.2")
_CONVERTIBLE = {
    *("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", _BIG_ENDIAN, "1.2.840.10008.1.2.5"),
    *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)),
}
"""Transfer syntaxes that dcm2niix decodes: uncompressed, RLE and the JPEG families."""

_MOST_BYTES = 4 << 30
"""Largest plausible size of the pixel data; a header that implies more is damaged."""


def pixel_fault(file: BinaryIO, data: Dataset) -> str:
    """Check the pixel data that follow a header.

    Args:
        file: Open file, positioned at the start of the pixel data element.
        data: The header of the file.

    Returns:
        Why the pixel data cannot be used; empty if no fault is found.
    """
    syntax = data.file_meta.get("TransferSyntaxUID")
    if syntax is not None and syntax not in _CONVERTIBLE:
        name = printable_text(syntax.name if isinstance(syntax, UID) else syntax)
        return f"transfer syntax {name} cannot be converted; decompress the files first"
    samples, bits = get_integer(data, "SamplesPerPixel") or 1, get_integer(data, "BitsAllocated")
    pixels = get_integer(data, "Rows") * get_integer(data, "Columns")
    expected = pixels * samples * bits // 8 * max(get_integer(data, "NumberOfFrames"), 1)
    if expected <= 0 or expected > _MOST_BYTES:
        return "Rows, Columns, BitsAllocated or NumberOfFrames is missing or impossible"
    if fault := _bits_fault(data, bits):
        return fault
    implicit, little = data.original_encoding
    return _length_fault(file, expected, implicit=bool(implicit), little=little is not False)


def _bits_fault(data: Dataset, allocated: int) -> str:
    """Check which bits hold the values: programs that trust different elements read other values.

    References:
        DICOM PS3.5, section 8.1.1.
    """
    if "BitsStored" not in data or "HighBit" not in data:
        return ""
    stored, high = get_integer(data, "BitsStored"), get_integer(data, "HighBit")
    if 1 <= stored <= allocated and high == stored - 1:
        return ""
    return f"BitsStored {stored} and HighBit {high} of {allocated} allocated bits are contradictory"


def _length_fault(file: BinaryIO, expected: int, *, implicit: bool, little: bool) -> str:
    """Compare the stated length of the pixel data with the file and the expected bytes."""
    order, head = "<" if little else ">", file.read(12)
    if len(head) < 12 or struct.unpack(f"{order}2H", head[:4]) != (0x7FE0, 0x0010):
        return "no pixel data"
    start = file.tell() - (4 if implicit else 0)
    (length,) = struct.unpack(f"{order}I", head[4:8] if implicit else head[8:12])
    end = file.seek(0, 2)
    if length == 0xFFFFFFFF:
        return "" if _is_complete(file, start, end) else "compressed pixel data are truncated"
    if start + length > end:
        return "pixel data are truncated"
    if not expected <= length <= expected + 1:
        return f"{length} bytes of pixel data found, {expected} expected from the header"
    return ""


def _is_complete(file: BinaryIO, offset: int, end: int) -> bool:
    """Return whether compressed pixel data end with the sequence delimiter."""
    while offset + 8 <= end:
        file.seek(offset)
        group, element, length = struct.unpack("<2HI", file.read(8))
        if (group, element) == (0xFFFE, 0xE0DD):
            return True
        if (group, element) != (0xFFFE, 0xE000):
            return False
        offset += 8 + int(length)
    return False
