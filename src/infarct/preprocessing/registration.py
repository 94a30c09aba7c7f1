"""Registration of a b0 to the template: translation, plus in-plane scaling and rotation.

Clinical slices are thick. Tilting them would interpolate between slices that are far apart and blur
lesion masks drawn on them, so the transform keeps slices intact. An atlas lookup interpolates
nothing; only for this purpose, `refine` estimates a full affine transform.

References:
    Liu et al. 2021, Methods, "IP-MNI and IP-MNI DS space".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from infarct.core.diffusion import Image, Mask
from infarct.core.distances import distance_to
from infarct.core.errors import MemoryShortageError, RegistrationError, is_shortage
from infarct.core.geometry import Affine
from infarct.core.nifti import Volume, closest_axes

# ITK prints warnings to stderr from C++; relevant problems are raised or checked here.
sitk.ProcessObject.SetGlobalWarningDisplay(False)

_FREE = (0, 0, 1, 1, 1, 1, 1, 1, 0)
"""Free parameters of ScaleVersor3D: all but the tilts (versor x, y) and the z scale."""

NEAR_MM, WHERE_MM = 4.0, 8.0
"""Distance from the brain within which the b0 is kept, and within which images are compared."""

_SEARCH_MM = range(-60, 61, 4)

_TURNED_DEG = (-40, -20, 20, 40)
"""Additional start angles, for rotated heads: the optimiser recovers only about ten degrees."""


@dataclass(frozen=True)
class InPlane:
    """A transform that keeps slices intact: template = R_z(rotation) diag(sx, sy, 1) native + t.

    Attributes:
        translation: (tx, ty, tz), mm.
        scale: (sx, sy).
        rotation: About z, radians, positive from x (right) to y (anterior).
    """

    translation: tuple[float, float, float]
    scale: tuple[float, float]
    rotation: float

    @property
    def matrix(self) -> Affine:
        """(4, 4) native plane -> MNI, mm."""
        cos, sin = math.cos(self.rotation), math.sin(self.rotation)
        sx, sy = self.scale
        matrix = np.eye(4)
        matrix[:2, :2] = [[cos * sx, -sin * sy], [sin * sx, cos * sy]]
        matrix[:3, 3] = self.translation
        return matrix


@dataclass(frozen=True, eq=False)
class Registration:
    """Registration of a scan to the template.

    Attributes:
        in_plane: The six estimated parameters.
        mni_from_voxel: (4, 4) voxel of the scan -> MNI mm.
        mni_from_native: (4, 4) scanner world RAS+ -> MNI mm.
        mutual_information: Final mutual information, nats; larger is better.
    """

    in_plane: InPlane
    mni_from_voxel: Affine
    mni_from_native: Affine
    mutual_information: float


def register(b0: Volume, brain: Mask, template: Volume, template_brain: Mask) -> Registration:
    """Estimate the in-plane transform from a b0 to the b0 template.

    The scan is the fixed image: a slab of a few slices always lies within the template, while most
    of the template may lie outside the slab. The optimisation starts from a search along z, because
    the header of a slab does not say which part of the head it shows, and from several rotations.

    Args:
        b0: b0 of the scan.
        brain: (X, Y, Z) brain mask on the grid of the scan.
        template: Average b0, on the MNI grid or a coarser one.
        template_brain: Brain mask on the grid of the template.

    Returns:
        The registration with the largest mutual information.

    Raises:
        RegistrationError: If no position gives a finite mutual information.

    References:
        Mattes et al. 2003 (mutual information); SimpleITK `ScaleVersor3DTransform`.
    """
    plane_from_voxel = _plane_from_voxel(b0)
    # Thresholding a distance map is ten times faster than a dilation with a large ball.
    apart = distance_to(brain, WHERE_MM, b0.grid.spacing)
    near, where = apart <= NEAR_MM, apart <= WHERE_MM
    ceiling = np.percentile(b0.data[brain], 99.5)
    fixed = to_itk(np.clip(b0.data, 0, ceiling) * near, plane_from_voxel)
    levels = Levels(
        fixed,
        to_itk(where.astype(np.float32), plane_from_voxel),
        to_itk(template.data, template.affine),
    )
    centre = _centre(brain, plane_from_voxel)
    onto = _centre(template_brain, template.affine) - centre
    with one_thread():
        starts = _search(levels, centre, onto)
        # ITK releases the interpreter lock, so that the starts use several cores.
        with ThreadPoolExecutor(len(starts)) as pool:
            found = list(pool.map(partial(_refine, levels), starts))
    value, transform = min(found, key=lambda pair: pair[0])
    in_plane = _to_in_plane(transform)
    mni_from_voxel = in_plane.matrix @ plane_from_voxel
    return Registration(
        in_plane, mni_from_voxel, mni_from_voxel @ np.linalg.inv(b0.affine), -float(value)
    )


def _plane_from_voxel(volume: Volume) -> Affine:
    """Return an affine with the closest anatomical axes, horizontal slices and centre 0, mm.

    The obliquity in the header is ignored on purpose: slices are tilted to follow the anatomy, so
    an oblique slice is closer to an MNI slice than a horizontal one.
    """
    plane = np.eye(4)
    plane[:3, :3] = closest_axes(volume.affine) * volume.grid.spacing
    middle = (np.array(volume.data.shape) - 1) / 2
    plane[:3, 3] = -plane[:3, :3] @ middle
    return plane


def _centre(mask: Mask, affine: Affine) -> NDArray[np.float64]:
    centre: NDArray[np.float64] = affine[:3, :3] @ ndimage.center_of_mass(mask) + affine[:3, 3]
    return centre


def refuse_shortage(error: RuntimeError) -> None:
    """Raise `MemoryShortageError` if ITK ran out of memory; the scan is not the cause."""
    if is_shortage(error):
        raise MemoryShortageError from error


def to_itk(data: Image, affine: Affine) -> sitk.Image:
    """Convert an image for SimpleITK; coordinates stay RAS+, for both images of a registration."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.astype(np.float32).transpose(2, 1, 0)))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


