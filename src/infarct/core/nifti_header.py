"""Reading of NIfTI files, with all header fields checked before any voxel is read.

nibabel repairs damaged headers silently and trusts `vox_offset`; other tools repair differently.
If a header contradicts itself or its file, the image is rejected or read with a remark.

References:
    NIfTI-1 and NIfTI-2 Data Format, nifti1.h and nifti2.h, https://nifti.nimh.nih.gov.
"""

from __future__ import annotations

import bz2
import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from infarct.core.errors import ContentError, GeometryError, InputFileError
from infarct.core.geometry import Affine
from infarct.core.input_files import HeaderRemark, check_file, is_file, kind_of

MOST_VOXELS = 2**27
"""Largest volume: 512 x 512 x 512 voxels. Diffusion MRI of a head has at most a tenth of that."""

MOST_IN_SERIES = 2**30
"""Largest number of voxels of all volumes of a series together."""

_MOST_INFLATED = 200
"""Largest plausible compression ratio of a large image."""

_LARGE = 2**28
"""Bytes from which an image counts as large."""

_PADDING = 512
"""Zero bytes tolerated after the last voxel: some tools and media pad files to full blocks."""

_FARTHEST = 1e5
"""Largest plausible distance from the origin, mm."""

_QUATERNION_ROUNDING = 1e-4
"""Tolerance for the squared norm of a quaternion above one: some tools write only five digits."""

