"""Files of b-values, as scanners' converters, spreadsheets and Windows editors leave them."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infarct.core.errors import InputFileError
from infarct.core.input_files import is_file

_ENDINGS = (".bval", ".bvals", ".BVAL", ".BVALS")
_IMAGE = re.compile(r"(\.nii|\.hdr|\.img)?(\.gz|\.bz2)?$", re.IGNORECASE)
_LARGEST = 2**20
"""Bytes; one line of a thousand numbers has ten thousand."""


def bvalue_file(image: Path) -> Path | None:
    """Find the file of b-values beside an image: the same name, ending in .bval or .bvals."""
    stem = _IMAGE.sub("", image.name)
    candidates = (image.with_name(f"{stem}{ending}") for ending in _ENDINGS)
    return next((path for path in candidates if is_file(path)), None)


def bvalue_name(image: Path) -> str:
    """Return the name that the file of b-values of an image should have."""
    return _IMAGE.sub("", image.name) + _ENDINGS[0]


def read_bvalues(path: Path) -> NDArray[np.float64]:
    """Read b-values separated by spaces, tabs, line breaks, commas or semicolons.

    Args:
        path: Text in UTF-8 or UTF-16, with or without a byte order mark.

    Returns:
        s/mm^2, one per volume.

    Raises:
        InputFileError: If it is anything else, or a number is negative or not finite.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ValueError("it is too long")
        words = re.split(r"[\s,;]+", _decoded(content).strip(" \t\r\n,;"))
        values = np.asarray_chkfinite([word for word in words if word], dtype=np.float64)
        if (values < 0).any():
            raise ValueError(f"{values.min():g} is negative")
    except (OSError, ValueError) as error:
        raise InputFileError(
            f"{path}: cannot be read as b-values ({error}); "
            "one number in s/mm^2 per volume is expected, as in 0 1000 1000 1000"
        ) from error
    return values


def _decoded(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")
