"""Radiological orientation: slices with the patient's right on the viewer's left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import contourpy
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from infarct.core.diffusion import Image, Mask
from infarct.core.geometry import Affine
from infarct.core.nifti import closest_axes

CONTOUR = "#ffb000"
"""Contour colour; distinguishable from grey with any colour vision. A dark rim separates it from
white."""

ADC_WINDOW = (0.0, 2.5e-3)
"""ADC shown as black and as white, mm^2/s."""


def to_radiological(data: NDArray[Any], affine: Affine) -> NDArray[Any]:
    """Reorder an image to radiological orientation.

    Args:
        data: (X, Y, Z) in the order of the file.
        affine: (4, 4) voxel -> world RAS+ mm.

    Returns:
        The same voxels; x from the patient's right to left, y posterior to anterior, z inferior to
        superior.
    """
    axes = closest_axes(affine)
    source = np.argmax(np.abs(axes), axis=1)
    reordered = np.transpose(data, source)
    flips = [axes[world, voxel] < 0 for world, voxel in enumerate(source)]
    flips[0] = not flips[0]
    return reordered[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def radiological_affine(affine: Affine, shape: tuple[int, int, int]) -> Affine:
    """Return (4, 4) the affine of an image in radiological orientation -> world RAS+ mm.

    Args:
        affine: (4, 4) voxel -> world RAS+ mm, in the order of the file.
        shape: Number of voxels along each axis of the file.
    """
    axes = closest_axes(affine)
    file_from_shown = np.zeros((4, 4))
    file_from_shown[3, 3] = 1.0
    for world in range(3):
        voxel = int(np.argmax(np.abs(axes[world])))
        flipped = (axes[world, voxel] < 0) != (world == 0)
        file_from_shown[voxel, world] = -1.0 if flipped else 1.0
        file_from_shown[voxel, 3] = shape[voxel] - 1 if flipped else 0
    shown: Affine = affine @ file_from_shown
    return shown


def radiological_spacing(affine: Affine) -> NDArray[np.float64]:
    """Return (3,) the voxel spacing along the axes of the reordered image, mm."""
    spacing: NDArray[np.float64] = np.abs(closest_axes(affine)) @ np.linalg.norm(
        affine[:3, :3], axis=0
    )
    return spacing


def signal_window(image: Image, brain: Mask) -> tuple[float, float]:
    """Return the signals shown as black and white: zero and the 99.5th percentile of the brain."""
    return 0.0, float(np.percentile(image[brain], 99.5))


def head_of(b0: Image, brain: Mask) -> Mask:
    """Return a mask of the head, so that no tissue is hidden by a poor brain mask.

    Args:
        b0: (X, Y, Z) signal in radiological orientation.
        brain: (X, Y, Z) bool, same orientation; not empty.

    Returns:
        (X, Y, Z) bool, includes the brain mask.
    """
    bright = b0 > 0.3 * np.median(b0[brain])
    # Opening within slices removes single noise voxels in air.
    head: Mask = brain | ndimage.binary_opening(bright, np.ones((3, 3, 1)))
    return head


def box_around(mask: Mask, margin: int) -> tuple[slice, slice]:
    """Return the columns and rows of a reordered image that enclose a mask plus a margin."""

    def span(axis: int) -> slice:
        used = np.flatnonzero(mask.any(axis=(1 - axis, 2)))
        return slice(max(0, used[0] - margin), min(mask.shape[axis], used[-1] + 1 + margin))

    return span(0), span(1)


def key_slices(lesion: Mask, brain: Mask, most: int) -> list[int]:
    """Choose the slices to print: those with lesion or, without a lesion, those with much brain.

    Args:
        lesion: (X, Y, Z) bool in radiological orientation.
        brain: (X, Y, Z) bool, same orientation; not empty.
        most: Maximum number; if there are more, they are thinned evenly.

    Returns:
        Slice indices from inferior to superior, without duplicates.
    """
    candidates = np.flatnonzero(lesion.any(axis=(0, 1)))
    if not candidates.size:
        area = brain.sum(axis=(0, 1))
        candidates = np.flatnonzero(area > 0.15 * area.max())
    picks = np.linspace(0, candidates.size - 1, min(most, candidates.size))
    return sorted({int(candidates[round(float(i))]) for i in picks})


def contour_lines(mask: Mask) -> list[NDArray[np.float64]]:
    """Return the closed contours of a mask.

    Args:
        mask: (X, Y) bool.

    Returns:
        For each contour, (N, 2) the x and y of its points in pixel-centre coordinates.
    """
    # Padding closes contours along the image border.
    found = contourpy.contour_generator(z=np.pad(mask, 1).T.astype(float)).lines(0.5)
    return [line - 1 for line in cast("list[NDArray[np.float64]]", found)]


def contour_path(
    mask: Mask, place: Callable[[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]
) -> str:
    """Return the contour of a mask as SVG path data; empty if the mask is empty.

    Args:
        mask: (X, Y) bool.
        place: Maps pixel-centre coordinates x and y to drawing units.
    """
    pieces = []
    for line in contour_lines(mask):
        x, y = place(line[:, 0], line[:, 1])
        points = " ".join(f"{px:.4g},{py:.4g}" for px, py in zip(x[:-1], y[:-1], strict=True))
        pieces.append(f"M{points}Z")
    return "".join(pieces)
