"""Identify the manufacturer of the scanner and read the b-value from its private elements."""

from __future__ import annotations

import re

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from infarct.dicom.elements import as_number, as_tuple, get_value, tag_value

_HIGHEST_BVALUE = 20_000.0
"""s/mm^2; a larger value indicates a damaged header."""

_SIEMENS_B, _GE_B, _UNITED_IMAGING_B, _PHILIPS_B = (
    Tag(tag) for tag in (0x0019100C, 0x00431039, 0x00651009, 0x20011003)
)
PRIVATE_BVALUES = (_SIEMENS_B, _GE_B, _UNITED_IMAGING_B, _PHILIPS_B)
"""Private elements that contain the b-value."""

_MAKERS = {
    "siemens": "Siemens",
    "ge medical": "GE",
    "ge health": "GE",
    "philips": "Philips",
    "canon": "Canon",
    "toshiba": "Canon",
    "uih": "United Imaging",
    "united imaging": "United Imaging",
}
_CREATORS = {
    Tag(0x00190010): ("siemens", "Siemens"),
    Tag(0x00430010): ("gems_", "GE"),
    Tag(0x20010010): ("philips", "Philips"),
    Tag(0x00650010): ("image private header", "United Imaging"),
}
"""Private creators; they identify the manufacturer when its name was removed."""


def maker_of(data: Dataset) -> str:
    """Return the manufacturer of the scanner: a short name, or "another maker"."""
    given = str(get_value(data, "Manufacturer") or "").lower()
    for key, name in _MAKERS.items():
        if key in given:
            return name
    for tag, (key, name) in _CREATORS.items():
        if str(tag_value(data, tag) or "").lower().startswith(key):
            return name
    return "another maker"


def bvalue_of(data: Dataset, maker: str) -> float | None:
    """Read the b-value of a single-frame file from standard or private elements.

    Args:
        data: The header.
        maker: Manufacturer, from `maker_of`.

    Returns:
        s/mm^2; None if the header does not state it.
    """
    standard = plausible_bvalue(as_number(get_value(data, "DiffusionBValue")))
    if standard is not None:
        return standard
    if maker == "Siemens":
        named = re.search(r"_b(\d+)", str(get_value(data, "SequenceName") or ""))
        private = plausible_bvalue(as_number(tag_value(data, _SIEMENS_B)))
        return float(named[1]) if private is None and named else private
    if maker == "GE":
        # The first of four numbers; some software versions add 10^9.
        first = as_number((as_tuple(tag_value(data, _GE_B)) or (None,))[0])
        return None if first is None else plausible_bvalue(first % 100_000)
    if maker == "Philips":
        return plausible_bvalue(as_number(tag_value(data, _PHILIPS_B)))
    if maker == "United Imaging":
        return plausible_bvalue(as_number(tag_value(data, _UNITED_IMAGING_B)))
    return None


def plausible_bvalue(bvalue: float | None) -> float | None:
    """Return a b-value; None if it is implausible."""
    return bvalue if bvalue is not None and 0 <= bvalue <= _HIGHEST_BVALUE else None
