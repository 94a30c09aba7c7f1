"""Spatial transforms of the head: pose, elastic deformation and echo-planar distortion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from infarct.core.geometry import MNI_GRID, Affine
from infarct.lab.simulation import random_fields
from infarct.lab.simulation.scan_parameters import Artefacts, Bump, Pose, Triple

SHAPE = MNI_GRID.shape
"""Shape of the simulation lattice: the MNI grid, 1 mm."""

CENTRE_MM = (0.0, -18.0, 10.0)
"""Centre of rotation and scaling of heads, MNI."""

Box = tuple[slice, slice, slice]
WHOLE: Box = (slice(None), slice(None), slice(None))


@dataclass(frozen=True, eq=False)
class Warp:
    """Mapping of lattice voxels to the anatomy.

    Attributes:
        source: x, y and z, each (192, 224, 192): anatomy voxel shown at each lattice voxel.
        target_from_source: (4, 4) anatomy voxel -> lattice voxel, without the elastic part.
        gain: (192, 224, 192) signal change due to compression or stretching; 1 is unchanged.
    """

    source: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    target_from_source: Affine
    gain: torch.Tensor


def voxel(mm: Triple) -> NDArray[np.float64]:
    """Convert a point from MNI mm to lattice voxels, (3,)."""
    return np.asarray(mm) - MNI_GRID.affine[:3, 3]


def moved(mm: Triple, target_from_source: Affine) -> NDArray[np.float64]:
    """Transform a point of the anatomy (MNI mm) to lattice voxels, (3,)."""
    return np.asarray(target_from_source[:3, :3] @ voxel(mm) + target_from_source[:3, 3])


def target_from_source(pose: Pose) -> Affine:
    """Return the (4, 4) transform anatomy voxel -> lattice voxel of a pose."""
    x, y, z = np.deg2rad(pose.rotation_deg)
    nod = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    tilt = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    turn = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    mirror = np.diag([-1.0 if pose.mirrored else 1.0, 1.0, 1.0])
    matrix = turn @ tilt @ nod @ np.diag(pose.scale) @ mirror
    affine = np.eye(4)
    affine[:3, :3] = matrix
    centre = voxel(CENTRE_MM)
    affine[:3, 3] = centre + pose.shift_mm - matrix @ centre
    return affine


def hills(
    bumps: Sequence[Bump],
    target_from_source: Affine,
    device: torch.device | str,
    at: Sequence[NDArray[np.float64]] | None = None,
) -> torch.Tensor:
    """Evaluate a sum of Gaussian bumps.

    Args:
        bumps: Bumps in the anatomy, before the pose is applied.
        target_from_source: (4, 4) transform of the pose.
        device: Torch device.
        at: Positions along x, y and z, lattice voxels; all voxels if None.

    Returns:
        One value per grid point, (192, 224, 192) by default; zeros if there are no bumps.
    """
    at = at if at is not None else [np.arange(float(n)) for n in SHAPE]
    axes = []
    for axis, points in enumerate(at):
        top = np.array([moved(b.centre_mm, target_from_source)[axis] for b in bumps])
        width = np.array([b.size_mm[axis] for b in bumps])
        apart = (points[:, None] - top[None, :]) / width[None, :]
        axes.append(torch.from_numpy(np.exp(-0.5 * apart**2)).float().to(device))
    x, y, z = axes
    height = torch.tensor([b.height for b in bumps], dtype=torch.float32, device=device)
    plane = (x * height)[:, None, :] * y[None, :, :]
    return plane @ z.T


def make(pose: Pose, artefacts: Artefacts, seed: int, device: torch.device | str) -> Warp:
    """Compute the warp of a head.

    Echo-planar imaging displaces the signal along A-P, the phase-encoding axis. The distortion is
    inverted first, then the pose.

    Args:
        pose: Pose of the head.
        artefacts: Artefacts, including the distortion.
        seed: Seed of the scan.
        device: Torch device.
    """
    forward = target_from_source(pose)
    back = np.linalg.inv(forward)
    x, y, z = (torch.arange(n, dtype=torch.float32, device=device) for n in SHAPE)
    shift = hills(artefacts.susceptibility, forward, device)
    shift += artefacts.distortion_mm * random_fields.smooth(SHAPE, 40.0, seed, "distortion", device)
    gain = torch.ones_like(shift)
    gain[:, 1:-1] += (shift[:, 2:] - shift[:, :-2]) / 2
    y_true = shift.add_(y[None, :, None])
    source = []
    for axis, row in enumerate(back[:3]):
        plane = float(row[0]) * x[:, None] + float(row[2]) * z[None, :] + float(row[3])
        at = random_fields.smooth(SHAPE, pose.elastic_distance_mm, seed, f"elastic {axis}", device)
        at *= pose.elastic_mm
        at += plane[:, None, :]
        at.add_(y_true, alpha=float(row[1]))
        source.append(at)
    sx, sy, sz = source
    return Warp((sx, sy, sz), forward, gain.clamp_(0.3, 3.0))


def nearest(volume: torch.Tensor, warp: Warp) -> torch.Tensor:
    """Sample a (192, 224, 192) volume of any type with nearest-neighbour interpolation."""
    index = torch.zeros(SHAPE, dtype=torch.int32, device=volume.device)
    for at, size in zip(warp.source, SHAPE, strict=True):
        index *= size
        index += at.round().clamp_(0, size - 1).int()
    return volume.flatten().index_select(0, index.flatten()).reshape(SHAPE)


def interpolate(
    volumes: torch.Tensor, warp: Warp, volume_from_anatomy: Affine, box: Box = WHOLE
) -> torch.Tensor:
    """Sample volumes with linear interpolation; 0 outside.

    Args:
        volumes: (C, X, Y, Z) on any grid.
        warp: Warp of the head.
        volume_from_anatomy: (4, 4) anatomy voxel -> voxel of `volumes`.
        box: Part of the lattice to sample.

    Returns:
        (C, x, y, z), the size of the box.
    """
    source = [at[box] for at in warp.source]
    where = []
    for row, size in zip(volume_from_anatomy[:3], volumes.shape[1:], strict=True):
        at = torch.full_like(source[0], float(row[3]))
        for factor, coordinate in zip(row[:3], source, strict=True):
            at.add_(coordinate, alpha=float(factor))
        where.append(at.mul_(2.0 / (size - 1)).sub_(1.0))
    grid = torch.stack(where[::-1], dim=-1)[None]
    sampled = functional.grid_sample(volumes[None], grid, align_corners=True, padding_mode="zeros")
    return sampled[0]
