"""Build the bank from folders of anatomies, lesion masks and lesion-free scans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from infarct.core import assets
from infarct.core.diffusion import Image, Mask
from infarct.core.errors import GeometryError, InputFileError
from infarct.core.file_search import entries_of, matching
from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume, closest_axes, read
from infarct.core.resampling import resample
from infarct.lab.sources import anatomy, templates
from infarct.lab.sources.bank import Background, Bank, pack_lesions
from infarct.lab.sources.tissue_classes import ClassMap
from infarct.preprocessing.case import Case
from infarct.preprocessing.load import open_case
from infarct.preprocessing.registration import Registration, register
from infarct.preprocessing.templates import Template

_AXES_TOLERANCE = 1e-3
"""mm per voxel. The error accumulates to at most a fifth of a voxel across a head."""


def build(data: Path) -> Bank:
    """Build the bank.

    Args:
        data: Folder with `anatomies/*.nii.gz` (label maps of whole heads), `lesions/*.nii.gz`
            (masks in MNI space, 1 mm) and `normals/NAME/NAME_{dwi,b0,adc}.nii.gz` with
            `NAME.json`.

    Raises:
        InputFileError: If no anatomies are found.
    """
    heads = matching(data / "anatomies", "*.nii.gz")
    if not heads:
        raise InputFileError(f"{data / 'anatomies'}: no label maps (*.nii.gz) found")
    tissue = templates.icbm_tissue()
    return Bank(
        anatomies={_name(file): aligned_head(file, tissue) for file in heads},
        lesions=pack_lesions(read_lesions(matching(data / "lesions", "*.nii.gz"))),
        backgrounds=_backgrounds(data / "normals", templates.build_template(tissue)),
        healthy=shipped_statistics(),
    )


def shipped_statistics() -> dict[str, Image]:
    """Return the healthy statistics shipped with the package, for storage in the bank."""
    names = ("dwi_mean", "dwi_sd", "adc_mean", "adc_sd")
    return {name: read(assets.path(f"templates/{name}")).data for name in names}


def _name(file: Path) -> str:
    return file.name.removesuffix(".gz").removesuffix(".nii")


def aligned_head(file: Path, tissue: templates.Tissue) -> ClassMap:
    """Read a label map and return its code on the MNI grid, see `tissue_classes.RIM_SHIFT`."""
    labels = read(file)
    classes = anatomy.from_freesurfer(labels.data.astype(np.int32))
    head, _ = anatomy.align(classes, labels.affine, tissue)
    return anatomy.with_rims(head)


def read_lesions(files: Iterable[Path]) -> Iterator[tuple[str, Mask]]:
    """Read lesion masks one at a time.

    Args:
        files: NIfTI masks in MNI space.

    Yields:
        Name, and mask on the MNI grid, (192, 224, 192).

    Raises:
        GeometryError: If a mask does not have 1 mm voxels along the axes of MNI space.
    """
    for file in sorted(files):
        try:
            yield _name(file), lesion_on_mni_grid(read(file))
        except GeometryError as error:
            raise GeometryError(f"{file}: {error}") from error


def lesion_on_mni_grid(volume: Volume) -> Mask:
    """Copy a lesion mask in MNI space onto the MNI grid by shifting and flipping.

    Raises:
        GeometryError: If the voxels are not 1 mm along the axes of MNI space. Copying would then
            skip or merge voxels.
    """
    axes = volume.affine[:3, :3]
    if not np.allclose(axes, closest_axes(volume.affine), atol=_AXES_TOLERANCE):
        raise GeometryError(
            f"voxel axes are\n{axes}\nbut 1 mm voxels along the axes of MNI space are required; "
            "resample the mask"
        )
    mask = np.zeros(MNI_GRID.shape, dtype=bool)
    voxels = np.argwhere(volume.data > 0.5)
    world = voxels @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    at = np.rint(world - MNI_GRID.affine[:3, 3]).astype(int)
    at = at[((at >= 0) & (at < MNI_GRID.shape)).all(axis=1)]
    mask[tuple(at.T)] = True
    return mask


def _backgrounds(folder: Path, template: Template) -> dict[str, Background]:
    homes = [path for path in entries_of(folder) if path.is_dir()]
    return {home.name: background(home, template) for home in homes}


def background(home: Path, template: Template) -> Background:
    """Read a lesion-free scan and register it in-plane to MNI space, as preprocessing does."""
    case = open_case(templates.lesion_free_files(home))
    found = register(case.b0, case.brain, template.b0, template.brain)
    tissue = case.brain & (case.adc.data > 0.4e-3) & (case.adc.data < 1.0e-3)
    b0 = (case.b0.data / np.median(case.b0.data[tissue])).astype(np.float32)
    return Background(
        b0=b0,
        adc=case.adc.data.astype(np.float32),
        brain=_brain(b0, case, found, template),
        native_from_mni=np.linalg.inv(found.mni_from_voxel) @ MNI_GRID.affine,
        bvalue=case.bvalue,
    )


def _brain(b0: Image, case: Case, found: Registration, template: Template) -> Mask:
    """Return the brain mask of a background: bright voxels near the template's brain.

    A threshold alone fails if one coil element brightens half of the head.
    """
    near = ndimage.binary_dilation(template.brain, iterations=2).astype(np.float32)
    volume = Volume(near, template.b0.affine)
    reach = resample(volume, case.dwi.grid, found.mni_from_native) > 0.5
    opened = ndimage.binary_opening(reach & (b0 > 0.35))
    labels, count = ndimage.label(opened)
    if not count:
        return case.brain
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return np.asarray(ndimage.binary_fill_holes(ndimage.binary_closing(largest)))
