"""What a reader outlines on a scan: the infarcts, as far as the image shows them.

An infarct that cannot be told from what lies around it is on no reader's outline. The paper sets
such scans apart; a label on what nobody can see teaches a network ghosts, and blames it for not
seeing them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from infarct.quantify import pieces

FAINTEST = 1.2
"""Least ratio on the DWI of an infarct to what lies around it, for it to be outlined. Of 25 parts
that experts outlined on three real scans, 24 have more (`benchmarks/what_readers_outline.py`)."""

FAINTEST_BESIDE = 1.1
"""The same for a part on a scan with one that is seen at once: the eye goes on from there."""

OUTLINED_SHARE = 0.15
"""A reader outlines a voxel when this much of it is infarct: he takes in what shines at all. With
.4 the outermost voxels of an outline (of .2 ml and more) kept half of its contrast (.42 to .55, by
size) and those just beyond a fifth (.15 to .22), where on three real scans they keep .15 to .36 and
.03 to .04; with this, .19 to .34 and .05 to .09 (`benchmarks/what_readers_outline.py`)."""

AROUND_MM = (2.5, 10.0)
"""In-plane distances from an infarct between which it is compared: beyond its blurred edge, and
near enough for both to lie under the same shading."""

TISSUE_ADC = (0.2e-3, 1.3e-3)
"""mm^2/s; darker is noise, brighter is fluid, and nobody compares with these."""

_FEWEST = 10
"""Voxels to compare with; where there are fewer, an infarct is taken as seen."""


def outlined(
    share: torch.Tensor,
    dwi: torch.Tensor,
    adc: torch.Tensor,
    brain: torch.Tensor,
    pixel_mm: tuple[float, float],
) -> torch.Tensor:
    """Outline what a reader would.

    Args:
        share: (X, Y, Z) how much of each voxel is infarct, 0 - 1.
        dwi: Same shape, any unit.
        adc: Same shape, mm^2/s.
        brain: Same shape, bool.
        pixel_mm: Sides of a voxel along X and Y.

    Returns:
        (X, Y, Z) bool, on the device of `share`: if any part (26-connected) stands out from what
        lies around it by `FAINTEST`, all that do by `FAINTEST_BESIDE`.
    """
    # A lesion thinner than a slice never fills a voxel; what shines most of it is outlined.
    level = torch.clamp(0.7 * share.max(), max=OUTLINED_SHARE)
    drawn: NDArray[np.bool_] = ((share >= level) & (share > 0.02)).cpu().numpy()
    if not drawn.any():
        return torch.from_numpy(drawn).to(share.device)
    low, high = TISSUE_ADC
    tissue = (brain & (adc > low) & (adc < high)).cpu().numpy()
    parts = pieces(drawn)
    ratios = np.array(contrasts(parts, dwi.float().cpu().numpy(), tissue, pixel_mm))
    # NaN, where there is nothing to compare with, is below nothing.
    least = FAINTEST_BESIDE if (~(ratios < FAINTEST)).any() else np.inf
    seen = ~(ratios < least)
    return torch.from_numpy(np.array([False, *seen])[parts]).to(share.device)


def contrasts(
    parts: NDArray[np.int32],
    signal: NDArray[np.float32],
    tissue: NDArray[np.bool_],
    pixel_mm: tuple[float, float],
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
