"""From a head at 1 mm to slices as a scanner takes them, and back onto the MNI grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from infarct.grid import MNI_GRID, Grid
from infarct.lab import separable
from infarct.lab.record import Acquisition
from infarct.lab.warp import SHAPE


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
    """

    see: tuple[NDArray[np.float64], ...]
    back: tuple[NDArray[np.float64], ...]


def optics(acquisition: Acquisition) -> Optics:
    """Make the matrices of an acquisition."""
    at = positions(acquisition)
    steps = (*acquisition.in_plane_mm, acquisition.spacing_mm)
    widths = [max(acquisition.psf * step, 0.5) for step in acquisition.in_plane_mm]
    widths.append(acquisition.thickness_mm)
    see = tuple(separable.gaussian(n, p, w) for n, p, w in zip(SHAPE, at, widths, strict=True))
    back = tuple(
        separable.linear(len(p), (np.arange(n) - p[0]) / step)
        for n, p, step in zip(SHAPE, at, steps, strict=True)
    )
    return Optics(see, back)


def see(volume: torch.Tensor, lens: Optics) -> torch.Tensor:
    """Take a 1 mm volume through point spread and slice profile: (192, 224, 192) -> native."""
    return separable.apply(volume, lens.see)


def bring_back(volume: torch.Tensor, lens: Optics) -> torch.Tensor:
    """Interpolate a native volume onto the MNI grid, as `prepare` does; 0 beyond its reach."""
    return separable.apply(volume, lens.back)
