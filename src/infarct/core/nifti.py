"""Reading of NIfTI, MetaImage and NRRD images, and writing of NIfTI images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import DTypeLike, NDArray

from infarct.core.errors import ContentError, GeometryError
from infarct.core.geometry import Affine, Grid
from infarct.core.input_files import HeaderRemark, check_file, is_file
from infarct.core.nifti_header import halves, qform, read_nifti, unit_mm
from infarct.core.other_formats import SUFFIXES, detached_voxels, is_other_format, read_other

# nibabel prints header details to stderr through its own handler; without it, its messages follow
# the logging configuration of the calling program.
nib.imageglobals.logger.handlers.clear()

_GEOMETRY_FIELDS = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z"),
)

_ROUNDED = 1e-3
"""Largest difference between mask values and whole numbers."""

_FORMS = ("sform", "qform")


@dataclass(frozen=True, eq=False)
class Volume:
    """An image and its geometry.

    Attributes:
        data: (X, Y, Z) voxel values; (X, Y, Z, N) only for a series as read.
        affine: (4, 4) voxel -> world RAS+ mm.
        header: The NIfTI header of the input file; its geometry is copied to every file written on
            the same grid. None for an image created in memory.
        remarks: Contradictions in that header, and how they were resolved.
    """

    data: NDArray[Any]
    affine: Affine
    header: nib.Nifti1Header | None = None
    remarks: tuple[HeaderRemark, ...] = ()

    @property
    def grid(self) -> Grid:
        """The voxel grid."""
        x, y, z = self.data.shape[:3]
        return Grid((x, y, z), self.affine)

    @property
    def slice_axis(self) -> int:
        """Voxel axis along which slices are stacked: the one closest to head-foot."""
        return int(np.argmax(np.abs(closest_axes(self.affine)[2])))

    def like(self, data: NDArray[Any]) -> Volume:
        """Return other voxel values on the same grid, with the same header.

        Raises:
            ValueError: If the shape does not match the grid.
        """
        if data.shape != self.data.shape[:3]:
            raise ValueError(f"data of shape {data.shape} do not fit the grid {self.data.shape}")
        return replace(self, data=data)


def read(path: Path | str) -> Volume:
    """Read an image and apply its intensity scaling.

    Args:
        path: NIfTI (`.nii`, `.nii.gz`, or either half of a `.hdr`/`.img` pair) with three axes, or
            four for a series; or one 3D image as MetaImage (`.mha`, `.mhd`) or NRRD.

    Returns:
        The image as float32; trailing axes of length one are dropped.

    Raises:
        InputFileError: If the file is missing, truncated, empty, damaged or of another format.
        GeometryError: If it has fewer than three axes, or a singular affine.
        ContentError: If its voxels are colours or complex numbers.
    """
    path = Path(path)
    check_file(path, "a .nii or .nii.gz image")
    if is_other_format(path):
        data, affine = read_other(path)
        return Volume(data, affine, _header_of(data.shape, affine))
    image = read_nifti(path)
    return Volume(image.data, image.affine, image.header, image.remarks)


def files_of(path: Path) -> tuple[Path, ...]:
    """Return all files of an image: two if header and voxels are stored separately."""
    if path.suffix.lower() in SUFFIXES and is_file(path):
        return tuple(dict.fromkeys((path, detached_voxels(path))))
    return tuple(dict.fromkeys((path, *halves(path))))


def write(
    volume: Volume, path: Path | str, dtype: DTypeLike = np.float32, step: float | None = None
) -> None:
    """Write a volume; sform, qform and their codes are copied from its header.

    Args:
        volume: Volume to write. Names, dates and free text in its header are not written.
        path: Output file, ending in `.nii` or `.nii.gz`.
        dtype: Stored type of the voxels.
        step: Store values as integer multiples of this step (`scl_slope`); if None, unscaled.
    """
    kind: Any = nib.Nifti2Image if isinstance(volume.header, nib.Nifti2Header) else nib.Nifti1Image
    stored = volume.data if step is None else np.round(volume.data / step)
    # With a header, its fields define the geometry: an affine in mm would overwrite other units.
    image = kind(stored.astype(dtype), None if volume.header is not None else volume.affine)
    if step is not None:
        image.header.set_slope_inter(step, 0.0)
    if volume.header is None:
        image.set_sform(volume.affine, code="mni")
        image.set_qform(volume.affine, code="mni")
        image.header.set_xyzt_units("mm")
    else:
        for field in _GEOMETRY_FIELDS:
            # Copied field by field: nibabel would recompute the quaternion with rounding errors.
            image.header[field] = volume.header[field]
        image.header["pixdim"][4:] = 1.0
    image.header["cal_min"], image.header["cal_max"] = 0, 0
    # The gzip stream contains a fixed name, so that the same input gives the same bytes.
    image.to_filename(path)


def read_labels(path: Path | str) -> Volume:
    """Read a mask or label map, and clean values that other tools write.

    Values within 0.001 of a whole number are rounded (0.99999 after scaling). NaN is background,
    and so is -1 if there are positive labels or nothing else.

    Args:
        path: As for `read`.

    Returns:
        Whole numbers, 0 where there is no label.

    Raises:
        InputFileError: If the file cannot be read.
        GeometryError: If the image is a series.
        ContentError: If the image contains fractions, infinities or other negative numbers (as an
            image or a probability map does), only NaN, or only -1 and 0, which is ambiguous.
    """
    volume = read(path)
    if volume.data.ndim != 3:
        raise GeometryError(
            f"{path}: has shape {volume.data.shape}; a mask has three axes: give a 3D mask"
        )
    empty = np.isnan(volume.data)
    if empty.all():
        raise ContentError(
            f"{path}: all voxels are NaN; a mask holds 0 where there is no lesion: export it again"
        )
    values = np.where(empty, 0, volume.data)
    labels = np.where(np.isfinite(values), np.rint(values), 0)
    strange = ~(np.abs(values - labels) <= _ROUNDED) | (labels < -1)
    if (labels == -1).any() and not (labels == -1).all() and not (labels > 0).any():
        strange |= labels == -1
    if strange.any():
        few = np.unique(values[strange])
        raise ContentError(
            f"{path}: contains {len(few)} values that are not labels, from {few[0]:.6g} to "
            f"{few[-1]:.6g}; a mask holds 0 where there is no lesion and positive whole numbers "
            "elsewhere: apply a threshold to a probability map first"
        )
    return volume.like(np.maximum(labels, 0))


def form_disagreement_mm(volume: Volume) -> float:
    """Return the largest distance between corner voxels according to sform and qform, mm.

    Zero if one of the two is not set. Infinite if the qform is invalid.
    """
    if volume.header is None or min(volume.header[f"{form}_code"] for form in _FORMS) <= 0:
        return 0.0
    # The same unit for both forms.
    unit = unit_mm(volume.header, volume.data.shape)
    sform = np.vstack([*(volume.header[f"srow_{axis}"] for axis in "xyz"), [0, 0, 0, 1]])
    sform[:3] *= unit
    try:
        apart = (sform - qform(volume.header, unit)) @ volume.grid.corners
    except ValueError:
        return np.inf
    furthest = float(np.sqrt((apart[:3] ** 2).sum(axis=0)).max())
    return furthest if np.isfinite(furthest) else np.inf


def has_position(volume: Volume) -> bool:
    """Return whether the header defines a position and orientation (sform or qform set)."""
    header = volume.header
    return header is None or bool(header["sform_code"] > 0 or header["qform_code"] > 0)


def closest_axes(affine: Affine) -> NDArray[np.float64]:
    """Return the signed permutation that maps each voxel axis to its closest world axis.

    Args:
        affine: (4, 4) voxel -> world RAS+ mm.

    Returns:
        (3, 3) with one +-1 per row and column: world axis (row) from voxel axis (column).
    """
    orientation = nib.io_orientation(affine)
    axes = np.zeros((3, 3))
    for voxel_axis, (world_axis, sign) in enumerate(orientation):
        axes[int(world_axis), voxel_axis] = sign
    return axes


def _header_of(shape: tuple[int, ...], affine: Affine) -> nib.Nifti1Header:
    """Create a header for an image in another format."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_sform(affine, code="scanner")
    header.set_qform(affine, code="scanner")
    header.set_xyzt_units("mm")
    return header
