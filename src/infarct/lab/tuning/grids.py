"""The paper's grids of the two classical methods, and the scoring of their points.

What keeps a search cheap and still exact: once a scan is smoothed, both methods judge every voxel
by itself, and the larger any setting, the fewer voxels they outline. So a scan is smoothed once for
each FWHM, and only what the loosest settings outline is kept: what those leave out, all leave out.

References:
    Liu et al. 2021, Methods, "Lesion segmentation with unsupervised methods".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from infarct.core.diffusion import Mask
from infarct.core.normalisation import fit_tissue_peak, normalise
from infarct.evaluation.metrics import Overlap
from infarct.lab.simulation.scanner import SimulatedScan
from infarct.segmentation.classical import (
    Compared,
    FuzzySettings,
    Healthy,
    TScoreSettings,
    compare,
    exceeds_controls,
    ischemic_probability,
)
from infarct.segmentation.models import get_model

Settings = FuzzySettings | TScoreSettings
Scores = NDArray[np.float64]

FWHM = (2.0, 3.0, 4.0, 5.0)
"""Pixels of 1 mm."""


@dataclass(frozen=True)
class Method:
    """A classical method and its grid.

    Attributes:
        paper: The paper's best settings.
        grid: Setting -> values to try; the larger a value, the fewer voxels are outlined.
        outline: Says which of N voxels are lesion, under some settings.
    """

    paper: Settings
    grid: Mapping[str, Sequence[float]]
    outline: Callable[[Compared, Any], Mask]

    def settings(self) -> list[Settings]:
        """Return every point of the grid, sorted by what can share work: FWHM, then sigma_id."""
        points = (
            type(self.paper)(fwhm=fwhm, **dict(zip(self.grid, values, strict=True)))
            for fwhm, *values in product(FWHM, *self.grid.values())
        )
        return sorted(points, key=lambda s: (s.fwhm, s.sigma_id))

    def loosest(self, fwhm: float, **fixed: float) -> Settings:
        """Return the settings that outline whatever any point of the grid with this FWHM does."""
        smallest = {name: min(values) for name, values in self.grid.items()}
        return type(self.paper)(fwhm=fwhm, **(smallest | fixed))


def _exceeds_threshold(scan: Compared, settings: FuzzySettings) -> Mask:
    outlined: Mask = ischemic_probability(scan, settings) > get_model("cfuzzy").threshold
    return outlined


METHODS = {
    "cfuzzy": Method(
        FuzzySettings(),
        {
            "alpha_dwi": (0.5, 1.0, 1.5, 2.0, 2.5),
            "lambda_dwi": (2.0, 3.0, 4.0),
            "alpha_adc": (0.5, 1.0, 1.5, 2.0, 2.5),
            "lambda_adc": (2.0, 3.0, 4.0),
            "sigma_id": (2.0, 2.5, 3.0, 3.5),
        },
        _exceeds_threshold,
    ),
    "tscore": Method(
        TScoreSettings(),
        {
            "sigma_dwi": (1.0, 1.5, 2.0, 2.5, 3.0, 3.5),
            "sigma_adc": (1.0, 1.5, 2.0, 2.5, 3.0, 3.5),
            "sigma_id": (1.5, 2.0, 2.5, 3.0, 3.5),
        },
        exceeds_controls,
    ),
}
"""The grids of the paper, by the name of the method."""

SETTINGS = list(dict.fromkeys(["fwhm", *(name for m in METHODS.values() for name in m.grid)]))
"""Names of all settings of all methods."""


@dataclass(frozen=True, eq=False)
class Pool:
    """The voxels of all cases that may be outlined at one FWHM.

    Attributes:
        scan: N voxels.
        lesion: (N,).
        case: (N,) number of the case each lies in.
        lesion_voxels: (C,) size of each case's lesion, kept voxels or not; of 1 mm^3.
    """

    scan: Compared
    lesion: Mask
    case: NDArray[np.intp]
    lesion_voxels: NDArray[np.int64]

    def at(self, voxels: Mask) -> Pool:
        """Return some of the voxels."""
        return replace(
            self, scan=self.scan.at(voxels), lesion=self.lesion[voxels], case=self.case[voxels]
        )

    def score(self, outlined: Mask) -> Scores:
        """Score the outlines of all cases.

        Args:
            outlined: (N,).

        Returns:
            (2, C). First row: Dice of each case with a lesion, falsely outlined ml of each without.
            Second row: Net Overlap, the share of the lesion that is outlined; NaN without a lesion.

        References:
            Nazari-Farsani et al. 2020 (Net Overlap).
        """
        count = len(self.lesion_voxels)
        outline = np.bincount(self.case[outlined], minlength=count)
        shared = np.bincount(self.case[outlined & self.lesion], minlength=count)
        scores = np.full((2, count), np.nan)
        for case, (mine, both, size) in enumerate(
            zip(outline, shared, self.lesion_voxels, strict=True)
        ):
            if size:
                overlap = Overlap(int(both), int(mine - both), int(size - both))
                scores[:, case] = overlap.dice, overlap.sensitivity
            else:
                scores[0, case] = mine / 1e3
        return scores


def keep(scan: SimulatedScan, healthy: Mapping[float, Healthy]) -> dict[str, Any]:
    """Reduce a scan to the voxels that any point of the grids may outline.

    Args:
        scan: On the MNI grid.
        healthy: To compare with, for each FWHM: brains smoothed as the scan is.

    Returns:
        `lesion_voxels`, and for each FWHM `voxels-FWHM` (7, N): the fields of `Compared` and of its
        `Healthy` in their order, and `lesion-FWHM` (N,) bool.
    """
    # Smoothing takes all outside the brain for 0, so nothing is lost by cutting out its box.
    box = find_objects(scan.brain.numpy().astype(np.uint8))[0]
    brain, dwi, adc = (image.numpy()[box] for image in (scan.brain, scan.dwi, scan.adc))
    dwi, adc = (normalise(image, fit_tissue_peak(image, brain)) for image in (dwi, adc))
    # What the mask has cut off is not to be seen, so it is not to be found.
    lesion = scan.lesion.numpy()[box] & brain
    kept: dict[str, Any] = {"lesion_voxels": np.array(lesion.sum())}
    for fwhm in FWHM:
        loosest = [(method, method.loosest(fwhm)) for method in METHODS.values()]
        least = min(settings.sigma_id for _, settings in loosest)
        bright, compared = compare(dwi, adc, brain, healthy[fwhm].at(box), fwhm, least)
        found = np.logical_or.reduce([m.outline(compared, settings) for m, settings in loosest])
        compared = compared.at(found)
        h = compared.healthy
        rows = (
            compared.dwi,
            compared.adc,
            compared.own,
            h.dwi_mean,
            h.dwi_sd,
            h.adc_mean,
            h.adc_sd,
        )
        kept |= {f"voxels-{fwhm:g}": np.stack(rows), f"lesion-{fwhm:g}": lesion[bright][found]}
    return kept


def load_pool(files: Sequence[Path], fwhm: float, n: int) -> Pool:
    """Read the voxels of all cases at one FWHM.

    Args:
        files: Of the cases.
        fwhm: Pixels.
        n: Number of brains behind the healthy statistics.
    """
    voxels, lesions = [], []
    for file in files:
        with np.load(file) as kept:
            voxels.append(kept[f"voxels-{fwhm:g}"])
            lesions.append(kept[f"lesion-{fwhm:g}"])
    dwi, adc, own, dwi_mean, dwi_sd, adc_mean, adc_sd = np.concatenate(voxels, axis=1)
    return Pool(
        scan=Compared(dwi, adc, own, Healthy(dwi_mean, dwi_sd, adc_mean, adc_sd, n)),
        lesion=np.concatenate(lesions),
        case=np.repeat(np.arange(len(files)), [len(lesion) for lesion in lesions]),
        lesion_voxels=read_lesion_voxels(files),
    )


def read_lesion_voxels(files: Sequence[Path]) -> NDArray[np.int64]:
    """Read the size of each case's lesion, (C,)."""
    sizes = []
    for file in files:
        with np.load(file) as kept:
            sizes.append(int(kept["lesion_voxels"]))
    return np.array(sizes, dtype=np.int64)


def score_points(
    method: Method, points: Sequence[Settings], open_pool: Callable[[float], Pool]
) -> Iterator[tuple[Settings, Scores]]:
    """Score points of a grid one after the other.

    Args:
        method: Whose grid.
        points: In the order of `Method.settings`.
        open_pool: Reads the voxels at an FWHM.

    Yields:
        The point, and the (2, C) scores of the cases, see `Pool.score`.
    """
    for fwhm, of_width in groupby(points, key=lambda s: s.fwhm):
        pool = open_pool(fwhm)
        for sigma_id, group in groupby(of_width, key=lambda s: s.sigma_id):
            loosest = method.loosest(fwhm, sigma_id=sigma_id)
            part = pool.at(method.outline(pool.scan, loosest))
            for settings in group:
                yield settings, part.score(method.outline(part.scan, settings))
