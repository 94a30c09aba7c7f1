"""Compare the lesion mask of a network with that of a second method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infarct.core.diffusion import Mask
from infarct.core.findings import Finding, FindingCode
from infarct.core.geometry import Grid
from infarct.core.units import format_volume

SMALLEST_ML = 1.0
"""Volume below which lesion masks are not compared: a classical map cannot confirm small lesions
and segments small artefacts in most scans."""

SHARED = 1 / 3
"""Share of the smaller mask that two methods must have in common to agree."""


@dataclass(frozen=True)
class MethodComparison:
    """Result of the second method, which has no trained weights.

    Attributes:
        model: Name of the second method.
        volume_ml: Lesion volume of the second method, ml.
        overlap_ml: Volume segmented by both methods, ml.
        agrees: Whether the shared volume is at least a third of the smaller mask (and of
            `SMALLEST_ML`); None if the mask of the requested method is too small to be compared.
        differs_at_mm: (x, y, z) in scanner space, RAS+ mm: centre of the difference between the two
            masks on the slice where it is largest; None if the masks are equal.
    """

    model: str
    volume_ml: float
    overlap_ml: float
    agrees: bool | None
    differs_at_mm: tuple[float, float, float] | None


def compare_methods(
    first: Mask, second: Mask, grid: Grid, slice_axis: int, model: str
) -> MethodComparison:
    """Compare two lesion masks of one scan.

    Args:
        first: (X, Y, Z) bool, lesion mask of the requested method.
        second: Same shape, lesion mask of the second method.
        grid: Grid of both masks.
        slice_axis: Voxel axis along which slices are stacked.
        model: Name of the second method.
    """
    volume, other = (float(mask.sum()) * grid.voxel_ml for mask in (first, second))
    shared = float((first & second).sum()) * grid.voxel_ml
    agrees = None
    if volume >= SMALLEST_ML:
        agrees = shared >= SHARED * max(min(volume, other), SMALLEST_ML)
    return MethodComparison(
        model, other, shared, agrees, _largest_difference(first, second, grid, slice_axis)
    )


def _largest_difference(
    first: Mask, second: Mask, grid: Grid, slice_axis: int
) -> tuple[float, float, float] | None:
    differs = np.argwhere(first != second)
    if not len(differs):
        return None
    slices = differs[:, slice_axis]
    at = differs[slices == np.bincount(slices).argmax()].mean(axis=0)
    x, y, z = grid.affine[:3, :3] @ at + grid.affine[:3, 3]
    return float(x), float(y), float(z)


def second_method_findings(comparison: MethodComparison, volume_ml: float) -> list[Finding]:
    """Report that the second method does not confirm the lesion mask.

    Args:
        comparison: From `compare_methods`.
        volume_ml: Lesion volume of the requested method, ml.

    Returns:
        A warning if the methods disagree.
    """
    if comparison.agrees is not False:
        return []
    shared = (
        f"share {format_volume(comparison.overlap_ml)}"
        if comparison.overlap_ml
        else "do not overlap"
    )
    text = (
        f"the second method does not confirm the lesion mask: {format_volume(volume_ml)} by the "
        f"network and {format_volume(comparison.volume_ml)} by the {comparison.model} map "
        f"{shared}; check whether the lesion is an infarct"
    )
    return [Finding(FindingCode.SECOND_METHOD_DISAGREES, "warning", text)]