_NUMBERS = {
    **{2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8"},
    **{256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"},
}
_COLOURS, _COMPLEX = (128, 2304), (32, 1792, 2048)
_UNITS = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Length of one unit in mm, by its code; an unset unit is read as mm, as in all tools."""

_UNIT_NAMES = {1: "metres", 3: "micrometres"}
_HEADS = (50.0, 1000.0)
"""Plausible range of the longest side of an image of a head, mm."""

_DAMAGED = (EOFError, OSError, zlib.error, ValueError)


@dataclass(frozen=True, eq=False)
class NiftiImage:
    """An image as stored in its file.

    Attributes:
        data: Scaled values, float32, without trailing axes of length one.
        affine: (4, 4) voxel -> world RAS+ mm.
        header: Header as in the file, not repaired.
        remarks: Contradictions in the header that were resolved.
    """

    data: NDArray[np.float32]
    affine: Affine
    header: nib.Nifti1Header
    remarks: tuple[HeaderRemark, ...]


def halves(path: Path) -> tuple[Path, Path]:
    """Return the files with header and voxels: a .hdr/.img pair, or the same file twice."""
    if _plain(path).suffix.lower() not in (".hdr", ".img"):
        return path, path
    return _half(path, ".hdr"), _half(path, ".img")


def read_nifti(path: Path) -> NiftiImage:
    """Read a NIfTI-1 or NIfTI-2 image, and no more bytes than its header states.

    Args:
        path: A .nii file or .hdr/.img pair, optionally compressed with gzip or bzip2.

    Returns:
        The image and remarks about its header.

    Raises:
        InputFileError: If the file is not NIfTI, truncated, or longer than its header states.
        GeometryError: If the image is not a stack of slices, too large, or has an invalid affine.
        ContentError: If its voxels are colours or complex numbers.
    """
    first, voxels = halves(path)
    pair = first != voxels
    for half in {first, voxels} - {path}:
        check_file(half, "the other half of the .hdr/.img pair")
    try:
        with _opened(first) as stream:
            header = _header(path, stream, pair=pair)
            shape = _shape(path, header)
            remarks: list[HeaderRemark] = []
            dtype = _dtype(path, header, remarks)
            affine = _affine(path, header, shape, remarks)
            claimed = math.prod(shape) * dtype.itemsize
            _check_size(path, shape, claimed, voxels)
            offset = _offset(path, header, claimed, remarks, pair=pair)
            if not pair:
                raw = _voxels(path, stream, offset - header.sizeof_hdr, claimed, remarks)
        if pair:
            with _opened(voxels) as stream:
                raw = _voxels(path, stream, offset, claimed, remarks)
    except _DAMAGED as error:
        raise InputFileError(
            f"{path}: cannot be read as NIfTI ({error}); "
            "the file may be truncated or damaged: copy or convert it again"
        ) from error
    stored = raw.view(dtype).reshape(shape, order="F")
    data = _scaled(path, header, stored)
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    return NiftiImage(data, affine, header, tuple(remarks))


def qform(header: nib.Nifti1Header, unit_mm: float = 1.0) -> Affine:
    """Return the affine defined by quaternion, offsets and voxel sizes.

    Args:
        header: Header as in the file.
        unit_mm: Length of one unit of the header, mm.

    Raises:
        ValueError: If these fields are invalid.
    """
    sizes, side = np.asarray(header["pixdim"][1:4], float), float(header["pixdim"][0])
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise ValueError(f"voxel sizes in pixdim are {_row(sizes)}")
    if side not in (-1.0, 0.0, 1.0):
        raise ValueError(f"pixdim[0] is {side:g}, not 1 or -1, so left and right are unknown")
    quaternion = np.array([header[f"quatern_{axis}"] for axis in "bcd"], float)
    if not np.isfinite(quaternion).all():
        raise ValueError(f"the quaternion is {_row(quaternion)}")
    if (quaternion**2).sum() > 1 + _QUATERNION_ROUNDING:
        raise ValueError(f"the quaternion {_row(quaternion)} is not a rotation")
    whole = nib.quaternions.fillpositive(quaternion, -_QUATERNION_ROUNDING)
    affine = np.eye(4)
    affine[:3, :3] = nib.quaternions.quat2mat(whole) * sizes
    affine[:3, 2] *= -1.0 if side < 0 else 1.0
    affine[:3, 3] = [header[f"qoffset_{axis}"] for axis in "xyz"]
    affine[:3] *= unit_mm
    return affine


def unit_mm(header: nib.Nifti1Header, shape: tuple[int, ...]) -> float:
    """Return the length of one unit of a header in mm.

    Some tools declare metres or micrometres but write sizes in mm, and most readers ignore the
    unit. It is used unless only mm give a plausible size of a head.
    """
    stated = _UNITS.get(int(header["xyzt_units"]) & 7, 1.0)
    longest = float((np.linalg.norm(_in_own_unit(header)[:3, :3], axis=0) * shape[:3]).max())
    low, high = _HEADS
    in_mm = low <= longest <= high and not low <= longest * stated <= high
    return 1.0 if in_mm else stated


def _plain(path: Path) -> Path:
    """Return a path without its compression suffix."""
    return path.with_suffix("") if path.suffix.lower() in (".gz", ".bz2") else path


def _half(path: Path, suffix: str) -> Path:
    """Return one file of a .hdr/.img pair, with the same capitalisation as the other."""
    plain = _plain(path)
    if plain.suffix.lower() == suffix:
        return path
    half = plain.with_suffix(suffix.upper() if plain.suffix.isupper() else suffix)
    packed = half.with_name(f"{half.name}.gz")
    return half if is_file(half) or not is_file(packed) else packed


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file; compression is detected from its content, not its name."""
    with path.open("rb") as raw:
        start = raw.read(3)
        raw.seek(0)
        stream: Any = raw
        if start[:2] == b"\x1f\x8b":
            stream = gzip.GzipFile(fileobj=raw)
        elif start == b"BZh":
            stream = bz2.BZ2File(raw)
        yield stream


def _header(path: Path, stream: BinaryIO, *, pair: bool) -> nib.Nifti1Header:
    """Read the header without repairing it; size and signature must be correct."""
    start = stream.read(4)
    kinds: tuple[Any, ...] = (nib.Nifti1Header, nib.Nifti2Header)
    for kind in kinds:
        for endianness in "<>":
            if start == np.array(kind.sizeof_hdr, f"{endianness}i4").tobytes():
                block = start + stream.read(kind.sizeof_hdr - 4)
                if len(block) < kind.sizeof_hdr:
                    raise EOFError("the header is incomplete")
                header: nib.Nifti1Header = kind(block, endianness=endianness, check=False)
                _check_signature(path, header, pair=pair)
                return header
    kind_seen = kind_of(path)
    raise InputFileError(
        f"{path}: is {kind_seen}"
        if kind_seen
        else f"{path}: cannot be read as NIfTI: it does not start with a NIfTI header; "
        "give a .nii, .nii.gz, .hdr/.img, .mha, .mhd or .nrrd image, or a DICOM folder (--dicom)"
    )


def _check_signature(path: Path, header: nib.Nifti1Header, *, pair: bool) -> None:
    found = header["magic"].item()
    single, two = header.single_magic.rstrip(b"\0"), header.pair_magic.rstrip(b"\0")
    if found == (two if pair else single):
        return
    if found == (single if pair else two):
        advice = "rename it to .nii" if pair else "give the .hdr file of the pair"
        raise InputFileError(
            f"{path}: has the header of {'a single file' if pair else 'a .hdr/.img pair'}; {advice}"
        )
    raise InputFileError(
        f"{path}: cannot be read as NIfTI: its signature is {found!r}, not "
        f"{(two if pair else single)!r}; an Analyze 7.5 image does not record left and right, and "
        "a damaged header cannot be trusted: convert or copy the image again"
    )


def _shape(path: Path, header: nib.Nifti1Header) -> tuple[int, ...]:
    dimensions = [int(n) for n in header["dim"]]
    if not 1 <= dimensions[0] <= 7:
        raise InputFileError(
            f"{path}: cannot be read as NIfTI: dim[0] is {dimensions[0]}, expected 1 to 7; "
            "the header is damaged: copy or convert the image again"
        )
    shape = tuple(dimensions[1 : dimensions[0] + 1])
    if min(shape) < 1:
        raise InputFileError(
            f"{path}: cannot be read as NIfTI: its header states a shape of {shape}; "
            "the header is damaged: copy or convert the image again"
        )
    real = len(shape)
    while real > 3 and shape[real - 1] == 1:
        real -= 1
    if real not in (3, 4) or min(shape[:3]) < 2:
        raise GeometryError(f"{path}: has shape {shape[:real]}; a stack of slices is needed")
    return shape


def _dtype(path: Path, header: nib.Nifti1Header, remarks: list[HeaderRemark]) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code in (*_COLOURS, *_COMPLEX):
        raise ContentError(
            f"{path}: its voxels are {'colours' if code in _COLOURS else 'complex numbers'}; "
            "give a magnitude image with one number per voxel"
        )
    if code not in _NUMBERS:
        raise InputFileError(
            f"{path}: cannot be read as NIfTI: data type {code} is unknown or not supported; "
            "convert it to 16-bit integers or 32-bit floating point"
        )
    dtype = np.dtype(_NUMBERS[code]).newbyteorder(header.endianness)
    if int(header["bitpix"]) != 8 * dtype.itemsize:
        text = f"bitpix is {int(header['bitpix'])}, but data type {code} has {8 * dtype.itemsize}"
        remarks.append(HeaderRemark("bitpix-mismatch", f"{text} bits; bitpix was ignored"))
    return dtype


def _affine(
    path: Path, header: nib.Nifti1Header, shape: tuple[int, ...], remarks: list[HeaderRemark]
) -> Affine:
    codes = {form: int(header[f"{form}_code"]) for form in ("sform", "qform")}
    for form, code in codes.items():
        if not 0 <= code <= 5:
            use = "was used" if code > 0 else "counts as not set"
            text = f"{form}_code is {code}, but only 0 to 5 are defined; the {form} {use}"
            text += ". Other tools may place the image elsewhere"
            remarks.append(HeaderRemark("form-code-invalid", text))
    try:
        affine = _in_own_unit(header)
    except ValueError as error:
        raise GeometryError(
            f"{path}: its position cannot be read: {error}; repair the header"
        ) from error
    invertible = bool(np.isfinite(affine).all())
    if invertible:
        _remark_on_unit(header, shape, remarks)
        affine[:3] *= unit_mm(header, shape)
        invertible = abs(np.linalg.det(affine[:3, :3])) >= 1e-6
    if not invertible:
        raise GeometryError(
            f"{path}: its affine cannot be inverted:\n{affine}\nrepair the header (sform, qform)"
        )
    if np.abs(affine[:3, 3]).max() > _FARTHEST:
        raise GeometryError(
            f"{path}: its header places it at {_row(affine[:3, 3])} mm; repair the sform or qform"
        )
    spacing = np.linalg.norm(_in_own_unit(header)[:3, :3], axis=0)
    sizes = np.asarray(header["pixdim"][1:4], float)
    if not np.allclose(sizes, spacing, rtol=0.01, atol=0):
        text = (
            f"pixdim gives voxels of {_row(sizes)}, the sform {_row(spacing)}; the sform was used"
        )
        remarks.append(HeaderRemark("voxel-size-mismatch", text))
    return affine


def _in_own_unit(header: nib.Nifti1Header) -> Affine:
    """Return the affine of a header in its own unit; the sform takes precedence over the qform."""
    if header["sform_code"] > 0:
        return np.vstack([*(header[f"srow_{axis}"] for axis in "xyz"), [0, 0, 0, 1]]).astype(float)
    if header["qform_code"] > 0:
        return qform(header)
    sizes = np.asarray(header["pixdim"][1:4], float)
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise ValueError(f"voxel sizes in pixdim are {_row(sizes)}")
    # The position is unknown; nibabel's convention for such images is used.
    affine: Affine = np.asarray(header.get_base_affine(), float)
    return affine


def _remark_on_unit(
    header: nib.Nifti1Header, shape: tuple[int, ...], remarks: list[HeaderRemark]
) -> None:
    code = int(header["xyzt_units"]) & 7
    if code not in _UNITS:
        text = f"the unit of length in xyzt_units ({code}) is undefined; mm was assumed"
        remarks.append(HeaderRemark("unit-unknown", text))
    elif code in _UNIT_NAMES and unit_mm(header, shape) == 1.0:
        text = f"xyzt_units says {_UNIT_NAMES[code]}, but the size fits a head only in mm; mm used"
        remarks.append(HeaderRemark("unit-implausible", text))
    elif code in _UNIT_NAMES:
        text = f"the unit of the header is {_UNIT_NAMES[code]}; lengths were converted to mm"
        remarks.append(HeaderRemark("unit-converted", text, doubtful=False))


def _check_size(path: Path, shape: tuple[int, ...], claimed: int, voxels: Path) -> None:
    """Reject impossible sizes before memory is allocated for them."""
    claim = f"{path}: cannot be read as NIfTI: its header states {' x '.join(map(str, shape))}"
    there = voxels.stat().st_size
    with voxels.open("rb") as stream:
        start = stream.read(3)
    if start[:2] != b"\x1f\x8b" and start != b"BZh":
        most = there
    else:
        # Deflate packs at most 1032 to 1; bzip2 more, but not an image.
        most = max(_LARGE, _MOST_INFLATED * there) if claimed > _LARGE else 1100 * there + 1024
        most = claimed if start == b"BZh" and claimed <= _LARGE else most
    if claimed > most:
        raise InputFileError(
            f"{claim} voxels ({claimed} bytes), but the file has {there} bytes and cannot hold "
            "them; the file may be truncated or its header damaged: copy or convert it again"
        )
    if math.prod(shape[:3]) > MOST_VOXELS or math.prod(shape) > MOST_IN_SERIES:
        raise GeometryError(
            f"{claim} voxels, more than any diffusion scan of a head; "
            "the header is damaged, or the image must be resampled first"
        )


def _offset(
    path: Path,
    header: nib.Nifti1Header,
    claimed: int,
    remarks: list[HeaderRemark],
    *,
    pair: bool,
) -> int:
    """Return the byte of the file at which the voxels start."""
    stated = float(header["vox_offset"])
    least = 0 if pair else header.sizeof_hdr + 4
    if not pair and stated == 0 and _length(path, least + claimed) == least + claimed:
        text = f"vox_offset is 0; the voxels were read from byte {least}, where they must start"
        remarks.append(HeaderRemark("offset-repaired", text))
        return least
    if not (math.isfinite(stated) and stated == int(stated) and least <= stated <= _LARGE):
        raise InputFileError(
            f"{path}: cannot be read as NIfTI: vox_offset is {stated:g}, expected {least} or more; "
            "the header is damaged: copy or convert the image again"
        )
    return int(stated)


def _length(path: Path, most: int) -> int:
    """Return the length of a file after decompression, at most `most + 1`."""
    with _opened(path) as stream:
        length = 0
        while length <= most and (chunk := stream.read(min(2**20, most + 1 - length))):
            length += len(chunk)
    return length


def _voxels(
    path: Path, stream: BinaryIO, skip: int, claimed: int, remarks: list[HeaderRemark]
) -> NDArray[np.uint8]:
    """Read the bytes that the header states, and check that no data follow."""
    while skip > 0:
        passed = stream.read(min(skip, 2**20))
        if not passed:
            raise EOFError("the file ends before its voxels start")
        skip -= len(passed)
    # Memory pages are allocated as they fill, so a wrong size in the header costs no memory.
    raw = np.empty(claimed, np.uint8)
    view, done = raw.data, 0
    while done < claimed:
        got = stream.readinto(view[done : done + 2**20])  # type: ignore[attr-defined]
        if not got:
            raise EOFError(f"the header states {claimed} bytes of voxels, the file holds {done}")
        done += got
    # Reading to the end also verifies the checksum of a compressed file.
    rest = stream.read(_PADDING + 1)
    if len(rest) > _PADDING or any(rest) or stream.read(1):
        raise InputFileError(
            f"{path}: cannot be read as NIfTI: it holds more data than the {claimed} bytes of "
            "voxels that its header states; the header is damaged: copy or convert it again"
        )
    if rest:
        text = f"{len(rest)} bytes of zeros follow the last voxel; they were ignored"
        remarks.append(HeaderRemark("trailing-bytes", text))
    return raw


def _scaled(path: Path, header: nib.Nifti1Header, stored: NDArray[Any]) -> NDArray[np.float32]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    # 0 means no scaling; nibabel writes NaN instead.
    if slope == 0 or math.isnan(slope):
        slope, inter = 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(inter)):
        raise InputFileError(
            f"{path}: cannot be read as NIfTI: scl_slope is {slope:g}, scl_inter {inter:g}; "
            "the header is damaged: copy or convert the image again"
        )
    data = np.empty(stored.shape, np.float32, order="F")
    with np.errstate(over="ignore", invalid="ignore"):
        # Volume by volume: the scaling is computed in double precision.
        for index in np.ndindex(stored.shape[3:]):
            data[..., *index] = apply_read_scaling(stored[..., *index], slope, inter)
    return data


def _row(values: NDArray[Any]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