@contextmanager
def one_thread() -> Iterator[None]:
    """Restrict ITK to one thread, so that results are reproducible bit by bit."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


@dataclass(frozen=True, eq=False)
class Refinement:
    """Affine registration of a scan for atlas lookup; never used to resample images.

    Attributes:
        mni_from_native: (4, 4) scanner world RAS+ -> MNI mm; the in-plane transform if the affine
            was rejected.
        affine: Whether the affine was accepted.
        moved_mm: Mean distance that the affine moves brain voxels from their in-plane position, mm.
        reason: Why the affine was rejected; empty if it was accepted.
    """

    mni_from_native: Affine
    affine: bool
    moved_mm: float
    reason: str


_LEAST_EXTENT_MM = 80.0
"""Smallest extent of the brain along z; a slab does not determine the height of the head."""

_FARTHEST_MM, _STRETCH = 12.0, (0.8, 1.25)
"""Largest mean shift and range of scaling, relative to the in-plane transform, that differences
between heads can explain."""


def refine(b0: Volume, brain: Mask, template: Volume, found: Registration) -> Refinement:
    """Refine a registration to a full affine (12 parameters), if that improves the fit.

    Args:
        b0: b0 of the scan.
        brain: (X, Y, Z) brain mask on the grid of the scan.
        template: Average b0.
        found: In-plane registration to start from.
    """
    voxels = np.argwhere(brain)[::29]
    placed = voxels @ found.mni_from_voxel[:3, :3].T + found.mni_from_voxel[:3, 3]

    def kept(reason: str, moved: float = 0.0) -> Refinement:
        return Refinement(found.mni_from_native, False, moved, reason)

    if np.ptp(placed[:, 2]) < _LEAST_EXTENT_MM:
        return kept(f"the scan covers only {np.ptp(placed[:, 2]):.0f} mm of the brain along z")
    apart = distance_to(brain, WHERE_MM, b0.grid.spacing)
    ceiling = np.percentile(b0.data[brain], 99.5)
    levels = Levels(
        to_itk(np.clip(b0.data, 0, ceiling) * (apart <= NEAR_MM), found.mni_from_voxel),
        to_itk((apart <= WHERE_MM).astype(np.float32), found.mni_from_voxel),
        to_itk(template.data, template.affine),
    )
    transform = sitk.AffineTransform(3)
    transform.SetCenter(placed.mean(axis=0).tolist())
    with one_thread():
        try:
            before, after = _descend(levels, transform)
        except RuntimeError as error:
            refuse_shortage(error)
            return kept(f"the optimisation of mutual information failed ({error})")
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - matrix[:3, :3] @ centre
    shifts = placed @ matrix[:3, :3].T + matrix[:3, 3] - placed
    moved = float(np.linalg.norm(shifts, axis=1).mean())
    stretch = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    if after >= before:
        return kept("it did not improve the fit", moved)
    if moved > _FARTHEST_MM or stretch.min() < _STRETCH[0] or stretch.max() > _STRETCH[1]:
        scaling = f"{stretch.min():.2f} to {stretch.max():.2f}"
        return kept(f"it moved the brain by {moved:.0f} mm and scaled it by {scaling}", moved)
    return Refinement(matrix @ found.mni_from_native, True, moved, "")


def _descend(levels: Levels, transform: sitk.AffineTransform) -> tuple[float, float]:
    """Optimise in place; return the finest-level metric before and after, lower is better."""
    finest = 2.0
    method, fixed, moving = levels.at(finest)
    method.SetInitialTransform(transform, inPlace=True)
    before = method.MetricEvaluate(fixed, moving)
    for mm, step, iterations in ((4.0, 1.0, 60), (finest, 0.3, 15)):
        method, fixed, moving = levels.at(mm)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=step, minStep=0.02, numberOfIterations=iterations
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(transform, inPlace=True)
        method.Execute(fixed, moving)
    return before, method.GetMetricValue()


@dataclass(frozen=True)
class Levels:
    """The images of a registration at any resolution."""

    fixed: sitk.Image
    where: sitk.Image
    moving: sitk.Image

    def at(self, mm: float) -> tuple[sitk.ImageRegistrationMethod, sitk.Image, sitk.Image]:
        """Return the method with its metric, and the fixed and moving image at a resolution."""
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(32)
        method.SetInterpolator(sitk.sitkLinear)
        where = sitk.Cast(_shrink(self.where, mm) > 0.5, sitk.sitkUInt8)
        method.SetMetricFixedMask(where)
        return method, _shrink(self.fixed, mm), _shrink(self.moving, mm)


def _shrink(image: sitk.Image, mm: float) -> Any:
    factors = [max(1, round(mm / step)) for step in image.GetSpacing()]
    return sitk.BinShrink(image, factors)


def _search(
    levels: Levels, centre: NDArray[np.float64], onto: NDArray[np.float64]
) -> list[sitk.ScaleVersor3DTransform]:
    """Return start transforms: the best shift along z, and the second best if it is far away.

    A rotated start is added if it fits better than all unrotated ones.
    """
    method, fixed, moving = levels.at(6.0)

    def start(dz: int, turned_deg: int = 0) -> sitk.ScaleVersor3DTransform:
        transform = sitk.ScaleVersor3DTransform()
        transform.SetCenter(centre.tolist())
        transform.SetTranslation((onto + np.array([0, 0, dz])).tolist())
        transform.SetRotation((0.0, 0.0, 1.0), math.radians(turned_deg))
        return transform

    def misfit(dz: int, turned_deg: int = 0) -> float:
        method.SetInitialTransform(start(dz, turned_deg), inPlace=True)
        try:
            return float(method.MetricEvaluate(fixed, moving))
        except RuntimeError as error:
            refuse_shortage(error)
            return math.inf  # every sample fell outside the template

    scored = sorted((misfit(dz), dz) for dz in _SEARCH_MM)
    scored = [pair for pair in scored if pair[0] < math.inf]
    if not scored:
        raise RegistrationError(
            "the brain on the b0 does not overlap the template at any position; check that this is "
            "an axial scan of a head and that --b0 is the correct file"
        )
    best = scored[0][1]
    others = [dz for _, dz in scored[1:4] if abs(dz - best) > 8]
    places = [best, *others[:1]]
    turned = min((misfit(dz, deg), dz, deg) for dz in places for deg in _TURNED_DEG)
    starts = [start(dz) for dz in places]
    return [*starts, start(*turned[1:])] if turned[0] < scored[0][0] else starts


def _refine(
    levels: Levels, transform: sitk.ScaleVersor3DTransform
) -> tuple[float, sitk.ScaleVersor3DTransform]:
    value = math.inf
    for mm, step, iterations in ((4.0, 2.0, 60), (2.0, 0.5, 15)):
        method, fixed, moving = levels.at(mm)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=step, minStep=0.05, numberOfIterations=iterations
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetOptimizerWeights(_FREE)
        method.SetInitialTransform(transform, inPlace=True)
        try:
            method.Execute(fixed, moving)
        except RuntimeError as error:
            refuse_shortage(error)
            raise RegistrationError(
                f"the registration failed ({error}); check the images and the brain mask"
            ) from error
        value = method.GetMetricValue()
    return value, transform


def _to_in_plane(transform: sitk.ScaleVersor3DTransform) -> InPlane:
    """Return the six parameters; ITK adds scale and rotation, so this is the nearest product."""
    matrix = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    rotation = math.atan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1])
    sx, sy = np.linalg.norm(matrix[:2, :2], axis=0)
    pure = InPlane((0.0, 0.0, 0.0), (float(sx), float(sy)), rotation).matrix[:3, :3]
    # The centre of the brain is mapped as by ITK.
    tx, ty, tz = np.array(transform.GetTranslation()) + centre - pure @ centre
    return InPlane((float(tx), float(ty), float(tz)), (float(sx), float(sy)), rotation)
