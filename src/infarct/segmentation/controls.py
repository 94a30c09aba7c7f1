"""Load the control statistics (mean and SD of lesion-free brains) of the classical methods."""

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
    """Return the file name of a control statistic, without folder and extension.

    Args:
        name: `dwi_mean`, `dwi_sd`, `adc_mean`, `adc_sd` or `note`.
        fwhm: FWHM of the smoothing, voxels; that of the c-fuzzy map has no suffix.
    """
    return name if fwhm == _CFUZZY_FWHM else f"{name}_fwhm{fwhm:g}"


@lru_cache(maxsize=2)
def load_healthy(fwhm: float = _CFUZZY_FWHM) -> Healthy:
    """Load the control statistics on the MNI grid.

    Args:
        fwhm: FWHM of the in-plane smoothing of the control brains, voxels; scans must be smoothed
            with the same FWHM.

    Raises:
        AssetError: If no statistics with this FWHM are bundled.
    """
    return healthy_on(MNI_GRID, fwhm)


def healthy_on(grid: Grid, fwhm: float = _CFUZZY_FWHM) -> Healthy:
    """Load the control statistics on a given grid in MNI space.

    Args:
        grid: Target grid, such as the output of `measured_lattice.lattice`.
        fwhm: As for `load_healthy`.

    Raises:
        AssetError: If no statistics with this FWHM are bundled.
    """
    n = int(json.loads(assets.path(f"templates/{healthy_asset('note', fwhm)}").read_text())["n"])
    dwi_mean, dwi_sd, adc_mean, adc_sd = (
        resample(volume, grid) for volume in healthy_statistics(fwhm).values()
    )
    return Healthy(dwi_mean, dwi_sd, adc_mean, adc_sd, n)


@lru_cache(maxsize=2)
def healthy_statistics(fwhm: float = _CFUZZY_FWHM) -> dict[str, Volume]:
    """Load `dwi_mean`, `dwi_sd`, `adc_mean` and `adc_sd` as bundled, (96, 112, 96) each.

    Args:
        fwhm: As for `load_healthy`.

    Raises:
        AssetError: If no statistics with this FWHM are bundled.
    """
    names = ("dwi_mean", "dwi_sd", "adc_mean", "adc_sd")
    return {name: read(assets.path(f"templates/{healthy_asset(name, fwhm)}")) for name in names}
