"""Read single elements of a DICOM data set; a damaged element is treated as missing."""

from __future__ import annotations

import math
import struct
import unicodedata
from typing import Any

import pydicom
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag


def get_value(data: Dataset, name: str) -> Any:
    """Return the value of an element by keyword; None if it is missing or malformed."""
    try:
        return data.get(name)
    except Exception:
        # One damaged element does not invalidate the others.
        return None


def tag_value(data: Dataset, tag: BaseTag) -> Any:
    """Return the value of an element by tag; None if it is missing or malformed."""
    try:
        element = data.get(tag)
    except Exception:
        # As in get_value.
        return None
    return None if element is None else element.value


def drop_malformed(data: Dataset) -> None:
    """Remove elements with a malformed value, in sequences too: they cannot be copied or written.

    Args:
        data: Data set to change.
    """
    for tag in list(data.keys()):
        try:
            element = data[tag]
            for item in element.value if element.VR == "SQ" else ():
                drop_malformed(item)
            if element.VR in ("DS", "IS"):
                # Many scanners write more digits than DICOM allows; any number is accepted.
                malformed = bool(as_tuple(element.value)) and as_numbers(element.value) is None
            else:
                # Stricter than reading, which only warns: what is copied must be valid.
                malformed = False
                if element.VR != "SQ":
                    DataElement(tag, element.VR, element.value, validation_mode=config.RAISE)
            if malformed:
                del data[tag]
        except Exception:
            del data[tag]


def sequence_items(data: Dataset, name: str) -> list[Dataset]:
    """Return the items of a sequence; empty if it is missing or malformed."""
    value = get_value(data, name)
    return list(value) if isinstance(value, pydicom.Sequence) else []


def first_item(data: Dataset, name: str) -> Dataset:
    """Return the first item of a sequence; an empty data set if there is none."""
    items = sequence_items(data, name)
    return items[0] if items else Dataset()


def get_integer(data: Dataset, name: str) -> int:
    """Return the value of an element as an integer; 0 if it is missing or not a number."""
    number = as_number(get_value(data, name))
    return int(number) if number is not None else 0


def printable_text(value: Any) -> str:
    """Return a value as text without control and text-direction characters."""
    kept = (c for c in str(value or "") if not unicodedata.category(c).startswith("C"))
    return "".join(kept).strip()


def comparable_name(value: Any) -> str:
    """Normalise a person's name for comparison: case, separators and padding vary by writer."""
    return " ".join(printable_text(value).casefold().replace("^", " ").replace("=", " ").split())


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return a value of any multiplicity as a tuple; empty for None."""
    if value is None or isinstance(value, str | bytes | int | float):
        return () if value is None else (value,)
    return tuple(value)


def as_number(value: Any) -> float | None:
    """Convert a value to a finite number; None if that is not possible."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        # Private numbers whose type pydicom does not know (United Imaging) stay raw bytes.
        raw = value if isinstance(value, bytes) else b""
        number = float(struct.unpack("<d", raw)[0]) if len(raw) == 8 else math.nan
    return number if math.isfinite(number) else None


def as_numbers(value: Any) -> tuple[float, ...] | None:
    """Convert a value of any multiplicity to finite numbers; None if it is empty or any fails."""
    numbers = tuple(as_number(v) for v in as_tuple(value))
    return tuple(n for n in numbers if n is not None) if numbers and None not in numbers else None
