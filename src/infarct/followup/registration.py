"""Rigid registration of two scans of one patient, the same in both directions.

Each scan is registered to the other, and the two transforms are averaged on the group of rigid
transforms. Exchanging the scans therefore gives exactly the inverse, and neither is favoured. The
distance between the two results measures the error of the registration. Similarity is computed
halfway between the scans, so that both are interpolated to the same extent.

References:
    Reuter et al. 2010, NeuroImage 53, 1181 (inverse consistency, halfway space).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import linalg, ndimage

from infarct.core.diffusion import Image, Mask
from infarct.core.distances import distance_to
from infarct.core.errors import FollowUpError
from infarct.core.geometry import Affine, Grid
from infarct.core.nifti import Volume
from infarct.core.resampling import resample
from infarct.preprocessing.registration import (
    NEAR_MM,
    WHERE_MM,
    Levels,
    one_thread,
    refuse_shortage,
    to_itk,
)

_COARSE, _FINE = (4.0, 2.0, 200), (2.0, 1.0, 200)
"""Resolution in mm, first step of the optimiser in mm, and number of iterations."""

_SAMPLES = 150_000
"""Most voxels from which the mutual information is computed; limits the time for thin slices."""

_HALFWAY_MM = 2.0

_FLUID_ADC = 3e-3
"""mm^2/s; higher values are noise."""


@dataclass(frozen=True, eq=False)
class Scan:
    """What the registration needs of a scan; all on one grid.

    Attributes:
        b0: Signal without diffusion weighting.
        adc: mm^2/s.
        brain: Brain mask, bool.
        lesion: Lesion mask, bool; lesions change, so they are left out of the comparison.
        mni_from_native: (4, 4) scanner coordinates -> MNI mm, where the search starts.
    """

    b0: Volume
    adc: Volume
    brain: Mask
    lesion: Mask
    mni_from_native: Affine

    @property
    def centre(self) -> NDArray[np.float64]:
        """(3,) centre of the brain, scanner mm."""
        affine = self.b0.affine
        centre: NDArray[np.float64] = affine[:3, :3] @ ndimage.center_of_mass(self.brain)
        return centre + affine[:3, 3]


@dataclass(frozen=True, eq=False)
class Alignment:
    """Rigid registration of two scans.

    Attributes:
        second_from_first: (4, 4) scanner coordinates of the first scan -> of the second, mm.
        disagreement_mm: Mean distance of brain voxels between the two directions.
        overlap: Dice of the brain masks, on the part that both scans cover.
        similarity: Correlation of the ADC in the brain outside the lesions, halfway between the
            scans.
    """

    second_from_first: Affine
    disagreement_mm: float
    overlap: float
    similarity: float


def align(first: Scan, second: Scan) -> Alignment:
    """Register two scans.

    Args:
        first: A scan.
        second: Another one, of the same patient.

    Raises:
        FollowUpError: If the brains do not overlap at any starting position.
    """
    starts = _starts(first, second)
    forward = _best(first, second, starts)
    backward = _best(second, first, [np.linalg.inv(start) for start in starts])
    second_from_first = mean_rigid(forward, np.linalg.inv(backward))
    halfway = _Halfway(first, second, second_from_first)
    return Alignment(
        second_from_first,
        _distance_mm(forward, np.linalg.inv(backward), first),
        halfway.overlap(),
        halfway.similarity(),
    )


def mean_rigid(one: Affine, other: Affine) -> Affine:
    """Return the mean of two rigid transforms; the inverses have the inverse mean.

    Args:
        one: (4, 4) rotation and translation.
        other: (4, 4), the same space.
    """
    return np.asarray(one @ half(np.linalg.inv(one) @ other))


def half(transform: Affine) -> Affine:
    """Return the rigid transform that gives a (4, 4) rigid transform when applied twice."""
    return np.asarray(linalg.expm(0.5 * np.real(linalg.logm(transform))))


def nearest_rigid(affine: Affine, centre: NDArray[np.float64]) -> Affine:
    """Return the rigid transform closest to a (4, 4) affine that maps `centre` as it does.

    References:
        Arun et al. 1987, IEEE Trans Pattern Anal 9, 698 (nearest rotation).
    """
    u, _, vt = np.linalg.svd(affine[:3, :3])
    rigid = np.eye(4)
    rigid[:3, :3] = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    rigid[:3, 3] = affine[:3, :3] @ centre + affine[:3, 3] - rigid[:3, :3] @ centre
    return rigid


def _starts(first: Scan, second: Scan) -> list[Affine]:
    """Return two starts: through MNI space, and the position in the headers of one examination."""
    by_template = np.linalg.inv(second.mni_from_native) @ first.mni_from_native
    forward = nearest_rigid(by_template, first.centre)
    backward = nearest_rigid(np.linalg.inv(by_template), second.centre)
    return [mean_rigid(forward, np.linalg.inv(backward)), np.eye(4)]


def _best(fixed: Scan, moving: Scan, starts: list[Affine]) -> Affine:
    """Return the (4, 4) transform moving_from_fixed with the largest mutual information."""
    levels = _levels(fixed, moving)
    found = []
    with one_thread():
        for start in starts:
            try:
                found.append(_descend(levels, start, fixed.centre, _COARSE))
            except RuntimeError as error:
                refuse_shortage(error)  # otherwise the brains do not overlap at this start
        if not found:
            raise FollowUpError(
                "the brains do not overlap at any starting position; check that both are scans of "
                "the head of one patient"
            )
        coarse = min(found, key=lambda pair: pair[0])[1]
        return _descend(levels, coarse, fixed.centre, _FINE)[1]


def _levels(fixed: Scan, moving: Scan) -> Levels:
    apart, other = (
        distance_to(scan.brain, WHERE_MM, scan.b0.grid.spacing) for scan in (fixed, moving)
    )
    return Levels(
        to_itk(_stripped(fixed, apart), fixed.b0.affine),
        to_itk((apart <= WHERE_MM).astype(np.float32), fixed.b0.affine),
        to_itk(_stripped(moving, other), moving.b0.affine),
    )


def _stripped(scan: Scan, apart: NDArray[np.float64]) -> Image:
    ceiling = np.percentile(scan.b0.data[scan.brain], 99.5)
    stripped: Image = np.clip(scan.b0.data, 0, ceiling) * (apart <= NEAR_MM)
    return stripped


def _descend(
    levels: Levels, start: Affine, centre: NDArray[np.float64], stage: tuple[float, float, int]
) -> tuple[float, Affine]:
    """Optimise from one start; return the final metric (lower is better) and the transform."""
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(start[:3, :3].ravel().tolist(), 1e-6)
    transform.SetTranslation((start[:3, :3] @ centre + start[:3, 3] - centre).tolist())
    mm, step, iterations = stage
    method, fixed, moving = levels.at(mm)
    method.SetMetricSamplingStrategy(method.REGULAR)
    # Regular sampling is jittered at random; without a seed, no result could be reproduced.
    method.SetMetricSamplingPercentage(min(1.0, _SAMPLES / fixed.GetNumberOfPixels()), seed=1)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=step,
        minStep=0.01,
        numberOfIterations=iterations,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    return float(method.GetMetricValue()), matrix


def _distance_mm(one: Affine, other: Affine, scan: Scan) -> float:
    """Return the mean distance between the images of brain voxels under two transforms."""
    voxels = np.argwhere(scan.brain)[::29]
    points = voxels @ scan.b0.affine[:3, :3].T + scan.b0.affine[:3, 3]
    apart = points @ (one - other)[:3, :3].T + (one - other)[:3, 3]
    return float(np.linalg.norm(apart, axis=1).mean())


class _Halfway:
    """Both scans on one grid halfway between them."""

    def __init__(self, first: Scan, second: Scan, second_from_first: Affine) -> None:
        halfway_from_first = half(second_from_first)
        grid = _grid_around(first, halfway_from_first)
        first_from_halfway = np.linalg.inv(halfway_from_first)
        self._views = [
            _View(first, grid, first_from_halfway),
            _View(second, grid, second_from_first @ first_from_halfway),
        ]

    def overlap(self) -> float:
        """Return the Dice of the brain masks on the part that both scans cover."""
        covered = self._views[0].covered & self._views[1].covered
        one, other = (view.brain & covered for view in self._views)
        return float(2 * (one & other).sum() / max(1, one.sum() + other.sum()))

    def similarity(self) -> float:
        """Return the correlation of the ADC in both brains, outside the lesions; 0 if empty."""
        one, other = self._views
        where = one.brain & other.brain & ~one.lesion & ~other.lesion
        if where.sum() < 2:
            return 0.0
        return float(np.corrcoef(one.adc[where], other.adc[where])[0, 1])


class _View:
    """A scan on the halfway grid."""

    def __init__(self, scan: Scan, grid: Grid, native_from_halfway: Affine) -> None:
        def moved(data: NDArray[np.generic]) -> Image:
            return np.asarray(resample(scan.b0.like(data), grid, native_from_halfway))

        self.covered = moved(np.ones(scan.brain.shape, np.float32)) > 0.5
        self.brain = moved(scan.brain.astype(np.float32)) > 0.5
        self.lesion = moved(scan.lesion.astype(np.float32)) > 0
        self.adc = moved(np.clip(scan.adc.data, 0, _FLUID_ADC))


def _grid_around(scan: Scan, halfway_from_native: Affine) -> Grid:
    """Return an isotropic grid in halfway space that contains the brain of a scan."""
    at = np.argwhere(scan.brain)
    corners = np.array(np.meshgrid(*zip(at.min(axis=0), at.max(axis=0), strict=True)))
    halfway_from_voxel = halfway_from_native @ scan.b0.affine
    points = halfway_from_voxel[:3, :3] @ corners.reshape(3, -1) + halfway_from_voxel[:3, 3:]
    low, high = points.min(axis=1), points.max(axis=1)
    affine = np.diag([_HALFWAY_MM] * 3 + [1.0])
    affine[:3, 3] = low
    x, y, z = (np.ceil((high - low) / _HALFWAY_MM) + 1).astype(int).tolist()
    return Grid((x, y, z), affine)
