"""Checks of an input file before it is parsed: existence, access and format."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NamedTuple

from infarct.core.errors import InputFileError

_START = 512
"""Number of bytes read to identify a format; the DICOM signature is at byte 128."""

_KINDS: tuple[tuple[int, bytes, str], ...] = (
    (128, b"DICM", "a DICOM file; give its folder with --dicom"),
    (0, b"version https://git-lfs", "a Git LFS pointer; run `git lfs pull` first"),
    (0, b"/annex/objects/", "a git-annex pointer; run `datalad get` on it first"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd; decompress it first (unzstd)"),
    (0, b"\xfd7zXZ", "compressed with xz; decompress it first (unxz)"),
    (0, b"PK\x03\x04", "a ZIP archive; unpack it first"),
    (0, b"\x89HDF", "an HDF5 file (MINC 2 or MATLAB); convert it to NIfTI first (mnc2nii)"),
    (0, b"CDF", "a NetCDF file (MINC 1); convert it to NIfTI first (mnc2nii)"),
    (0, b"\x89PNG", "a PNG picture; a 3D image is needed"),
    (0, b"\xff\xd8\xff", "a JPEG picture; a 3D image is needed"),
    (0, b"\x93NUMPY", "a NumPy array without geometry; save it as NIfTI with its affine"),
    (0, b"TRACK", "a TrackVis file; a 3D image is needed"),
    (0, b"mrtrix tracks", "an MRtrix track file; a 3D image is needed"),
    (0, b"<?xml", "an XML file (perhaps GIfTI); a 3D image is needed"),
    (0, b"# === DATA DESCRIPTION", "a Philips PAR header; convert it to NIfTI first (dcm2niix)"),
    (0, b"\x00\x00\x00\x01\x00\x00", "a FreeSurfer MGH image; convert it first (mri_convert)"),
)


class HeaderRemark(NamedTuple):
    """A contradiction in a header, and how it was resolved.

    Attributes:
        code: Stable code, for programs.
        message: Message for the user, without the name of the image.
        doubtful: Whether the result may be wrong (a warning); otherwise it is a note.
    """

    code: str
    message: str
    doubtful: bool = True


def is_file(path: Path) -> bool:
    """Return whether a path is an existing file; False for invalid names."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def check_file(path: Path, expected: str) -> None:
    """Check that a path is a readable, non-empty file.

    Args:
        path: Path given by the user.
        expected: Expected kind of file, for the message.

    Raises:
        InputFileError: If it is not; the message says why and what to do.
    """
    try:
        there, folder = path.is_file(), path.is_dir()
        os.lstat(path)
    except FileNotFoundError:
        there = folder = False
    except (OSError, ValueError) as error:
        too_long = isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG
        why = "the name is too long for this file system" if too_long else str(error)
        raise InputFileError(f"{path}: {why}; give the path of {expected}") from error
    if folder:
        raise InputFileError(f"{path}: is a folder; give the path of {expected}")
    if not there:
        raise InputFileError(f"{path}: {why_missing(path)}; give the path of {expected}")
    if not os.access(path, os.R_OK):
        raise InputFileError(f"{path}: permission denied; ask its owner for read access")
    if path.stat().st_size == 0:
        raise InputFileError(f"{path}: is empty (0 bytes); copy or download it again")


def why_missing(path: Path) -> str:
    """Describe why a file is missing; symbolic links in DataLad datasets are often broken."""
    if path.is_symlink():
        return (
            "is a broken link; its content is not on this computer "
            f"(in a DataLad or git-annex dataset, run `datalad get '{path.name}'`)"
        )
    return "is not a regular file" if path.exists() else "no such file"


def kind_of(path: Path) -> str | None:
    """Identify the format of a file by its first bytes, with advice; None if unknown."""
    with path.open("rb") as stream:
        start = stream.read(_START)
    for at, magic, kind in _KINDS:
        if start[at : at + len(magic)] == magic:
            return kind
    return None
