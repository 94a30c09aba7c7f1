"""Reading of MetaImage and NRRD files: headers are checked here, then SimpleITK reads the voxels.

SimpleITK assumes identity orientation, unit voxels or mm if the header lacks these fields,
allocates the size that the header states, and reads any file that the header names. All of this is
checked first.

References:
    MetaIO, https://docs.itk.org/projects/itkmetaio; NRRD, https://teem.sourceforge.net/nrrd.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from infarct.core.errors import ContentError, GeometryError, InputFileError
from infarct.core.geometry import Affine
from infarct.core.input_files import check_file
from infarct.core.nifti_header import MOST_VOXELS

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")

_LONGEST_HEADER = 2**16
_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SPACES = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1.0, 1.0, 1.0)),
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1.0, -1.0, 1.0)),
}
"""Signs that convert the space of an NRRD header to RAS."""

_META_TYPES = {
    **{"MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4},
    **{"MET_UINT": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8},
}
_NRRD_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char"), 1),
    **dict.fromkeys(("uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "float"), 4),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("int64", "int64_t", "uint64", "uint64_t", "double", "longlong"), 8),
}
_LOCAL = "LOCAL"


@dataclass(frozen=True)
class _Claims:
    """The contents of a header.

    Attributes:
        shape: Number of voxels along the three axes.
        size: Bytes per voxel.
        affine: (4, 4) voxel -> world RAS+ mm.
        packed: Whether the voxels are compressed.
        file: File with the voxels.
        start: Byte of that file at which the voxels start.
    """

    shape: tuple[int, int, int]
    size: int
    affine: Affine
    packed: bool
    file: Path
    start: int


def is_other_format(path: Path) -> bool:
    """Return whether a file is MetaImage or NRRD, judged by its content."""
    with path.open("rb") as stream:
        start = stream.read(256)
    return start.startswith(b"NRRD") or start.startswith((b"ObjectType", b"NDims", b"Comment ="))


def detached_voxels(path: Path) -> Path:
    """Return the file with the voxels; `path` itself if they follow the header."""
    try:
        return _claims(path).file
    except (InputFileError, GeometryError, ContentError, OSError):
        return path


def read_other(path: Path) -> tuple[NDArray[np.float32], Affine]:
    """Read a MetaImage or NRRD image.

    Args:
        path: The image, or the header file of an image in two files.

    Returns:
        (X, Y, Z) voxel values, and (4, 4) voxel -> world RAS+ mm.

    Raises:
        InputFileError: If the file is damaged, or its header names a file in another folder.
        GeometryError: If it is not a single 3D image, or its geometry is missing.
    """
    claims = _claims(path)
    affine = claims.affine
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise GeometryError(f"{path}: its affine cannot be inverted:\n{affine}\nrepair the header")
    if math.prod(claims.shape) > MOST_VOXELS:
        raise GeometryError(
            f"{path}: its header states {' x '.join(map(str, claims.shape))} voxels, more than any "
            "diffusion scan of a head; the header is damaged, or the image must be resampled first"
        )
    _check_length(path, claims)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = sitk.ReadImage(str(path))
        values = sitk.GetArrayFromImage(image)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise _damaged(path, f"SimpleITK reports: {reason}") from error
    placed = np.eye(4)
    placed[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    placed[:3, 3] = image.GetOrigin()
    placed = _RAS_FROM_LPS @ placed
    shape = values.shape[::-1]
    if shape != claims.shape or not np.allclose(placed, affine, rtol=1e-4, atol=1e-3):
        raise _damaged(path, "SimpleITK and the header disagree on size or position")
    data: NDArray[np.float32] = values.transpose(2, 1, 0).astype(np.float32)
    return data, placed


def _claims(path: Path) -> _Claims:
    with path.open("rb") as stream:
        block = stream.read(_LONGEST_HEADER)
    try:
        return _nrrd(path, block) if block.startswith(b"NRRD") else _meta(path, block)
    except (ValueError, KeyError, OverflowError) as error:
        raise _damaged(path, f"the header cannot be parsed ({error})") from error


def _meta(path: Path, block: bytes) -> _Claims:
    fields: dict[str, str] = {}
    start = 0
    for line in block.splitlines(keepends=True):
        start += len(line)
        key, _, value = line.decode("ascii").partition("=")
        fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            break
    if fields.get("ObjectType", "Image") != "Image" or fields.get("NDims") != "3":
        raise _not_one_image(path, f"{fields.get('NDims', 'unknown')} axes")
    if fields.get("ElementNumberOfChannels", "1") != "1":
        raise _not_one_image(path, f"{fields['ElementNumberOfChannels']} values per voxel")
    matrix = _first(fields, "TransformMatrix", "Orientation", "Rotation")
    spacing = _first(fields, "ElementSpacing", "ElementSize")
    if matrix is None or spacing is None:
        raise _no_place(path, "TransformMatrix or ElementSpacing")
    if fields.get("HeaderSize", "0") != "0" or fields.get("BinaryData", "True") != "True":
        raise _damaged(path, "HeaderSize and ASCII data are not supported")
    if fields.get("DistanceUnits", "mm") not in ("mm", "?"):
        raise _damaged(path, f"DistanceUnits is {fields['DistanceUnits']}, only mm is supported")
    affine = np.eye(4)
    # MetaIO writes the direction of each axis as a row.
    affine[:3, :3] = _numbers(matrix, 9).reshape(3, 3).T * _numbers(spacing, 3)
    affine[:3, 3] = _numbers(_first(fields, "Offset", "Position", "Origin") or "0 0 0", 3)
    file, start = _data_file(path, fields["ElementDataFile"], start)
    return _Claims(
        _sizes(fields["DimSize"]),
        _META_TYPES[fields["ElementType"]],
        _RAS_FROM_LPS @ affine,
        fields.get("CompressedData", "False") == "True",
        file,
        start,
    )


def _nrrd(path: Path, block: bytes) -> _Claims:
    head, blank, _ = block.replace(b"\r\n", b"\n").partition(b"\n\n")
    start = len(head) + 2 + block[: len(head) + head.count(b"\n")].count(b"\r\n")
    start += 2 if b"\r\n\r\n" in block[: start + 4] else 0
    fields: dict[str, str] = {}
    for line in head.decode("ascii").splitlines()[1:]:
        key, colon, value = line.partition(":")
        if colon and not line.startswith("#") and not value.startswith("="):
            fields[key.strip().lower()] = value.strip()
    if fields["dimension"] != "3":
        raise _not_one_image(path, f"{fields['dimension']} axes")
    space = _SPACES.get(fields.get("space", "").lower())
    directions = fields.get("space directions")
    if space is None or directions is None:
        raise _no_place(path, "space (RAS, LAS or LPS) or space directions")
    for key in ("byte skip", "byteskip", "line skip", "lineskip"):
        if fields.get(key, "0") != "0":
            raise _damaged(path, f"{key} is not supported")
    if set(fields.get("space units", '"mm"').replace('"', "").split()) != {"mm"}:
        raise _damaged(path, f"space units are {fields['space units']}, only mm is supported")
    encoding = fields["encoding"].lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise _damaged(path, f"the encoding {encoding} is not supported (only raw and gzip)")
    affine = np.eye(4)
    affine[:3, :3] = _numbers(directions, 9).reshape(3, 3).T
    affine[:3, 3] = _numbers(fields.get("space origin", "0 0 0"), 3)
    named = _first(fields, "data file", "datafile")
    if named is None and not blank:
        raise _damaged(path, "no voxels follow the header")
    file, start = _data_file(path, named or _LOCAL, start)
    return _Claims(
        _sizes(fields["sizes"]),
        _NRRD_TYPES[fields["type"].lower()],
        np.diag([*space, 1.0]) @ affine,
        encoding != "raw",
        file,
        start,
    )


def _data_file(path: Path, name: str, start: int) -> tuple[Path, int]:
    """Return the file with the voxels, in the same folder as the header, and their first byte."""
    if name.upper() == _LOCAL:
        return path, start
    if Path(name).name != name or "%" in name or name.upper().startswith("LIST"):
        raise InputFileError(
            f"{path}: its header names {name!r} as the voxel file, but only a single file in the "
            "same folder is supported: convert the image to .nii.gz or to a single file"
        )
    file = path.with_name(name)
    check_file(file, "the voxel file that the header names")
    return file, 0


def _check_length(path: Path, claims: _Claims) -> None:
    """Reject an image whose file has fewer or more bytes than its header states."""
    claimed = math.prod(claims.shape) * claims.size
    there = claims.file.stat().st_size - claims.start
    if claims.packed and claimed <= 1100 * there + 1024:
        there = _inflated(claims, claimed)
    if there != claimed:
        raise _damaged(path, f"the header states {claimed} bytes of voxels, the file holds {there}")


def _inflated(claims: _Claims, claimed: int) -> int:
    """Return the decompressed length of a zlib or gzip stream, slightly above `claimed` at most."""
    inflater, length = zlib.decompressobj(zlib.MAX_WBITS | 32), 0
    with claims.file.open("rb") as stream:
        stream.seek(claims.start)
        try:
            while length <= claimed and not inflater.eof:
                packed = inflater.unconsumed_tail or stream.read(2**16)
                if not packed:
                    return -1
                length += len(inflater.decompress(packed, 2**20))
        except zlib.error:
            return -1
    return length


def _first(fields: Mapping[str, str], *names: str) -> str | None:
    return next((fields[name] for name in names if name in fields), None)


def _numbers(text: str, count: int) -> NDArray[np.float64]:
    words: Any = text.replace("(", " ").replace(")", " ").replace(",", " ").split()
    numbers = np.asarray_chkfinite(words, dtype=np.float64)
    if numbers.size != count:
        raise ValueError(f"expected {count} numbers, found {text!r}")
    return numbers


def _sizes(text: str) -> tuple[int, int, int]:
    x, y, z = (int(word) for word in text.split())
    if min(x, y, z) < 1:
        raise ValueError(f"the sizes are {text}")
    return x, y, z


def _damaged(path: Path, reason: str) -> InputFileError:
    return InputFileError(f"{path}: cannot be read: {reason}; convert or copy it again")


def _not_one_image(path: Path, found: str) -> GeometryError:
    return GeometryError(
        f"{path}: has {found}; give a 3D image with one number per voxel, or a diffusion series as "
        "NIfTI with a .bval file"
    )


def _no_place(path: Path, missing: str) -> GeometryError:
    return GeometryError(
        f"{path}: its header has no {missing}, so left and right are unknown; "
        "export it again with its orientation, or convert it to .nii.gz"
    )
