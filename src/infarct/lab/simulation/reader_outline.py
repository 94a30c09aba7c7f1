"""Simulate the manual segmentation of a reader, who includes only visible infarcts.

Readers do not segment infarcts that are indistinguishable from their surroundings, and the paper
reports such scans separately. Labels on invisible infarcts would teach a network false positives
and penalise it for lesions that cannot be detected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from infarct.core.diffusion import BRAIN_ADC
from infarct.lab.simulation.scan_parameters import Habit
from infarct.measurement.volumetry import pieces

FAINTEST = 1.2
"""Minimum DWI ratio of an infarct to its surroundings for it to be segmented. Of 25 parts segmented
by experts on three real scans, 24 exceed it (`benchmarks/reader_contrast.py`)."""

FAINTEST_BESIDE = 1.1
"""Minimum ratio for other parts of a scan on which at least one part exceeds `FAINTEST`."""

SMALL_ML, LARGE_ML = 0.1, 10.0
"""Volumes between which the reader threshold changes from small foci to large infarcts.

On three real scans with small lesions, segmented voxels have infarct fractions down to about 0.15
(`benchmarks/reader_contrast.py`). On three with large infarcts, masks of networks trained with
that threshold are 6 to 23% too large and bridge sulci.
"""

_MIN_FRACTION = 0.15
"""Infarct fraction above which connected voxels form one part, whatever the reader threshold."""

AROUND_MM = (2.5, 10.0)
"""In-plane distances of the reference region from an infarct: beyond its blurred edge, but near
enough to share its shading."""

_MIN_REFERENCE_VOXELS = 10
"""Minimum number of reference voxels; with fewer, an infarct counts as visible."""


@dataclass(frozen=True)
class Seen:
    """Images available to a reader, on the grid of the scan.

    Attributes:
        dwi: (X, Y, Z), any unit.
        adc: Same shape, mm^2/s.
        brain: Same shape, bool.
        spacing_mm: Voxel size along X, Y and Z.
    """

    dwi: torch.Tensor
    adc: torch.Tensor
    brain: torch.Tensor
    spacing_mm: tuple[float, float, float]


def outlined(share: torch.Tensor, seen: Seen, habit: Habit) -> torch.Tensor:
    """Return the lesion mask that a reader would draw.

    Args:
        share: (X, Y, Z) infarct fraction of each voxel, 0 to 1.
        seen: Images available to the reader.
        habit: Threshold of the reader.

    Returns:
        (X, Y, Z) bool, on the device of `share`. If any part (26-connected) exceeds its
        surroundings by `FAINTEST`, the mask contains all parts that exceed `FAINTEST_BESIDE`.
        Otherwise it is empty.
    """
    voxel_ml = float(np.prod(seen.spacing_mm)) / 1000
    drawn = _threshold_parts(share.float().cpu().numpy(), voxel_ml, habit)
    if not drawn.any():
        return torch.from_numpy(drawn).to(share.device)
    low, high = BRAIN_ADC
    tissue = (seen.brain & (seen.adc > low) & (seen.adc < high)).cpu().numpy()
    parts = pieces(drawn)
    ratios = np.array(contrasts(parts, seen.dwi.float().cpu().numpy(), tissue, seen.spacing_mm[:2]))
    # NaN (no reference tissue) counts as visible.
    least = FAINTEST_BESIDE if (~(ratios < FAINTEST)).any() else np.inf
    stands_out = ~(ratios < least)
    return torch.from_numpy(np.array([False, *stands_out])[parts]).to(share.device)


def outlined_from(volume_ml: float, habit: Habit) -> float:
    """Return the minimum infarct fraction of segmented voxels for an infarct of a given volume."""
    position = np.log(max(volume_ml, 1e-6) / SMALL_ML) / np.log(LARGE_ML / SMALL_ML)
    return float(habit.small + np.clip(position, 0, 1) * (habit.large - habit.small))


def _threshold_parts(
    share: NDArray[np.float32], voxel_ml: float, habit: Habit
) -> NDArray[np.bool_]:
    """Threshold every part of the infarcts at the fraction that applies to its volume."""
    # A lesion thinner than a slice never fills a voxel, so keep its brightest voxels.
    faint = min(0.7 * float(share.max()), _MIN_FRACTION)
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
    """Return the DWI ratio of each part of a lesion mask to its surroundings.

    Args:
        parts: (X, Y, Z) number of each part, starting at 1; 0 elsewhere.
        signal: Same shape, DWI.
        tissue: Same shape, bool; tissue without fluid, infarcted or not.
        pixel_mm: Voxel size along X and Y.

    Returns:
        Mean of each part divided by the median around it. Both exclude fluid, because masks
        include sulcal fluid. NaN if there are too few reference voxels.
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
        # A large slice distance restricts the comparison to the same slice.
        away = ndimage.distance_transform_edt(~part, sampling=(*pixel_mm, 1e6))
        solid, drawn = tissue[wide], parts[wide] > 0
        around = signal[wide][solid & ~drawn & (away > near) & (away < far)]
        inside = signal[wide][part & solid if (part & solid).any() else part]
        enough = len(around) >= _MIN_REFERENCE_VOXELS
        ratios.append(float(inside.mean() / np.median(around)) if enough else np.nan)
    return ratios
