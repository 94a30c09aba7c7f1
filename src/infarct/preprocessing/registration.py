"""b0 -> template: translation, and scaling and rotation in the plane. Slices stay slices.

Clinical slices are thick. A rotation that tilts them would mix what was measured centimetres apart
and smear the outlines drawn on them, so none is allowed. Looking up where a voxel lies in an atlas
smears nothing: for that alone, `refine` lets the head tilt, stretch and shear.

References:
    Liu et al. 2021, Methods, "IP-MNI and IP-MNI DS space".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from infarct.core.diffusion import Image, Mask
from infarct.core.errors import MemoryShortageError, RegistrationError, is_shortage
from infarct.core.geometry import Affine
from infarct.core.nifti import Volume, closest_axes

# ITK prints its warnings to stderr from C++; whatever matters is raised or checked here.
sitk.ProcessObject.SetGlobalWarningDisplay(False)

_FREE = (0, 0, 1, 1, 1, 1, 1, 1, 0)
"""Which of ScaleVersor3D's parameters may move: not the tilts (versor x, y), not the z scale."""

_NEAR_MM, _WHERE_MM = 4.0, 8.0
"""Distance from the brain up to which the b0 is kept, and up to which the images are compared."""

_SEARCH_MM = range(-60, 61, 4)

_TURNED_DEG = (-40, -20, 20, 40)
"""Where else a search starts from: it finds its way over some ten degrees, and heads lie turned."""


@dataclass(frozen=True)
class InPlane:
    """The transform slices survive: template = R_z(rotation) diag(sx, sy, 1) native + t.

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
    """How a scan lies on the template.

    Attributes:
        in_plane: The six parameters found.
        mni_from_voxel: (4, 4) voxel of the scan -> MNI mm.
        mni_from_native: (4, 4) scanner world RAS+ -> MNI mm.
        mutual_information: Reached at the end, nats; larger is better.
    """

    in_plane: InPlane
    mni_from_voxel: Affine
    mni_from_native: Affine
    mutual_information: float


def register(b0: Volume, brain: Mask, template: Volume, template_brain: Mask) -> Registration:
    """Find the in-plane transform that brings a b0 onto the b0 template.

    The scan is the fixed image: a slab of a few slices always lies within the template, while most
    of the template may lie outside the slab. A search along z comes first, because the header of a
    slab does not say which part of the head it shows, and then one for heads that lie turned.

    Args:
        b0: The scan.
        brain: (X, Y, Z) on the scan's grid.
        template: b0 of an average brain, on the MNI grid or a coarser one.
        template_brain: Brain on the template's grid.

    Raises:
        RegistrationError: If no position gives a finite mutual information.

    References:
        Mattes et al. 2003 (mutual information); SimpleITK `ScaleVersor3DTransform`.
    """
    plane_from_voxel = _plane_from_voxel(b0)
    spacing = b0.grid.spacing
    # A distance map dilates by any ball at once, ten times faster than the ball itself.
    apart = ndimage.distance_transform_edt(~brain, sampling=spacing)
    near, where = apart <= _NEAR_MM, apart <= _WHERE_MM
    ceiling = np.percentile(b0.data[brain], 99.5)
    fixed = _to_itk(np.clip(b0.data, 0, ceiling) * near, plane_from_voxel)
    levels = _Levels(
        fixed,
        _to_itk(where.astype(np.float32), plane_from_voxel),
        _to_itk(template.data, template.affine),
    )
    centre = _centre(brain, plane_from_voxel)
    onto = _centre(template_brain, template.affine) - centre
    with _one_thread():
        starts = _search(levels, centre, onto)
        found = [_refine(levels, start) for start in starts]
    value, transform = min(found, key=lambda pair: pair[0])
    in_plane = _to_in_plane(transform)
    mni_from_voxel = in_plane.matrix @ plane_from_voxel
    return Registration(
        in_plane, mni_from_voxel, mni_from_voxel @ np.linalg.inv(b0.affine), -float(value)
    )


def _plane_from_voxel(volume: Volume) -> Affine:
    """Place voxels by their closest anatomical axes, slices horizontal, centre at 0, mm.

    The obliquity of the header is left out on purpose: technicians tilt slices to the anatomy, so
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


def _refuse_shortage(error: RuntimeError) -> None:
    """Raise `MemoryShortageError` where ITK ran out of memory: that says nothing about the scan."""
    if is_shortage(error):
        raise MemoryShortageError from error


