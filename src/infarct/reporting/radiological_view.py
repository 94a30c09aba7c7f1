"""How images hang: as radiologists look at them, the patient's right on the viewer's left."""

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
"""Told from grey by every kind of colour vision, and from white by its dark rim."""

ADC_WINDOW = (0.0, 2.5e-3)
"""mm^2/s, black to white."""


def to_radiological(data: NDArray[Any], affine: Affine) -> NDArray[Any]:
    """Order voxels as they hang.

    Args:
        data: (X, Y, Z) in the order of the file.
        affine: (4, 4) voxel -> world RAS+ mm.

    Returns:
        The same voxels: x from the patient's right to left, y back to front, z feet to head.
    """
    axes = closest_axes(affine)
    source = np.argmax(np.abs(axes), axis=1)
    hung = np.transpose(data, source)
    flips = [axes[world, voxel] < 0 for world, voxel in enumerate(source)]
    flips[0] = not flips[0]
    return hung[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def radiological_spacing(affine: Affine) -> NDArray[np.float64]:
    """Return (3,) the distance between voxels along the axes of a hung image, mm."""
    spacing: NDArray[np.float64] = np.abs(closest_axes(affine)) @ np.linalg.norm(
        affine[:3, :3], axis=0
    )
    return spacing


def signal_window(image: Image, brain: Mask) -> tuple[float, float]:
    """Return the signals shown black and white: zero, and all but the brightest of the brain."""
    return 0.0, float(np.percentile(image[brain], 99.5))


def head_of(b0: Image, brain: Mask) -> Mask:
    """Return where there is tissue, brain or not, so that a poor brain mask hides nothing.

    Args:
        b0: Signal, hung.
        brain: Hung, not empty.
    """
    bright = b0 > 0.3 * np.median(b0[brain])
    # Opened within slices: single voxels are the noise of air.
    head: Mask = brain | ndimage.binary_opening(bright, np.ones((3, 3, 1)))
    return head


def box_around(mask: Mask, margin: int) -> tuple[slice, slice]:
    """Return the columns and rows of a hung image that hold a mask, and a margin around."""

    def span(axis: int) -> slice:
        seen = np.flatnonzero(mask.any(axis=(1 - axis, 2)))
        return slice(max(0, seen[0] - margin), min(mask.shape[axis], seen[-1] + 1 + margin))

    return span(0), span(1)


def key_slices(lesion: Mask, brain: Mask, most: int) -> list[int]:
    """Choose the slices to print: those with lesion, or, without one, those with much brain.

    Args:
        lesion: Hung.
        brain: Hung, not empty.
        most: How many at most; more are thinned evenly.

    Returns:
        Slices from the feet up, every one once.
    """
    candidates = np.flatnonzero(lesion.any(axis=(0, 1)))
    if not candidates.size:
        area = brain.sum(axis=(0, 1))
        candidates = np.flatnonzero(area > 0.15 * area.max())
    picks = np.linspace(0, candidates.size - 1, min(most, candidates.size))
    return sorted({int(candidates[round(float(i))]) for i in picks})


def contour_path(
    mask: Mask, place: Callable[[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]
) -> str:
    """Return the border of a mask as the `d` of an SVG path; empty where there is none.

    Args:
        mask: (X, Y) bool.
        place: Maps x and y of the centres of pixels to the units of the drawing.
    """
    if not mask.any():
        return ""
    # Padded, so that a border along the edge of the image closes too.
    found = contourpy.contour_generator(z=np.pad(mask, 1).T.astype(float)).lines(0.5)
    lines = cast("list[NDArray[np.float64]]", found)
    pieces = []
    for line in lines:
        x, y = place(line[:, 0] - 1, line[:, 1] - 1)
        points = " ".join(f"{px:.4g},{py:.4g}" for px, py in zip(x[:-1], y[:-1], strict=True))
        pieces.append(f"M{points}Z")
    return "".join(pieces)
