"""Checks for voxels of the brain that were damaged on the way: overflow, holes, saturation.

Counted inside the brain, as connected pieces in ml: a share of the whole image says nothing about
an infarct. Skull-stripped images and slabs are no damage, for their zeros lie outside the brain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from infarct.core.diffusion import Image, Mask
from infarct.core.errors import ContentError
from infarct.core.findings import Finding, FindingCode, Level
from infarct.core.nifti import Volume
from infarct.core.units import format_volume
from infarct.preprocessing.skull_strip import close

_SMALLEST_ML, _SMALLEST_OVERFLOW_ML = 0.5, 0.1
"""Smaller pieces are noise; an overflow is recognized by its edge and may be smaller."""

_MOST_NEGATIVE = 0.2
"""Share of the brain. Standardising a DWI makes about half of it negative."""

_ABRUPT = 0.7
"""Signal around a hole over that of tissue. Signal fades towards fluid and air; beside a damaged
piece it does not."""

_JUMP, _JUMPS = 0.5, 0.5
"""Step to a neighbour over the whole range of values, and the share of steps at an edge that must
be so large: at the edge of an overflow the value falls from one end of the range to the other."""

_DARK, _DARK_AROUND = 0.35, 0.27
"""Signal over the largest value that counts as dark, and the share of the voxels around an overflow
that may be. Pockets of air and bone beside bright fluid have abrupt edges too, but continue outside
the brain: a third of what surrounds them is dark, against a fifth at most of what surrounds the
overflows made from three real scans."""

_CLOSE_MM = 8.0
"""The brain with holes of that size: thresholds leave out what is dark."""

_TISSUE_ADC_MOST = 2e-3
"""mm^2/s; an ADC map may be clipped above, in fluid."""

_NEAREST = ndimage.generate_binary_structure(3, 1)


@dataclass(frozen=True)
class _Piece:
    """A connected piece of damaged voxels.

    Attributes:
        volume_ml: Its volume.
        around: Median of the voxels around it.
        jumps: Share of the steps across its edge that are as large as those of an overflow.
        dark_around: Share of the voxels around it that are dark.
    """

    volume_ml: float
    around: float
    jumps: float
    dark_around: float


def check_voxels(name: str, image: Volume, brain: Mask) -> list[Finding]:
    """Check a signal for damaged voxels inside the brain.

    Args:
        name: `DWI` or `b0`.
        image: (X, Y, Z) as read, before any value is replaced.
        brain: (X, Y, Z).

    Raises:
        ContentError: If values overflowed to negative ones, or the image was standardised.
    """
    data, grid = image.data, image.grid
    inside = close(brain, _CLOSE_MM, grid.spacing)
    inside &= _slices_with_values(data, image.slice_axis)
    refuse_negative(name, data, inside)
    finite = np.isfinite(data)
    low, high = float(data[finite].min()), float(data[finite].max())
    found = _check_slices(name, image, brain)
    bad = ~(finite & (data > 0))
    bad &= inside & ~_background(bad)
    pieces = _pieces(bad, data, finite & (data > 0), high - low, grid.voxel_ml)
    negative = inside & finite & (data < 0)
    wrapped = [
        piece
        for piece in _pieces(negative, data, finite & (data >= 0), high - low, grid.voxel_ml)
        if piece.jumps >= _JUMPS
    ]
    if sum(piece.volume_ml for piece in wrapped) >= _SMALLEST_OVERFLOW_ML:
        total = format_volume(sum(piece.volume_ml for piece in wrapped))
        raise ContentError(
            f"{name}: {total} of the brain are negative and surrounded by the brightest voxels: an "
            "integer overflow, as when unsigned 16-bit values are saved as signed; convert the "
            "original images again, as unsigned or floating-point numbers"
        )
    tissue = float(np.median(data[inside & finite & (data > 0)]))
    holes = [p for p in pieces if p.volume_ml >= _SMALLEST_ML and p.around >= _ABRUPT * tissue]
    if holes:
        bright = float(np.percentile(data[inside & finite], 95))
        cause = (
            "; they are surrounded by the brightest voxels, so values probably overflowed and were "
            "then set to 0"
            if max(holes, key=lambda p: p.volume_ml).around >= bright
            else ""
        )
        text = (
            f"{name}: {_told(holes)} of the brain hold no signal (0, negative or not finite) amid "
            f"tissue that does{cause}; export the image again"
        )
        found.append(Finding(FindingCode.INVALID_VOXELS, "warning", text))
    found += _check_overflow(name, data, inside, high, grid.voxel_ml)
    return found + _check_top(name, image, inside, high)


def check_adc_voxels(adc: Volume, brain: Mask, scale: float) -> list[Finding]:
    """Check an ADC map for values clipped in tissue.

    Args:
        adc: (X, Y, Z) as read, in any unit.
        brain: (X, Y, Z).
        scale: Factor that makes it mm^2/s.
    """
    finite = adc.data[np.isfinite(adc.data)]
    high = float(finite.max())
    if high * scale > _TISSUE_ADC_MOST:
        return []
    return _check_top("ADC", adc, brain, high)


def refuse_negative(name: str, data: Image, inside: Mask) -> None:
    """Refuse an image with much of the brain below zero.

    Args:
        name: `DWI`, `b0` or `ADC`.
        data: (X, Y, Z) as read.
        inside: (X, Y, Z) brain.

    Raises:
        ContentError: If more than a fifth of the brain is negative.
    """
    values = data[inside & np.isfinite(data)]
    share = float((values < 0).mean()) if values.size else 0.0
    if share > 0.9:
        raise ContentError(
            f"{name}: {share:.0%} of the brain is negative: the sign of the image is inverted; "
            "multiply it by -1 or export it again"
        )
    if share > _MOST_NEGATIVE:
        raise ContentError(
            f"{name}: {share:.0%} of the brain is negative: the image was probably standardised "
            "(z-scored) or shifted, or is a phase image; give the image as the scanner made it"
        )


def _check_slices(name: str, image: Volume, brain: Mask) -> list[Finding]:
    """Tell of empty slices between slices that show brain."""
    axis = image.slice_axis
    across = tuple(each for each in range(3) if each != axis)
    shown = np.flatnonzero(brain.any(axis=across))
    if not shown.size:
        return []
    values = np.asarray(_slices_with_values(image.data, axis).any(axis=across))
    empty = [int(k) + 1 for k in range(shown[0], shown[-1] + 1) if not values[k]]
    if not empty:
        return []
    text = (
        f"{name}: {len(empty)} slices inside the brain hold no image (number "
        f"{', '.join(map(str, empty))}); the volume is a lower bound: export the image again"
    )
    return [Finding(FindingCode.EMPTY_SLICES, "warning", text)]


def _slices_with_values(data: Image, axis: int) -> Mask:
    across = tuple(each for each in range(3) if each != axis)
    some = np.asarray((np.isfinite(data) & (data != 0)).any(axis=across, keepdims=True))
    return np.broadcast_to(np.asarray(some), data.shape)


def _background(empty: Mask) -> Mask:
    """Return the empty voxels connected to the border of the image: skull-stripping leaves them."""
    border = empty.copy()
    border[1:-1, 1:-1, 1:-1] = False
    return np.asarray(ndimage.binary_propagation(border, _NEAREST, mask=empty))


def _check_overflow(
    name: str, data: Image, inside: Mask, high: float, voxel_ml: float
) -> list[Finding]:
    """Tell of dark pieces whose edges fall from the top of the range: unsigned overflow."""
    dark = inside & (data < _DARK * high) & (data > 0)
    if dark.sum() > 0.5 * inside.sum():
        return []  # a few bright voxels set the range; tissue is far below it
    wrapped = [
        piece
        for piece in _pieces(dark, data, ~dark & (data > 0), high, voxel_ml)
        if piece.volume_ml >= _SMALLEST_ML
        and piece.jumps >= _JUMPS
        and piece.dark_around <= _DARK_AROUND
    ]
    if not wrapped:
        return []
    text = (
        f"{name}: {_told(wrapped)} of the brain are dark and surrounded by the brightest voxels: "
        "values probably overflowed the stored integer type; convert the original images again"
    )
    return [Finding(FindingCode.OVERFLOW, "warning", text)]


def _check_top(name: str, image: Volume, inside: Mask, high: float) -> list[Finding]:
    """Tell of pieces that all hold the largest value there is."""
    sizes = _sizes(inside & (image.data == high))
    total = float(sizes.sum()) * image.grid.voxel_ml
    if sizes.max(initial=0) * image.grid.voxel_ml < _SMALLEST_ML:
        return []
    # Fluid is clipped first on a b0, and there it matters little.
    level: Level = "note" if name == "b0" else "warning"
    text = (
        f"{name}: {format_volume(total)} of the brain hold the largest value of the image, "
        f"{high:g}: "
        "brighter voxels were clipped; export the image with its full range"
    )
    return [Finding(FindingCode.SATURATED, level, text)]


def _sizes(mask: Mask) -> NDArray[np.int_]:
    labels, _ = ndimage.label(mask, _NEAREST)
    return np.asarray(np.bincount(labels.ravel())[1:])


def _pieces(mask: Mask, data: Image, around: Mask, span: float, voxel_ml: float) -> list[_Piece]:
    """Describe the connected pieces of a mask that are not too small."""
    labels, count = ndimage.label(mask, _NEAREST)
    if not count:
        return []
    sizes = np.bincount(labels.ravel())
    pieces = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if sizes[number] * voxel_ml < _SMALLEST_OVERFLOW_ML:
            continue
        wider = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        piece, values = labels[wider] == number, data[wider]
        edge = ndimage.binary_dilation(piece, _NEAREST) & ~piece & around[wider]
        if not edge.any():
            continue
        # What lies at the edge of the piece itself, carried to the voxels around it.
        own = ndimage.grey_dilation(
            np.where(piece, values, -np.inf), footprint=_NEAREST, mode="constant", cval=-np.inf
        )
        jumps = values[edge] - own[edge] > _JUMP * span
        pieces.append(
            _Piece(
                volume_ml=float(sizes[number]) * voxel_ml,
                around=float(np.median(values[edge])),
                jumps=float(jumps.mean()),
                dark_around=float((values[edge] < _DARK * span).mean()),
            )
        )
    return pieces


def _told(pieces: list[_Piece]) -> str:
    total = format_volume(sum(piece.volume_ml for piece in pieces))
    return total if len(pieces) == 1 else f"{total} in {len(pieces)} pieces"
