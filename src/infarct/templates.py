"""The average brain: b0 to register to, and the healthy statistics of the classical methods."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from infarct import assets
from infarct.classical import FuzzySettings, Healthy
from infarct.grid import MNI_GRID, Grid
from infarct.intensity import Mask
from infarct.resample import resample
from infarct.volume import Volume, read

_CFUZZY_FWHM = FuzzySettings().fwhm

_AFFINE = MNI_GRID.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
_AFFINE[:3, 3] += 0.5
TEMPLATE_GRID = Grid((96, 112, 96), _AFFINE)
"""2 mm; each voxel covers a block of 2 x 2 x 2 voxels of the MNI grid."""


@dataclass(frozen=True, eq=False)
class Template:
    """What the registration aims at.

    Attributes:
        b0: Average b0, (96, 112, 96), white matter about 1.
        brain: (96, 112, 96) bool.
    """

    b0: Volume
    brain: Mask

    @cached_property
    def brain_at_1mm(self) -> Mask:
        """The brain on the MNI grid."""
        share = Volume(self.brain.astype(np.float32), self.b0.affine)
        brain: Mask = resample(share, MNI_GRID) >= 0.5
        brain.setflags(write=False)  # every scan is compared with this one
        return brain


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Load the b0 template and its brain."""
    brain = read(assets.path("templates/brain")).data > 0.5
    return Template(read(assets.path("templates/b0")), brain)


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
        grid: Such as the lattice of `measured_slices.lattice`.
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
