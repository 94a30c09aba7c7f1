"""Checks for damaged voxels inside the brain: overflow, holes, saturation.

Damage is measured as the volume of connected components inside the brain, because a share of the
whole image does not show whether an infarct could be affected. Skull-stripped images and slabs are
not reported: their zeros lie outside the brain.
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
from infarct.preprocessing.slice_checks import mask_of, slices_with_values

_SMALLEST_ML, _SMALLEST_OVERFLOW_ML = 0.5, 0.1
"""Smaller components are noise; an overflow is recognised by its edge and may be smaller."""

_MOST_NEGATIVE = 0.2
"""Share of the brain. About half of a standardised DWI is negative."""

_OFFSET, _BRIGHT, _CONSTANT = 0.5, 0.2, 0.05
"""Signal of air relative to tissue at which an image is rejected, at which a warning is given, and
at which it is rejected if most of the air has one value. At most 0.06 on 22 images of 12 scans at
b = 0 to 2500 s/mm^2; the noise of many combined coils may reach 0.3 on a poor DWI."""

_SHIFTED, _EVEN = 0.1, 0.7
"""Signal of air relative to tissue at which a warning is given if the air is even, and the ratio of
its percentiles 5 and 50 from which it is: noise gives 0.3, and zero to 0.5 on the same scans; after
standardisation and a shift by 5 SD it is 0.9, and air is 0.17 times as bright as tissue."""

_ABRUPT = 0.7
"""Ratio of the signal around a hole to tissue signal. Signal decreases gradually towards fluid and
air, but not towards damaged voxels."""

_JUMP, _JUMPS = 0.5, 0.5
"""Step to a neighbouring voxel relative to the range of values, and the share of steps at an edge
that must be this large: at the edge of an overflow, values drop across the whole range."""

_DARK, _DARK_AROUND = 0.35, 0.27
"""Signal relative to the largest value below which a voxel is dark, and the largest share of dark
voxels around an overflow. Air and bone next to bright fluid have abrupt edges too, but continue
outside the brain: a third of the surrounding voxels is dark, compared with at most a fifth around
overflows simulated in three real scans."""

_CLOSE_MM = 8.0
"""Radius for closing holes in the brain mask: thresholding excludes dark voxels."""

_TISSUE_ADC_MOST = 2e-3
"""mm^2/s; clipping of an ADC map above this value affects only fluid."""

_NEAREST = ndimage.generate_binary_structure(3, 1)


@dataclass(frozen=True)
class _Piece:
    """A connected component of damaged voxels.

    Attributes:
        volume_ml: Volume, ml.
        around: Median of the surrounding voxels.
        jumps: Share of the steps across the edge that are as large as those of an overflow.
        dark_around: Share of the surrounding voxels that are dark.
    """

    volume_ml: float
    around: float
    jumps: float
    dark_around: float


def check_voxels(name: str, image: Volume, brain: Mask) -> list[Finding]:
    """Check a DWI or b0 for damaged voxels inside the brain.

    Args:
        name: `DWI` or `b0`.
        image: (X, Y, Z) as read, before any value is replaced.
        brain: (X, Y, Z) brain mask.

    Returns:
        Warnings about damaged voxels.

    Raises:
        ContentError: If values overflowed to negative numbers, the image was standardised, or a
            constant was added to it.
    """
    data, grid = image.data, image.grid
    inside = close(brain, _CLOSE_MM, grid.spacing)
    shown_slices = slices_with_values(data, image.slice_axis)
    inside &= mask_of(shown_slices, data.shape, image.slice_axis)
    refuse_negative(name, data, inside)
    finite = np.isfinite(data)
    low, high = float(data[finite].min()), float(data[finite].max())
    found = _check_background(name, image, inside)
    tissue = float(np.median(data[inside & finite & (data > 0)]))
    shown = finite & (data > 0) & (data != _fill_value(data[inside & finite], tissue))
    bad = ~shown
    bad &= inside & ~_background(bad)
    pieces = _pieces(bad, data, shown, high - low, grid.voxel_ml)
    negative = inside & finite & (data < 0)
    wrapped = [
        piece
        for piece in _pieces(negative, data, finite & (data >= 0), high - low, grid.voxel_ml)
        if piece.jumps >= _JUMPS
    ]
    if sum(piece.volume_ml for piece in wrapped) >= _SMALLEST_OVERFLOW_ML:
        total = format_volume(sum(piece.volume_ml for piece in wrapped))
        raise ContentError(
            f"{name}: {total} of the brain are negative and surrounded by the brightest voxels, "
            "which indicates an integer overflow (for example, unsigned 16-bit values saved as "
            "signed); convert the original images again, as unsigned or floating-point numbers"
        )
    holes = [p for p in pieces if p.volume_ml >= _SMALLEST_ML and p.around >= _ABRUPT * tissue]
    if holes:
        bright = float(np.percentile(data[inside & finite], 95))
        cause = (
            "; the brightest voxels surround this region, so values probably overflowed and were "
            "then set to 0"
            if max(holes, key=lambda p: p.volume_ml).around >= bright
            else ""
        )
        text = (
            f"{name}: {_total(holes)} of the brain have no signal (0, negative, not finite, or one "
            f"dark value throughout) but are surrounded by tissue with signal{cause}; export the "
            "image again"
        )
        found.append(Finding(FindingCode.INVALID_VOXELS, "warning", text))
    found += _check_overflow(name, data, inside, high, grid.voxel_ml)
    return found + _check_top(name, image, inside, high)


def check_adc_voxels(adc: Volume, brain: Mask, scale: float) -> list[Finding]:
    """Check an ADC map for values clipped in tissue, at either end of the range.

    Args:
        adc: (X, Y, Z) as read, in any unit.
        brain: (X, Y, Z) brain mask.
        scale: Factor that converts the map to mm^2/s.
    """
    finite = adc.data[np.isfinite(adc.data)]
    high, low = float(finite.max()), float(finite[finite > 0].min(initial=np.inf))
    clipped = [] if high * scale > _TISSUE_ADC_MOST else _check_top("ADC", adc, brain, high)
    sizes = _sizes(brain & (adc.data == low))
    if sizes.max(initial=0) * adc.grid.voxel_ml < _SMALLEST_ML or clipped:
        return clipped
    text = (
        f"ADC: {format_volume(float(sizes.sum()) * adc.grid.voxel_ml)} of the brain have the "
        f"smallest value of the map above 0, {low:g}: lower values were clipped, so infarcts may "
        "be hidden; export the map with its full range"
    )
    return [Finding(FindingCode.SATURATED, "warning", text)]


def refuse_negative(name: str, data: Image, inside: Mask) -> None:
    """Reject an image in which much of the brain is negative.

    Args:
        name: `DWI`, `b0` or `ADC`.
        data: (X, Y, Z) as read.
        inside: (X, Y, Z) brain mask.

    Raises:
        ContentError: If more than a fifth of the brain is negative.
    """
    values = data[inside & np.isfinite(data)]
    share = float((values < 0).mean()) if values.size else 0.0
    if share > 0.9:
        raise ContentError(
            f"{name}: {share:.0%} of the brain is negative: the image is inverted; "
            "multiply it by -1 or export it again"
        )
    if share > _MOST_NEGATIVE:
        raise ContentError(
            f"{name}: {share:.0%} of the brain is negative: the image was probably standardised "
            "(z-scored) or shifted, or is a phase image; give the original magnitude image"
        )


def _check_background(name: str, image: Volume, inside: Mask) -> list[Finding]:
    """Check that air is dark: it is not if an image was standardised and shifted above zero."""
    axis = image.slice_axis
    rim = np.zeros(image.data.shape, dtype=bool)
    for across in {0, 1, 2} - {axis}:
        np.moveaxis(rim, across, 0)[[0, -1]] = True
    rim &= mask_of(slices_with_values(image.data, axis), rim.shape, axis)
    rim &= np.isfinite(image.data)
    brain = image.data[inside & np.isfinite(image.data)]
    if not rim.any() or not brain.size:
        return []
    # A large head may touch the rim, so its darker half is taken to be air.
    darkest, air, middle = np.percentile(image.data[rim], [5, 25, 50])
    share = float(air / np.median(brain))
    text = (
        f"{name}: the background is {share:.0%} as bright as the brain, but air has almost no "
        "signal: the image was probably standardised (z-scored) and shifted above zero, or its "
        "intercept was lost"
    )
    if share > (_CONSTANT if darkest == middle else _OFFSET):
        raise ContentError(f"{text}; give the original magnitude image")
    if share > (_SHIFTED if darkest > _EVEN * middle else _BRIGHT):
        text = text.replace("was probably", "may be noisy, or was")
        text = f"{text}; give the original magnitude image, because the ADC depends on it"
        return [Finding(FindingCode.BACKGROUND_BRIGHT, "warning", text)]
    return []


def _fill_value(values: Image, tissue: float) -> float:
    """Return the most frequent value of dark voxels, which may fill a hole; 0 if there is none."""
    dark, counts = np.unique(values[(values > 0) & (values < _DARK * tissue)], return_counts=True)
    return float(dark[counts.argmax()]) if dark.size else 0.0


def _background(empty: Mask) -> Mask:
    """Return the empty voxels connected to the border of the image, as left by skull-stripping."""
    border = empty.copy()
    border[1:-1, 1:-1, 1:-1] = False
    return np.asarray(ndimage.binary_propagation(border, _NEAREST, mask=empty))


def _check_overflow(
    name: str, data: Image, inside: Mask, high: float, voxel_ml: float
) -> list[Finding]:
    """Report dark components whose edges drop from the top of the range: unsigned overflow."""
    dark = inside & (data < _DARK * high) & (data > 0)
    if dark.sum() > 0.5 * inside.sum():
        return []  # a few bright voxels set the range, and tissue lies far below
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
        f"{name}: {_total(wrapped)} of the brain are dark and surrounded by the brightest voxels: "
        "values probably overflowed the stored integer type; convert the original images again"
    )
    return [Finding(FindingCode.OVERFLOW, "warning", text)]


def _check_top(name: str, image: Volume, inside: Mask, high: float) -> list[Finding]:
    """Report components in which every voxel has the largest value of the image."""
    sizes = _sizes(inside & (image.data == high))
    total = float(sizes.sum()) * image.grid.voxel_ml
    if sizes.max(initial=0) * image.grid.voxel_ml < _SMALLEST_ML:
        return []
    # On a b0, fluid is clipped first, which hardly affects the result.
    level: Level = "note" if name == "b0" else "warning"
    text = (
        f"{name}: {format_volume(total)} of the brain have the largest value of the image, "
        f"{high:g}: brighter voxels were clipped; export the image with its full range"
    )
    return [Finding(FindingCode.SATURATED, level, text)]


def _sizes(mask: Mask) -> NDArray[np.int_]:
    labels, _ = ndimage.label(mask, _NEAREST)
    return np.asarray(np.bincount(labels.ravel())[1:])


def _pieces(mask: Mask, data: Image, around: Mask, span: float, voxel_ml: float) -> list[_Piece]:
    """Describe the connected components of a mask, except very small ones."""
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
        # The largest value of the component next to each surrounding voxel.
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


def _total(pieces: list[_Piece]) -> str:
    total = format_volume(sum(piece.volume_ml for piece in pieces))
    return total if len(pieces) == 1 else f"{total} in {len(pieces)} regions"
