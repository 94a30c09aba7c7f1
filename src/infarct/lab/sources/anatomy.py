"""Whole-head maps of tissue classes on the MNI grid, the anatomies of the simulator.

There are two sources: FreeSurfer-like label maps of real heads, aligned to MNI space; and, if none
are available, the ICBM152 tissue maps bundled with nilearn, surrounded by a plausible skull, scalp
and eyes.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from infarct.core.diffusion import Mask
from infarct.core.geometry import MNI_GRID, Affine
from infarct.core.nifti import Volume
from infarct.core.resampling import resample
from infarct.lab.sources import templates
from infarct.lab.sources.tissue_classes import PARENCHYMA, RIM_SHIFT, ClassMap, Tissue

_FREESURFER: dict[Tissue, tuple[int, ...]] = {
    Tissue.CSF: (24,),
    Tissue.CORTEX: (3, 42, 17, 53, 18, 54),
    Tissue.WHITE: (2, 41, 25, 57, 85),
    Tissue.DEEP_GREY: (10, 11, 12, 13, 26, 28, 49, 50, 51, 52, 58, 60),
    Tissue.BRAINSTEM: (16,),
    Tissue.CEREBELLAR_WHITE: (7, 46),
    Tissue.CEREBELLAR_CORTEX: (8, 47),
    Tissue.VENTRICLE: (4, 5, 14, 15, 43, 44, 72),
    Tissue.CHOROID_PLEXUS: (136, 137, 163, 164),
    Tissue.VESSEL: (30, 62, 502, 514),
    Tissue.MUSCLE: (507, 508, 530),
    Tissue.SKIN: (511,),
    Tissue.BONE: (515,),
    Tissue.MARROW: (516,),
    Tissue.EYE: (506,),
    Tissue.MUCOSA: (509,),
    Tissue.CORD: (512,),
}


def from_freesurfer(labels: NDArray[np.integer]) -> ClassMap:
    """Map a FreeSurfer-like label map of a whole head to tissue classes."""
    table = np.zeros(1024, dtype=np.uint8)
    for tissue, numbers in _FREESURFER.items():
        table[list(numbers)] = tissue
    return np.asarray(table[labels])


def is_parenchyma(tissue: ClassMap) -> Mask:
    """Return the mask of brain parenchyma."""
    return (tissue >= PARENCHYMA[0]) & (tissue <= PARENCHYMA[1])


def with_rims(tissue: ClassMap) -> ClassMap:
    """Encode the distance to the adjacent tissue in each voxel's class, see `RIM_SHIFT`."""
    rim = np.zeros_like(tissue)
    parenchyma = is_parenchyma(tissue)
    fluid, ventricle = tissue == Tissue.CSF, tissue == Tissue.VENTRICLE
    cortex = (tissue == Tissue.CORTEX) | (tissue == Tissue.CEREBELLAR_CORTEX)
    rim[ndimage.binary_dilation(fluid) & (tissue == Tissue.CORTEX)] = 1
    for base, near, into, reach in (
        (1, ventricle, parenchyma, 3),
        (0, cortex, fluid, 2),
        (0, parenchyma, ventricle, 3),
    ):
        grown = near
        for distance in range(1, reach + 1):
            wider = ndimage.binary_dilation(grown)
            rim[wider & ~grown & into] = base + distance
            grown = wider
    return np.asarray(tissue + np.uint8(RIM_SHIFT) * rim)


