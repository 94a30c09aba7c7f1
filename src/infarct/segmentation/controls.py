"""Mean and SD of brains without acute lesion, for the classical methods."""

from __future__ import annotations

import json
from functools import lru_cache

from infarct.core import assets
from infarct.core.geometry import MNI_GRID, Grid
from infarct.core.nifti import Volume, read
from infarct.core.resampling import resample
from infarct.segmentation.classical import FuzzySettings, Healthy

_CFUZZY_FWHM = FuzzySettings().fwhm


def healthy_asset(name: str, fwhm: float) -> str:
    """Return the name of a file of the healthy statistics, without its folder and ending.

    Args:
        name: `dwi_mean`, `dwi_sd`, `adc_mean`, `adc_sd` or `note`.
        fwhm: Of the smoothing, voxels; that of the c-fuzzy map has no suffix.
    """
    return name if fwhm == _CFUZZY_FWHM else f"{name}_fwhm{fwhm:g}"


@lru_cache(maxsize=2)
def load_healthy(fwhm: float = _CFUZZY_FWHM) -> Healthy:
    """Load mean and SD of brains without acute lesion, on the MNI grid.

    Args:
        fwhm: Of the in-plane smoothing of those brains, voxels; a scan that is compared with them
            must be smoothed equally.

    Raises:
        AssetError: If no statistics of this FWHM ship.
    """
    return healthy_on(MNI_GRID, fwhm)


def healthy_on(grid: Grid, fwhm: float = _CFUZZY_FWHM) -> Healthy:
    """Load mean and SD of brains without acute lesion on some grid of MNI space.

    Args:
        grid: Such as the lattice of `measured_lattice.lattice`.
        fwhm: As for `load_healthy`.

    Raises:
        AssetError: If no statistics of this FWHM ship.
    """
    n = int(json.loads(assets.path(f"templates/{healthy_asset('note', fwhm)}").read_text())["n"])
    dwi_mean, dwi_sd, adc_mean, adc_sd = (
        resample(volume, grid) for volume in healthy_statistics(fwhm).values()
    )
    return Healthy(dwi_mean, dwi_sd, adc_mean, adc_sd, n)


@lru_cache(maxsize=2)
def healthy_statistics(fwhm: float = _CFUZZY_FWHM) -> dict[str, Volume]:
    """Load `dwi_mean`, `dwi_sd`, `adc_mean` and `adc_sd` as they ship, (96, 112, 96) each.

    Args:
        fwhm: As for `load_healthy`.
    """
    names = ("dwi_mean", "dwi_sd", "adc_mean", "adc_sd")
    return {name: read(assets.path(f"templates/{healthy_asset(name, fwhm)}")) for name in names}
