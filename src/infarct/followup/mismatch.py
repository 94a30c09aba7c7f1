"""Picture of two scans that could not be registered, for the person who must find out why."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from infarct.core.resampling import resample
from infarct.followup.registration import Alignment
from infarct.followup.time_points import TimePoint
from infarct.reporting.radiological_view import key_slices, radiological_spacing, to_radiological

_SLICES = 5
_PIXELS = 200
"""Height of a slice, pixels."""

_SQUARE = 20
"""Side of a square of the checkerboard, pixels."""


def draw_mismatch(first: TimePoint, second: TimePoint, found: Alignment) -> bytes:
    """Draw b0 slices of both scans after registration, and a checkerboard of both.

    Args:
        first: A scan.
        second: Another scan, in whose space the picture is drawn.
        found: Their registration.

    Returns:
        PNG with three rows: first scan, second scan, checkerboard. If the registration is right,
        ventricles and sulci continue across the squares.
    """
    stored = second.stored
    affine = stored.b0.affine
    ours = first.relative(first.stored.b0.data)
    moved = resample(
        first.stored.b0.like(ours), stored.b0.grid, np.linalg.inv(found.second_from_first)
    )
    brain = to_radiological(stored.brain.data, affine)
    chosen = key_slices(np.zeros_like(brain), brain, _SLICES)
    spacing = radiological_spacing(affine)
    rows = [
        _strip(to_radiological(image, affine)[..., chosen], spacing)
        for image in (moved, second.relative(stored.b0.data))
    ]
    y, x = np.indices(rows[0].shape)
    rows.append(np.where((y // _SQUARE + x // _SQUARE) % 2 == 0, rows[0], rows[1]))
    stream = io.BytesIO()
    Picture.fromarray(np.vstack(rows)).save(stream, "PNG")
    return stream.getvalue()


def _strip(slices: NDArray[np.floating], spacing: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return slices (X, Y, N) side by side as grey values, anterior up."""
    pixels = np.asarray(np.clip(slices / 3.0, 0, 1) * 255, np.uint8)
    width = max(1, round(_PIXELS * slices.shape[0] * spacing[0] / (slices.shape[1] * spacing[1])))
    pictures = [
        Picture.fromarray(np.ascontiguousarray(pixels[..., n].T[::-1])).resize((width, _PIXELS))
        for n in range(slices.shape[2])
    ]
    return np.hstack([np.asarray(picture) for picture in pictures])
