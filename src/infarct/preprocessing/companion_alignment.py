"""Checks that b0 and ADC are aligned with the DWI: neither mirrored nor shifted.

Two contrasts of one head share their edges. The edges of the DWI are therefore correlated with
those of the companion image: in place, shifted, and mirrored. Rationale:
docs/explanation/decisions/0024-image-checks.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from infarct.core.diffusion import Image, Mask
from infarct.core.distances import box_around
from infarct.core.errors import ContentError
from infarct.core.findings import Finding, FindingCode
from infarct.core.nifti import Volume, closest_axes

_THICK_MM = 3.0
"""Across thicker slices, edges are not usable."""

_SMOOTH_MM, _SAMPLE_MM = 1.5, 2.0
"""SD of the smoothing, and approximate distance between the voxels that are compared."""

_RIM_MM, _BEYOND_MM = 4.0, 1e3
"""Width of the excluded rim of the brain, which looks nearly the same in a mirrored head; and the
spacing assumed for thick slices, so that the rim is measured within each slice only."""

_CLIP = 98
"""Percentile at which edges are clipped, so that an infarct or the eyes do not dominate."""

_REACH_MM = 30.0
"""Largest shift of a companion image that is tried."""

_LEAST_VOXELS = 500
"""Voxels of brain without its rim; with fewer, the check is skipped."""

_ALIKE, _MIRRORED = 0.3, 1.1
"""Correlation that a mirrored companion image must reach, and its smallest ratio to the correlation
without mirroring. In correctly stored scans, real and synthetic, this ratio is at most 0.87."""

_MOVED_MM, _BETTER = 4.0, 0.1
"""Shift beyond usual head motion, and the gain in correlation required at that shift."""

_SIDES = ("left to right", "front to back", "top to bottom")


_Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class _Fit:
    """Correlation of the edges, -1 to 1: in place, and at the best shift, `away_mm` from it."""

    here: float
    best: float
    away_mm: float


def check_alignment(name: str, companion: Image, dwi: Volume, brain: Mask) -> list[Finding]:
    """Check that a companion image is aligned with the DWI.

    Args:
        name: Name of the companion image (`b0`, `ADC`), for the messages.
        companion: (X, Y, Z) companion image on the grid of the DWI.
        dwi: (X, Y, Z).
        brain: (X, Y, Z) brain mask.

    Returns:
        A warning if the companion image is shifted.

    Raises:
        ContentError: If the companion image is mirrored.
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
            f"{name}: fits the DWI only when mirrored {side} (edge correlation "
            f"{mirrored[axis].best:.2f}, unmirrored {fit.best:.2f}); one of the two images was "
            "stored with a flipped axis: export both again from the scanner's images"
        )
    if fit.away_mm > _MOVED_MM and fit.best > max(_ALIKE, fit.here + _BETTER):
        text = (
            f"{name}: shifted by {fit.away_mm:.0f} mm relative to the DWI (edge correlation "
            f"{fit.best:.2f} at that shift, {fit.here:.2f} in place): the head moved, or slices "
            "are missing; lesion mask and ADC are unreliable: align the two images"
        )
        return [Finding(FindingCode.MISALIGNED, "warning", text)]
    return []


def _without_rim(brain: Mask, spacing: _Numbers) -> Mask:
    """Remove voxels near the rim."""
    inner = np.zeros(brain.shape, dtype=bool)
    box = box_around(brain, 0.0, spacing)
    # Padded, because the border of the image counts as rim.
    depth = ndimage.distance_transform_edt(np.pad(brain[box], 1), sampling=spacing)
    inner[box] = depth[1:-1, 1:-1, 1:-1] > _RIM_MM
    return inner


def _edges(image: Image, brain: Mask, spacing: _Numbers, fine: list[int]) -> Image:
    """Return the gradient magnitude along the given axes, clipped."""
    sigma = [_SMOOTH_MM / spacing[axis] if axis in fine else 0.0 for axis in range(3)]
    smooth = ndimage.gaussian_filter(image.astype(np.float32), sigma)
    squares = [(ndimage.sobel(smooth, axis) / spacing[axis]) ** 2 for axis in fine]
    edges = np.sqrt(np.sum(squares, axis=0))
    clipped: Image = np.minimum(edges, np.percentile(edges[brain], _CLIP))
    return clipped


def _fits(ours: Image, inner: Mask, theirs: Sequence[Image], spacing: _Numbers) -> list[_Fit]:
    """Correlate an image within a mask with other images, at all shifts of the others.

    The correlation is normalised at each shift by the voxels of the other image under the mask.
    Fourier transforms wrap around at the border; the largest shift is shorter than the air around
    the head.

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
