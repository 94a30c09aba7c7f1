"""The parameter grids of the two classical methods in the paper, and the scoring of grid points.

After smoothing, both methods classify each voxel independently, and larger values of any setting
segment fewer voxels. The search therefore smooths each scan once per FWHM and keeps only the voxels
that the most sensitive settings segment. This is fast and gives exactly the same scores.

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
"""FWHM values of the in-plane smoothing, pixels of 1 mm."""


@dataclass(frozen=True)
class Method:
    """A classical method and its parameter grid.

    Attributes:
        paper: Best settings of the paper.
        grid: Setting -> values to try; larger values segment fewer voxels.
        outline: Function that returns the lesion voxels, (N,) bool, for given settings.
    """

    paper: Settings
    grid: Mapping[str, Sequence[float]]
    outline: Callable[[Compared, Any], Mask]

    def settings(self) -> list[Settings]:
        """Return every grid point, sorted by FWHM and sigma_id so that points can share work."""
        points = (
            type(self.paper)(fwhm=fwhm, **dict(zip(self.grid, values, strict=True)))
            for fwhm, *values in product(FWHM, *self.grid.values())
        )
        return sorted(points, key=lambda s: (s.fwhm, s.sigma_id))

    def loosest(self, fwhm: float, **fixed: float) -> Settings:
        """Return the settings whose mask contains that of every other grid point with this FWHM.

        Args:
            fwhm: Smoothing, pixels.
            fixed: Settings to keep at a given value.
        """
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
"""The grids of the paper, by name of the method."""

SETTINGS = list(dict.fromkeys(["fwhm", *(name for m in METHODS.values() for name in m.grid)]))
"""Names of the settings of all methods."""


@dataclass(frozen=True, eq=False)
class Pool:
    """The voxels of all cases that any grid point may segment at one FWHM.

    Attributes:
        scan: Values of N voxels.
        lesion: (N,) bool, reference lesion.
        case: (N,) case number of each voxel.
        lesion_voxels: (C,) total lesion size of each case, voxels of 1 mm^3, including voxels that
            were not kept.
    """

    scan: Compared
    lesion: Mask
    case: NDArray[np.intp]
    lesion_voxels: NDArray[np.int64]

    def at(self, voxels: Mask) -> Pool:
        """Return a subset of the voxels."""
        return replace(
            self, scan=self.scan.at(voxels), lesion=self.lesion[voxels], case=self.case[voxels]
        )

    def score(self, outlined: Mask) -> Scores:
        """Score the masks of all cases.

        Args:
            outlined: (N,) bool, segmented voxels.

        Returns:
            (2, C) scores. First row: Dice of cases with a lesion, false positive volume (ml) of
            cases without. Second row: Net Overlap, the fraction of the lesion that is segmented;
            NaN without a lesion.

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
    """Reduce a scan to the voxels that any grid point may segment.

    Args:
        scan: Scan on the MNI grid.
        healthy: FWHM -> healthy statistics of equally smoothed scans.

    Returns:
        `lesion_voxels`, and for each FWHM `voxels-FWHM` (7, N), the fields of `Compared` and of its
        `Healthy` in order, and `lesion-FWHM` (N,) bool.
    """
    # Smoothing treats voxels outside the brain as 0, so cropping to the brain loses nothing.
    box = find_objects(scan.brain.numpy().astype(np.uint8))[0]
    brain, dwi, adc = (image.numpy()[box] for image in (scan.brain, scan.dwi, scan.adc))
    dwi, adc = (normalise(image, fit_tissue_peak(image, brain)) for image in (dwi, adc))
    # Lesion voxels outside the brain mask are not visible and do not count.
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
        files: Files of the cases, written from the result of `keep`.
        fwhm: Smoothing, pixels.
        n: Number of scans in the healthy statistics.
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
    """Read the lesion size of each case, (C,) voxels."""
    sizes = []
    for file in files:
        with np.load(file) as kept:
            sizes.append(int(kept["lesion_voxels"]))
    return np.array(sizes, dtype=np.int64)


def score_points(
    method: Method, points: Sequence[Settings], open_pool: Callable[[float], Pool]
) -> Iterator[tuple[Settings, Scores]]:
    """Score grid points one at a time.

    Args:
        method: Method to score.
        points: Grid points in the order of `Method.settings`.
        open_pool: Function that reads the voxels at a given FWHM.

    Yields:
        The grid point and the (2, C) scores of the cases, see `Pool.score`.
    """
    for fwhm, same_fwhm in groupby(points, key=lambda s: s.fwhm):
        pool = open_pool(fwhm)
        for sigma_id, group in groupby(same_fwhm, key=lambda s: s.sigma_id):
            loosest = method.loosest(fwhm, sigma_id=sigma_id)
            part = pool.at(method.outline(pool.scan, loosest))
            for settings in group:
                yield settings, part.score(method.outline(part.scan, settings))
