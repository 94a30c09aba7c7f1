"""How far a result can be trusted: what another reader makes of the same scan."""

from __future__ import annotations

from dataclasses import dataclass

from infarct.core.diffusion import Mask
from infarct.core.findings import Finding, FindingCode
from infarct.core.units import format_volume

FAR_APART = 3.0
"""Two volumes that differ by more than this factor are two opinions."""


@dataclass(frozen=True)
class SecondReading:
    """What a method without weights outlines beside a network.

    Attributes:
        model: Its name.
        volume_ml: Of its outline.
        shared_ml: What both outline.
        agrees: Whether both see nothing, or something of like volume in a common place.
    """

    model: str
    volume_ml: float
    shared_ml: float
    agrees: bool


def compare_readers(first: Mask, second: Mask, voxel_ml: float, model: str) -> SecondReading:
    """Compare two outlines of one scan.

    Args:
        first: (X, Y, Z) of the method asked for.
        second: Same shape, of the second reader.
        voxel_ml: Volume of a voxel.
        model: Name of the second reader.
    """
    volumes = [float(mask.sum()) * voxel_ml for mask in (first, second)]
    shared = float((first & second).sum()) * voxel_ml
    low, high = sorted(volumes)
    agrees = high == 0 or (shared > 0 and high <= FAR_APART * low)
    return SecondReading(model, volumes[1], shared, agrees)


def second_reader_findings(reading: SecondReading, volume_ml: float) -> list[Finding]:
    """Say when the two readers disagree strongly.

    Args:
        reading: From `compare_readers`.
        volume_ml: Outlined by the method asked for.

    Returns:
        A warning where the network stands alone, whatever else the second reader sees elsewhere; a
        note where that sees the same and more, or alone, for it often takes artefacts for infarcts.
        Nothing where they agree.
    """
    if reading.agrees:
        return []
    seen = (
        f"{format_volume(volume_ml)} by the network, {format_volume(reading.volume_ml)} by the "
        f"{reading.model} map"
    )
    confirmed = reading.shared_ml > 0 or volume_ml == 0
    if confirmed and reading.volume_ml > volume_ml:
        text = f"a second reader sees more: {seen}; look whether something was missed"
        return [Finding(FindingCode.READERS_DISAGREE, "note", text)]
    seen += "" if confirmed else ", nothing by both"
    text = f"a second reader does not confirm the outline: {seen}; look whether it is an infarct"
    return [Finding(FindingCode.READERS_DISAGREE, "warning", text)]
