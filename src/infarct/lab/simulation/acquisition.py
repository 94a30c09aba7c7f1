"""From a head at 1 mm to slices as a scanner takes them, and back onto the MNI grid."""

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
    """Return where the pixels and slices lie along x, y and z, in voxels of the 1 mm lattice."""
    at: list[NDArray[np.float64]] = []
    for size, step in zip(SHAPE[:2], acquisition.in_plane_mm, strict=True):
        count = round(size / step)
        at.append((np.arange(float(count)) - (count - 1) / 2) * step + (size - 1) / 2)
    at.append(acquisition.first_mm + acquisition.spacing_mm * np.arange(float(acquisition.slices)))
    return at


def grid(acquisition: Acquisition) -> Grid:
    """Return the grid of the slices; its affine leads to MNI mm, as if the head lay there."""
    at = positions(acquisition)
    affine = np.eye(4)
    affine[:3, :3] = np.diag([*acquisition.in_plane_mm, acquisition.spacing_mm])
    affine[:3, 3] = [p[0] for p in at] + MNI_GRID.affine[:3, 3]
    x, y, z = (len(p) for p in at)
    return Grid((x, y, z), affine)


@dataclass(frozen=True, eq=False)
class Optics:
    """The matrices of one acquisition, per axis.

    Attributes:
        see: (n, 192), (m, 224), (k, 192): point spread and slice profile.
        back: (192, n), (224, m), (192, k): linear interpolation back onto the lattice.
        onto_slices: (192, n), (224, m), None: the same onto the measured-slice lattice.
    """

    see: tuple[NDArray[np.float64], ...]
    back: tuple[NDArray[np.float64], ...]
    onto_slices: tuple[NDArray[np.float64] | None, ...]


def optics(acquisition: Acquisition) -> Optics:
    """Make the matrices of an acquisition."""
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
    """Interpolate at voxels 1 mm apart from `first` (voxels of the 1 mm lattice) on, per axis."""
    return tuple(
        separable_filters.linear(len(p), (np.arange(n) + start - p[0]) / step)
        for n, p, step, start in zip(SHAPE, at, steps, first, strict=True)
    )


def see(volume: torch.Tensor, lens: Optics) -> torch.Tensor:
    """Take a 1 mm volume through point spread and slice profile: (192, 224, 192) -> native."""
    return separable_filters.apply(volume, lens.see)


def onto_slices(volume: torch.Tensor, lens: Optics) -> torch.Tensor:
    """Interpolate a native volume within its slices: (n, m, K) -> (192, 224, K)."""
    return separable_filters.apply(volume, lens.onto_slices)


def slice_lattice(acquisition: Acquisition) -> Grid:
    """Return the measured-slice lattice of an acquisition, see `measured_lattice.lattice`."""
    native = grid(acquisition)
    return lattice(native.affine, native.shape)


def bring_back(volume: torch.Tensor, lens: Optics) -> torch.Tensor:
    """Interpolate a native volume onto the MNI grid, as `prepare` does; 0 beyond its reach."""
    return separable_filters.apply(volume, lens.back)
