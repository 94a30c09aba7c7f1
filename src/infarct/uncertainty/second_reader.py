"""Compare the lesion mask of a network with that of a second method."""

from __future__ import annotations

from dataclasses import dataclass

from infarct.core.diffusion import Mask
from infarct.core.findings import Finding, FindingCode
from infarct.core.units import format_volume

FAR_APART = 3.0
"""Volume ratio above which two methods disagree."""


@dataclass(frozen=True)
class SecondReading:
    """Result of the second method, which has no trained weights.

    Attributes:
        model: Name of the second method.
        volume_ml: Lesion volume of the second method, ml.
        overlap_ml: Volume segmented by both methods, ml.
        agrees: Whether both methods segment nothing, or overlapping lesions of similar volume.
    """

    model: str
    volume_ml: float
    overlap_ml: float
    agrees: bool


def compare_readers(first: Mask, second: Mask, voxel_ml: float, model: str) -> SecondReading:
    """Compare two lesion masks of one scan.

    Args:
        first: (X, Y, Z) bool, lesion mask of the requested method.
        second: Same shape, lesion mask of the second method.
        voxel_ml: Voxel volume, ml.
        model: Name of the second method.
    """
    volumes = [float(mask.sum()) * voxel_ml for mask in (first, second)]
    shared = float((first & second).sum()) * voxel_ml
    low, high = sorted(volumes)
    agrees = high == 0 or (shared > 0 and high <= FAR_APART * low)
    return SecondReading(model, volumes[1], shared, agrees)


def second_reader_findings(reading: SecondReading, volume_ml: float) -> list[Finding]:
    """Report a strong disagreement between the two methods.

    Args:
        reading: From `compare_readers`.
        volume_ml: Lesion volume of the requested method, ml.

    Returns:
        A warning if the second method does not confirm the lesion mask of the network; a note if
        it segments more, or if only it segments anything, because it often segments artefacts; no
        finding if the methods agree.
    """
    if reading.agrees:
        return []
    volumes = (
        f"{format_volume(volume_ml)} by the network, {format_volume(reading.volume_ml)} by the "
        f"{reading.model} map"
    )
    confirmed = reading.overlap_ml > 0 or volume_ml == 0
    if confirmed and reading.volume_ml > volume_ml:
        text = f"the second method segments more: {volumes}; check for missed lesions"
        return [Finding(FindingCode.SECOND_METHOD_DISAGREES, "note", text)]
    volumes += "" if confirmed else ", no overlap"
    text = (
        f"the second method does not confirm the lesion mask: {volumes}; check whether the lesion "
        "is an infarct"
    )
    return [Finding(FindingCode.SECOND_METHOD_DISAGREES, "warning", text)]
