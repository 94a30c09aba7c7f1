"""Checks that b0 and ADC lie where the DWI lies: neither mirrored nor moved.

Two contrasts of one head share their edges, so the edges are compared: where the DWI has them
against where its companion has them, as it lies, shifted, and mirrored. Why so:
docs/decisions/alignment.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from infarct.core.diffusion import Image, Mask
from infarct.core.errors import ContentError
from infarct.core.findings import Finding, FindingCode
from infarct.core.nifti import Volume, closest_axes

_THICK_MM = 3.0
"""Between thicker slices there are no edges to be had."""

_SMOOTH_MM, _SAMPLE_MM = 1.5, 2.0
"""SD of the smoothing, and about how far apart the voxels lie that are compared."""

_RIM_MM, _BEYOND_MM = 4.0, 1e3
"""The rim of the brain is left out: it lies nearly the same in a mirrored head. Where slices are
thick, the next one counts as far beyond: the rim is that within the slice."""

_CLIP = 98
"""Percentile above which an edge is no stronger: that of an infarct, or of the eyes."""

_REACH_MM = 30.0
"""How far a companion is shifted, at most."""

_LEAST_VOXELS = 500
"""Of brain without rim; fewer tell nothing."""

_ALIKE, _MIRRORED = 0.3, 1.1
"""What a mirrored companion must reach, and how many times as well it must fit as one that is not.
Of scans that are right, real and synthetic, it fits at most .87 times as well."""

_MOVED_MM, _BETTER = 4.0, 0.1
"""A slice or a voxel more than a head usually moves, and by how much more it must fit there."""

_SIDES = ("left to right", "front to back", "top to bottom")


_Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class _Fit:
    """Correlation of the edges, -1 to 1: where both lie, and at the best shift, mm away."""

    here: float
    best: float
    away_mm: float


def check_alignment(name: str, companion: Image, dwi: Volume, brain: Mask) -> list[Finding]:
    """Check that a companion shows the head as the DWI does.

    Args:
        name: What it is (`b0`, `ADC`), for the messages.
        companion: (X, Y, Z) on the grid of the DWI.
        dwi: (X, Y, Z).
        brain: (X, Y, Z).

    Raises:
        ContentError: If it fits mirrored only.
    """
    spacing = dwi.grid.spacing
    step = np.maximum(1, np.rint(_SAMPLE_MM / spacing)).astype(int)
    sampled = tuple(slice(None, None, int(k)) for k in step)
    thick = [axis == dwi.slice_axis and spacing[axis] >= _THICK_MM for axis in range(3)]
    fine = [axis for axis in range(3) if not thick[axis]]
    inner = _without_rim(brain, np.where(thick, _BEYOND_MM, spacing))[sampled]
    if inner.sum() < _LEAST_VOXELS:
        return []
    ours, theirs = (_edges(image, brain, spacing, fine)[sampled] for image in (dwi.data, companion))
    mirror_images = [np.flip(theirs, axis) for axis in range(3)]
    fit, *mirrored = _fits(ours, inner, [theirs, *mirror_images], spacing * step)
    axis = int(np.argmax([each.best for each in mirrored]))
    if mirrored[axis].best > max(_ALIKE, _MIRRORED * fit.best):
        side = _SIDES[int(np.argmax(np.abs(closest_axes(dwi.affine)[:, axis])))]
        raise ContentError(
            f"{name}: fits the DWI mirrored {side} (correlation of their edges "
            f"{mirrored[axis].best:.2f}) and not as it lies ({fit.best:.2f}); one of the two was "
            "stored the wrong way round: export both anew from the scanner's images"
        )
    if fit.away_mm > _MOVED_MM and fit.best > max(_ALIKE, fit.here + _BETTER):
        text = (
            f"{name}: lies {fit.away_mm:.0f} mm off the DWI (correlation of their edges there "
            f"{fit.best:.2f}, as it lies {fit.here:.2f}): the head moved, or slices are missing; "
            "outline and ADC cannot be trusted: align the two images"
        )
        return [Finding(FindingCode.OUT_OF_PLACE, "warning", text)]
    return []


def _without_rim(brain: Mask, spacing: _Numbers) -> Mask:
    """Leave out what is near the rim."""
    depth = ndimage.distance_transform_edt(np.pad(brain, 1), sampling=spacing)
    inner: Mask = depth[1:-1, 1:-1, 1:-1] > _RIM_MM
    return inner


def _edges(image: Image, brain: Mask, spacing: _Numbers, fine: list[int]) -> Image:
    """Return the length of the gradient along some axes, clipped."""
    sigma = [_SMOOTH_MM / spacing[axis] if axis in fine else 0.0 for axis in range(3)]
    smooth = ndimage.gaussian_filter(image.astype(np.float32), sigma)
    squares = [(ndimage.sobel(smooth, axis) / spacing[axis]) ** 2 for axis in fine]
    edges = np.sqrt(np.sum(squares, axis=0))
    clipped: Image = np.minimum(edges, np.percentile(edges[brain], _CLIP))
    return clipped


def _fits(ours: Image, inner: Mask, theirs: Sequence[Image], spacing: _Numbers) -> list[_Fit]:
    """Correlate an image over a mask with others, at all shifts of the others.

    Normalised at each shift by what of the other lies under the mask; all by Fourier transforms,
    so that what leaves at one side comes back at the other: the reach is shorter than the air.

    References:
        Lewis 1995, Fast normalized cross-correlation, Vision Interface.
    """
    shape, count = inner.shape, float(inner.sum())
    pattern: _Numbers = np.where(inner, ours - ours[inner].mean(), 0.0)
    pattern /= max(float(np.sqrt((pattern**2).sum())), 1e-12)
    under, wanted = (np.conj(fft.rfftn(each)) for each in (inner.astype(np.float64), pattern))
    shifts = [fft.fftfreq(n, 1 / n) * mm for n, mm in zip(shape, spacing, strict=True)]
    away = np.sqrt(sum(shift**2 for shift in np.meshgrid(*shifts, indexing="ij", sparse=True)))
    fits = []
    for image in theirs:
        scaled = image.astype(np.float64) / max(float(image.max()), 1e-12)
        seen, seen_squared = fft.rfftn(scaled), fft.rfftn(scaled**2)
        total, squares = fft.irfftn(seen * under, shape), fft.irfftn(seen_squared * under, shape)
        spread = np.sqrt(np.maximum(squares - total**2 / count, 1e-6 * count))
        correlation = fft.irfftn(seen * wanted, shape) / spread
        within = np.where(away <= _REACH_MM, correlation, -1.0)
        best = np.unravel_index(int(within.argmax()), shape)
        fits.append(_Fit(float(correlation[0, 0, 0]), float(within[best]), float(away[best])))
    return fits
