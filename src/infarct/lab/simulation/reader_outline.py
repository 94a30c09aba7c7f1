"""What a reader outlines on a scan: the infarcts, as far as the image shows them.

An infarct that cannot be told from what lies around it is on no reader's outline. The paper sets
such scans apart; a label on what nobody can see teaches a network ghosts, and blames it for not
seeing them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from infarct.lab.simulation.scan_parameters import Habit
from infarct.measurement.volumetry import pieces

FAINTEST = 1.2
"""Least ratio on the DWI of an infarct to what lies around it, for it to be outlined. Of 25 parts
that experts outlined on three real scans, 24 have more (`benchmarks/what_readers_outline.py`)."""

FAINTEST_BESIDE = 1.1
"""The same for a part on a scan with one that is seen at once: the eye goes on from there."""

SMALL_ML, LARGE_ML = 0.1, 10.0
"""Volumes between which a reader's habit changes from that of small foci to that of large infarcts.
On three real scans with small lesions, outlined voxels reach down to a share of about .15
(`benchmarks/what_readers_outline.py`); on three with large infarcts, masks of networks that learned
that edge are 6 to 23% too large, and bridge sulci."""

_FAINT_SHARE = 0.15
"""Of infarct in a voxel; what has more hangs together as one part, however it is outlined."""

AROUND_MM = (2.5, 10.0)
"""In-plane distances from an infarct between which it is compared: beyond its blurred edge, and
near enough for both to lie under the same shading."""

TISSUE_ADC = (0.2e-3, 1.3e-3)
"""mm^2/s; darker is noise, brighter is fluid, and nobody compares with these."""

_FEWEST = 10
"""Voxels to compare with; where there are fewer, an infarct is taken as seen."""


@dataclass(frozen=True)
class Seen:
    """What a reader has before him, on the grid of the scan.

    Attributes:
        dwi: (X, Y, Z), any unit.
        adc: Same shape, mm^2/s.
        brain: Same shape, bool.
        spacing_mm: Sides of a voxel along X, Y and Z.
    """

    dwi: torch.Tensor
    adc: torch.Tensor
    brain: torch.Tensor
    spacing_mm: tuple[float, float, float]


def outlined(share: torch.Tensor, seen: Seen, habit: Habit) -> torch.Tensor:
    """Outline what a reader would.

    Args:
        share: (X, Y, Z) how much of each voxel is infarct, 0 - 1.
        seen: The images.
        habit: How closely the reader follows the edge.

    Returns:
        (X, Y, Z) bool, on the device of `share`: if any part (26-connected) stands out from what
        lies around it by `FAINTEST`, all that do by `FAINTEST_BESIDE`.
    """
    voxel_ml = float(np.prod(seen.spacing_mm)) / 1000
    drawn = _drawn(share.float().cpu().numpy(), voxel_ml, habit)
    if not drawn.any():
        return torch.from_numpy(drawn).to(share.device)
    low, high = TISSUE_ADC
    tissue = (seen.brain & (seen.adc > low) & (seen.adc < high)).cpu().numpy()
    parts = pieces(drawn)
    ratios = np.array(contrasts(parts, seen.dwi.float().cpu().numpy(), tissue, seen.spacing_mm[:2]))
    # NaN, where there is nothing to compare with, is below nothing.
    least = FAINTEST_BESIDE if (~(ratios < FAINTEST)).any() else np.inf
    stands_out = ~(ratios < least)
    return torch.from_numpy(np.array([False, *stands_out])[parts]).to(share.device)


def outlined_from(volume_ml: float, habit: Habit) -> float:
    """Return from which share of infarct on a voxel of an infarct of some volume is outlined."""
    position = np.log(max(volume_ml, 1e-6) / SMALL_ML) / np.log(LARGE_ML / SMALL_ML)
    return float(habit.small + np.clip(position, 0, 1) * (habit.large - habit.small))


def _drawn(share: NDArray[np.float32], voxel_ml: float, habit: Habit) -> NDArray[np.bool_]:
    """Outline every part of the infarcts from the share that fits its volume."""
    # A lesion thinner than a slice never fills a voxel; what shines most of it is outlined.
    faint = min(0.7 * float(share.max()), _FAINT_SHARE)
    parts = pieces((share >= faint) & (share > 0.02))
    drawn = np.zeros(share.shape, bool)
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        inside = np.where(parts[box] == number, share[box], 0)
        level = outlined_from(float(inside.sum()) * voxel_ml, habit)
        drawn[box] |= inside >= max(min(level, 0.7 * float(inside.max())), 0.02)
    return drawn


def contrasts(
    parts: NDArray[np.int32],
    signal: NDArray[np.float32],
    tissue: NDArray[np.bool_],
    pixel_mm: Sequence[float],
) -> list[float]:
    """Return by how much each part of an outline is brighter than what lies around it.

    Args:
        parts: (X, Y, Z) number of the part, 1 and up; 0 elsewhere.
        signal: Same shape, the DWI.
        tissue: Same shape: where there is tissue and no fluid, infarct or not.
        pixel_mm: Sides of a voxel along X and Y.

    Returns:
        Mean of each part over the median around it, both of tissue alone, for an outline holds the
        fluid of its sulci; NaN where there is next to nothing around it.
    """
    near, far = AROUND_MM
    reach = [int(np.ceil(far / side)) for side in pixel_mm]
    ratios = []
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        wide = tuple(
            slice(max(side.start - grow, 0), side.stop + grow)
            for side, grow in zip(box, (*reach, 0), strict=True)
        )
        part = parts[wide] == number
        # Slices lie as far apart as makes no voxel of one the neighbour of another.
        away = ndimage.distance_transform_edt(~part, sampling=(*pixel_mm, 1e6))
        solid, drawn = tissue[wide], parts[wide] > 0
        around = signal[wide][solid & ~drawn & (away > near) & (away < far)]
        inside = signal[wide][part & solid if (part & solid).any() else part]
        enough = len(around) >= _FEWEST
        ratios.append(float(inside.mean() / np.median(around)) if enough else np.nan)
    return ratios