def _to_itk(data: Image, affine: Affine) -> sitk.Image:
    """Hand an image to SimpleITK; coordinates stay RAS+ on both sides, ITK does not mind."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.astype(np.float32).transpose(2, 1, 0)))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep ITK to one thread: sums in another order would change the last bits between runs."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


@dataclass(frozen=True, eq=False)
class Refinement:
    """How a scan lies on the template for looking up anatomy, never for resampling images.

    Attributes:
        mni_from_native: (4, 4) scanner world RAS+ -> MNI mm; the in-plane one if none was better.
        affine: Whether the affine was taken.
        moved_mm: Mean distance it moves the brain from where the in-plane transform puts it.
        reason: Why it was not taken; empty if it was.
    """

    mni_from_native: Affine
    affine: bool
    moved_mm: float
    reason: str


_LEAST_EXTENT_MM = 80.0
"""Of the brain along z; a slab does not say how tall the head is."""

_FARTHEST_MM, _STRETCH = 12.0, (0.8, 1.25)
"""What an affine may add to the in-plane transform and still be the difference of two heads."""


def refine(b0: Volume, brain: Mask, template: Volume, found: Registration) -> Refinement:
    """Let a registration tilt, stretch and shear (12 parameters), if that fits better.

    Args:
        b0: The scan.
        brain: (X, Y, Z) on the scan's grid.
        template: b0 of an average brain.
        found: The in-plane registration to start from.
    """
    voxels = np.argwhere(brain)[::29]
    placed = voxels @ found.mni_from_voxel[:3, :3].T + found.mni_from_voxel[:3, 3]

    def kept(reason: str, moved: float = 0.0) -> Refinement:
        return Refinement(found.mni_from_native, False, moved, reason)

    if np.ptp(placed[:, 2]) < _LEAST_EXTENT_MM:
        return kept(f"the brain on the scan is only {np.ptp(placed[:, 2]):.0f} mm tall")
    spacing = b0.grid.spacing
    apart = ndimage.distance_transform_edt(~brain, sampling=spacing)
    ceiling = np.percentile(b0.data[brain], 99.5)
    levels = _Levels(
        _to_itk(np.clip(b0.data, 0, ceiling) * (apart <= _NEAR_MM), found.mni_from_voxel),
        _to_itk((apart <= _WHERE_MM).astype(np.float32), found.mni_from_voxel),
        _to_itk(template.data, template.affine),
    )
    transform = sitk.AffineTransform(3)
    transform.SetCenter(placed.mean(axis=0).tolist())
    with _one_thread():
        try:
            before, after = _descend(levels, transform)
        except RuntimeError as error:
            _refuse_shortage(error)
            return kept(f"mutual information could not be maximised ({error})")
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - matrix[:3, :3] @ centre
    shifts = placed @ matrix[:3, :3].T + matrix[:3, 3] - placed
    moved = float(np.linalg.norm(shifts, axis=1).mean())
    stretch = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    if after >= before:
        return kept("it fitted no better", moved)
    if moved > _FARTHEST_MM or stretch.min() < _STRETCH[0] or stretch.max() > _STRETCH[1]:
        text = f"it moved the brain by {moved:.0f} mm and stretched it by {stretch.max():.2f}"
        return kept(f"{text} (shrank by {stretch.min():.2f})", moved)
    return Refinement(matrix @ found.mni_from_native, True, moved, "")


def _descend(levels: _Levels, transform: sitk.AffineTransform) -> tuple[float, float]:
    """Optimise in place; return the metric before and after at the finer level, less is better."""
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
class _Levels:
    """The images at any resolution."""

    fixed: sitk.Image
    where: sitk.Image
    moving: sitk.Image

    def at(self, mm: float) -> tuple[sitk.ImageRegistrationMethod, sitk.Image, sitk.Image]:
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
    levels: _Levels, centre: NDArray[np.float64], onto: NDArray[np.float64]
) -> list[sitk.ScaleVersor3DTransform]:
    """Return where to start: the best shift along z, and the runner-up if it is another place.

    Where the head fits better turned, it starts turned as well.
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
            _refuse_shortage(error)
            return math.inf  # every sample fell outside the template

    scored = sorted((misfit(dz), dz) for dz in _SEARCH_MM)
    scored = [pair for pair in scored if pair[0] < math.inf]
    if not scored:
        raise RegistrationError(
            "the brain on the b0 does not overlap the template anywhere; "
            "look at the images: is this an axial scan of a head, and is the b0 the right file?"
        )
    best = scored[0][1]
    others = [dz for _, dz in scored[1:4] if abs(dz - best) > 8]
    places = [best, *others[:1]]
    turned = min((misfit(dz, deg), dz, deg) for dz in places for deg in _TURNED_DEG)
    starts = [start(dz) for dz in places]
    return [*starts, start(*turned[1:])] if turned[0] < scored[0][0] else starts


def _refine(
    levels: _Levels, transform: sitk.ScaleVersor3DTransform
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
            _refuse_shortage(error)
            raise RegistrationError(
                f"mutual information could not be maximised: {error}"
            ) from error
        value = method.GetMetricValue()
    return value, transform


def _to_in_plane(transform: sitk.ScaleVersor3DTransform) -> InPlane:
    """Read the six parameters off; ITK adds scale and rotation, so the product is the nearest."""
    matrix = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    rotation = math.atan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1])
    sx, sy = np.linalg.norm(matrix[:2, :2], axis=0)
    pure = InPlane((0.0, 0.0, 0.0), (float(sx), float(sy)), rotation).matrix[:3, :3]
    # The centre of the brain goes where ITK put it.
    tx, ty, tz = np.array(transform.GetTranslation()) + centre - pure @ centre
    return InPlane((float(tx), float(ty), float(tz)), (float(sx), float(sy)), rotation)
