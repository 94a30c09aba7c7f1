"""Sample the 1 mm head with the slices of an acquisition, and resample to the MNI grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from infarct.core.geometry import MNI_GRID, Grid
from infarct.lab.simulation import separable_filters
from infarct.lab.simulation.scan_parameters import Acquisition
from infarct.lab.simulation.warp import SHAPE
from infarct.segmentation.measured_lattice import LEFTMOST_MM, lattice


def positions(acquisition: Acquisition) -> list[NDArray[np.float64]]:
    """Return the positions of pixels and slices along x, y and z, in voxels of the 1 mm lattice."""
    at: list[NDArray[np.float64]] = []
    for size, step in zip(SHAPE[:2], acquisition.in_plane_mm, strict=True):
        count = round(size / step)
        at.append((np.arange(float(count)) - (count - 1) / 2) * step + (size - 1) / 2)
    at.append(acquisition.first_mm + acquisition.spacing_mm * np.arange(float(acquisition.slices)))
    return at


def grid(acquisition: Acquisition) -> Grid:
    """Return the native grid. Its affine maps to MNI mm, as if the head were in MNI space."""
    at = positions(acquisition)
    affine = np.eye(4)
    affine[:3, :3] = np.diag([*acquisition.in_plane_mm, acquisition.spacing_mm])
    affine[:3, 3] = [p[0] for p in at] + MNI_GRID.affine[:3, 3]
    x, y, z = (len(p) for p in at)
    return Grid((x, y, z), affine)


@dataclass(frozen=True, eq=False)
class Optics:
    """Sampling matrices of one acquisition, one per axis.

    Attributes:
        see: (n, 192), (m, 224), (k, 192): point spread function and slice profile.
        back: (192, n), (224, m), (192, k): linear interpolation to the 1 mm lattice.
        onto_slices: (192, n), (224, m), None: linear interpolation to the measured-slice lattice.
    """

    see: tuple[NDArray[np.float64], ...]
    back: tuple[NDArray[np.float64], ...]
    onto_slices: tuple[NDArray[np.float64] | None, ...]


def optics(acquisition: Acquisition) -> Optics:
    """Compute the sampling matrices of an acquisition."""
    at = positions(acquisition)
    steps = (*acquisition.in_plane_mm, acquisition.spacing_mm)
    widths = [max(acquisition.psf * step, 0.5) for step in acquisition.in_plane_mm]
    widths.append(acquisition.thickness_mm)
    see = tuple(
        separable_filters.gaussian(n, p, w) for n, p, w in zip(SHAPE, at, widths, strict=True)
    )
    first = (0.0, 0.0, 0.0)
    back = _interpolation(at, steps, first)
    x, y, _ = _interpolation(at, steps, (LEFTMOST_MM - MNI_GRID.affine[0, 3], 0.0, 0.0))
    return Optics(see, back, (x, y, None))


def _interpolation(
    at: list[NDArray[np.float64]], steps: Sequence[float], first: Sequence[float]
) -> tuple[NDArray[np.float64], ...]:
    """Return interpolation matrices for 1 mm steps from `first` (lattice voxels), per axis."""
    return tuple(
        separable_filters.linear(len(p), (np.arange(n) + start - p[0]) / step)
        for n, p, step, start in zip(SHAPE, at, steps, first, strict=True)
    )


def see(volume: torch.Tensor, lens: Optics) -> torch.Tensor:
    """Apply point spread function and slice profile: (192, 224, 192) -> native (n, m, k)."""
    return separable_filters.apply(volume, lens.see)


def onto_slices(volume: torch.Tensor, lens: Optics) -> torch.Tensor:
    """Interpolate a native volume in-plane: (n, m, K) -> (192, 224, K)."""
    return separable_filters.apply(volume, lens.onto_slices)


def slice_lattice(acquisition: Acquisition) -> Grid:
    """Return the measured-slice lattice of an acquisition, see `measured_lattice.lattice`."""
    native = grid(acquisition)
    return lattice(native.affine, native.shape)


def bring_back(volume: torch.Tensor, lens: Optics) -> torch.Tensor:
    """Interpolate a native volume to the MNI grid, as preprocessing does; 0 outside the volume."""
    return separable_filters.apply(volume, lens.back)
