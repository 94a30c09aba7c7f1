"""Reading of b-value files, as written by converters, spreadsheets and Windows editors."""

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
"""Largest file, bytes; a thousand b-values need about ten thousand."""


def bvalue_file(image: Path) -> Path | None:
    """Find the b-value file of an image: same folder and name, ending in .bval or .bvals."""
    stem = _IMAGE.sub("", image.name)
    candidates = (image.with_name(f"{stem}{ending}") for ending in _ENDINGS)
    return next((path for path in candidates if is_file(path)), None)


def bvalue_name(image: Path) -> str:
    """Return the expected name of the b-value file of an image."""
    return _IMAGE.sub("", image.name) + _ENDINGS[0]


def read_bvalues(path: Path) -> NDArray[np.float64]:
    """Read b-values separated by spaces, tabs, line breaks, commas or semicolons.

    Args:
        path: Text file in UTF-8 or UTF-16, with or without a byte order mark.

    Returns:
        s/mm^2, one per volume.

    Raises:
        InputFileError: If the file has other content, or a number is negative or not finite.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ValueError("the file is too long")
        words = re.split(r"[\s,;]+", _decoded(content).strip(" \t\r\n,;"))
        values = np.asarray_chkfinite([word for word in words if word], dtype=np.float64)
        if (values < 0).any():
            raise ValueError(f"{values.min():g} is negative")
    except (OSError, ValueError) as error:
        raise InputFileError(
            f"{path}: cannot be read as b-values ({error}); "
            "expected one number in s/mm^2 per volume, for example: 0 1000 1000 1000"
        ) from error
    return values


def _decoded(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")
