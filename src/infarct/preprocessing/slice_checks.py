"""Checks for empty, repeated and disordered slices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infarct.core.diffusion import Image, Mask
from infarct.core.errors import ContentError
from infarct.core.findings import Finding, FindingCode
from infarct.core.nifti import Volume

_MOST_PIXELS = 64
"""Pixels along each side of a slice for the comparison of slices."""

_FEWEST_SLICES = 8

_CLOSER, _MOST_ASTRAY = 0.03, 1 / 3
"""Difference of correlations from which a slice resembles a distant slice more than its neighbours,
and the largest share of such slices. On 23 images of 13 scans at most 0.16; 0.47 or more after
their slices were stored in interleaved or random order."""

_MOST_REPEATED = 1 / 3
"""Share of repeated slices above which the image was resampled to thinner slices."""

_LEAST_PIXELS = 100
"""Smaller slices, such as the last one of a skull-stripped brain, may be equal by chance."""


def check_slices(name: str, image: Volume) -> list[Finding]:
    """Check that no slice is empty or stored twice, and that the slices are in order.

    Args:
        name: `DWI` or `b0`.
        image: (X, Y, Z) as read, before any value is replaced.

    Returns:
        Warnings about empty and repeated slices.

    Raises:
        ContentError: If the slices are not in anatomical order.
    """
    slices = np.moveaxis(image.data, image.slice_axis, 0)
    shown = slices_with_values(image.data, image.slice_axis)
    _refuse_disorder(name, slices[shown])
    findings = []
    if empty := _numbers(empty_between(shown)):
        text = (
            f"{name}: {len(empty)} slices between slices with signal are empty (slice "
            f"{', '.join(map(str, empty))}); the volume is a lower bound: export the image again"
        )
        findings.append(Finding(FindingCode.EMPTY_SLICES, "warning", text))
    if repeated := _repeated(slices):
        text = (
            f"{name}: {len(repeated)} slices are copies of the slice before (slice "
            f"{', '.join(map(str, repeated))}); other slices are probably missing: export the "
            "image again"
        )
        findings.append(Finding(FindingCode.REPEATED_SLICES, "warning", text))
    return findings


def slices_with_values(data: Image, axis: int) -> NDArray[np.bool_]:
    """Return which slices hold more than one finite value.

    Args:
        data: (X, Y, Z) as read.
        axis: Voxel axis along which slices are stacked.

    Returns:
        One boolean per slice.
    """
    flat = np.moveaxis(data, axis, 0).reshape(data.shape[axis], -1)
    finite = np.isfinite(flat)
    most = np.where(finite, flat, -np.inf).max(axis=1)
    least = np.where(finite, flat, np.inf).min(axis=1)
    return np.asarray(most > least)


def empty_between(shown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the empty slices between slices with values; slabs may be padded at both ends.

    Args:
        shown: Which slices have values.
    """
    there = np.flatnonzero(shown)
    if not there.size:
        return np.zeros_like(shown)
    between = ~shown
    between[: there[0]] = between[there[-1] :] = False
    return between


def _numbers(chosen: NDArray[np.bool_]) -> list[int]:
    return [int(k) + 1 for k in np.flatnonzero(chosen)]


def _repeated(slices: Image) -> list[int]:
    """Return the numbers of slices that equal the slice before, if they are few."""
    repeated = [
        k + 1
        for k in range(1, len(slices))
        if np.count_nonzero(slices[k]) >= _LEAST_PIXELS
        and np.array_equal(slices[k - 1], slices[k], equal_nan=True)
        and np.nanmax(slices[k]) > np.nanmin(slices[k])
    ]
    return repeated if len(repeated) <= _MOST_REPEATED * len(slices) else []


def _refuse_disorder(name: str, slices: Image) -> None:
    """Reject a stack in which many slices resemble a distant slice more than their neighbours."""
    count = len(slices)
    if count < _FEWEST_SLICES:
        return
    rows, columns = (max(1, n // _MOST_PIXELS) for n in slices.shape[1:])
    flat = np.nan_to_num(slices[:, ::rows, ::columns], nan=0.0, posinf=0.0, neginf=0.0)
    flat = flat.reshape(count, -1).astype(np.float64)
    alike = np.corrcoef(flat[np.ptp(flat, axis=1) > 0])
    apart = np.abs(np.subtract.outer(*[np.arange(len(alike))] * 2))
    neighbour = np.where(apart == 1, alike, -1).max(axis=1)
    distant = np.where(apart > 1, alike, -1).max(axis=1)
    astray = float((distant > neighbour + _CLOSER).mean())
    if astray > _MOST_ASTRAY:
        raise ContentError(
            f"{name}: {astray:.0%} of the slices resemble a distant slice more than their "
            "neighbours: the slices are not in anatomical order; convert the images again, for "
            "example with dcm2niix"
        )


def mask_of(shown: NDArray[np.bool_], shape: tuple[int, ...], axis: int) -> Mask:
    """Return the voxels of chosen slices.

    Args:
        shown: Which slices are chosen.
        shape: Shape of the image.
        axis: Voxel axis along which slices are stacked.
    """
    extent = [1, 1, 1]
    extent[axis] = len(shown)
    return np.broadcast_to(shown.reshape(extent), shape)