def _mni_coordinates() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return x, y, z in mm, shaped to broadcast over the MNI grid."""
    x, y, z = (
        np.arange(n, dtype=np.float32) + np.float32(origin)
        for n, origin in zip(MNI_GRID.shape, MNI_GRID.affine[:3, 3], strict=True)
    )
    return x[:, None, None], y[None, :, None], z[None, None, :]


def from_icbm(icbm: templates.Tissue) -> ClassMap:
    """Create a whole head from the ICBM tissue maps.

    Deep grey matter, brainstem, cerebellum and ventricles are separated by position. Skull, scalp
    and eyes are modelled as shells and spheres around the brain.
    """
    x, y, z = _mni_coordinates()
    head = np.zeros(MNI_GRID.shape, dtype=np.uint8)
    depth = ndimage.distance_transform_edt(icbm.brain)
    tentorium = -12 - 0.12 * np.abs(x) + 0.2 * (y + 50)
    cerebellum = (y < -36) & (z < tentorium) & (np.abs(x) < 62)
    stem = (np.abs(x) < 18) & (y > -46) & (y < -12) & (z < -8 + 0.2 * (y + 12))
    deep = (np.abs(x) < 36) & (y > -36) & (y < 24) & (z > -14) & (z < 24) & (depth > 26)
    inner = (np.abs(x) < 36) & (y > -50) & (y < 38) & (z > -26) & (z < 34) & (depth > 22)

    white = icbm.white > np.maximum(icbm.grey, 0.35)
    grey = ~white & (icbm.grey > 0.35)
    head[icbm.brain] = Tissue.CSF
    head[icbm.brain & ~white & ~grey & inner] = Tissue.VENTRICLE
    head[grey] = Tissue.CORTEX
    head[white] = Tissue.WHITE
    head[grey & deep] = Tissue.DEEP_GREY
    head[grey & cerebellum] = Tissue.CEREBELLAR_CORTEX
    head[white & cerebellum] = Tissue.CEREBELLAR_WHITE
    head[(white | grey) & stem & ~cerebellum] = Tissue.BRAINSTEM
    shells = ((Tissue.CSF, 2.0), (Tissue.BONE, 8.0), (Tissue.MUSCLE, 10.0), (Tissue.SKIN, 14.0))
    away = ndimage.distance_transform_edt(~icbm.brain)
    for tissue, outer in reversed(shells):
        head[~icbm.brain & (away <= outer)] = tissue
    face = (np.abs(x) < 58) & (y > -55) & (y < 82) & (z < -18 - 0.25 * (y - 30)) & (away > 8)
    head[face & ((head == Tissue.AIR) | (head == Tissue.SKIN))] = Tissue.MUSCLE
    for side in (-1, 1):
        ball = (x - side * 32) ** 2 + (y - 62) ** 2 + (z + 38) ** 2
        head[(ball < 15**2) & (away > 2)] = Tissue.MUSCLE
        head[(ball < 12**2) & (away > 2)] = Tissue.EYE
    sinus = (np.abs(x) < 12) & (y > 20) & (y < 78) & (z < -36) & (away > 3)
    head[sinus] = Tissue.AIR
    return head


def align(tissue: ClassMap, affine: Affine, icbm: templates.Tissue) -> tuple[ClassMap, Affine]:
    """Align a head to the MNI grid.

    The transform is a full affine, so that lesions defined in MNI space match the anatomy. The
    residual pose after preprocessing (tilt, height) is drawn separately for each sample.

    Args:
        tissue: (X, Y, Z) classes on the head's own grid.
        affine: (4, 4) voxel -> world transform of that grid, mm.
        icbm: Tissue maps to align to.

    Returns:
        (192, 224, 192) classes on the MNI grid, and the estimated (4, 4) head_from_mni transform.
    """
    contrast = np.zeros(32, dtype=np.float32)
    contrast[[Tissue.CSF, Tissue.VENTRICLE, Tissue.CHOROID_PLEXUS]] = 0.15
    contrast[[Tissue.CORTEX, Tissue.DEEP_GREY, Tissue.CEREBELLAR_CORTEX]] = 0.6
    contrast[[Tissue.WHITE, Tissue.BRAINSTEM, Tissue.CEREBELLAR_WHITE]] = 1.0
    moving = Volume(contrast[tissue], affine)
    target = np.where(icbm.brain, 0.15 + 0.45 * icbm.grey + 0.85 * icbm.white, 0.0)
    found = _register(Volume(target.astype(np.float32), MNI_GRID.affine), moving)
    head = resample(Volume(tissue, affine), MNI_GRID, found, labels=True)
    return np.asarray(head, dtype=np.uint8), found


def _register(fixed: Volume, moving: Volume) -> Affine:
    """Estimate the affine moving_from_fixed (world mm) between two brains of similar contrast."""
    step = 2
    coarse_fixed, coarse_moving = (_to_sitk(v, step) for v in (fixed, moving))
    centres = [_centre(v) for v in (fixed, moving)]
    transform = sitk.AffineTransform(3)
    transform.SetCenter([float(c) for c in centres[0]])
    transform.SetTranslation([float(c) for c in centres[1] - centres[0]])
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(4.0, 1e-3, 300, 0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([6.0, 3.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(coarse_fixed, coarse_moving)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - matrix[:3, :3] @ centre
    return matrix


def _to_sitk(volume: Volume, step: int) -> sitk.Image:
    """Convert a volume to a SimpleITK image, subsampled by `step` voxels, in RAS coordinates.

    SimpleITK assumes LPS, but both images use the same convention here, so the result is the same.
    """
    image = sitk.GetImageFromArray(volume.data[::step, ::step, ::step].transpose(2, 1, 0))
    spacing = volume.grid.spacing
    image.SetSpacing([float(s) * step for s in spacing])
    image.SetOrigin([float(o) for o in volume.affine[:3, 3]])
    image.SetDirection([float(d) for d in (volume.affine[:3, :3] / spacing).ravel()])
    return image


def _centre(volume: Volume) -> NDArray[np.float64]:
    """Return the centre of mass of a volume in world mm."""
    voxel = np.array([*ndimage.center_of_mass(volume.data), 1.0])
    return np.asarray((volume.affine @ voxel)[:3])
