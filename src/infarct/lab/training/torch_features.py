"""Network inputs computed with torch: equivalents of `preprocess` and `classical` on arrays.

Training must see exactly the same inputs as inference. Tests compare each function with its numpy
equivalent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from infarct.core.diffusion import Image
from infarct.core.geometry import MNI_GRID, Grid
from infarct.core.normalisation import TissuePeak, fit_tissue_peak
from infarct.lab.simulation import separable_filters
from infarct.lab.simulation.warp import Box
from infarct.segmentation.classical import FuzzySettings, Healthy

_FIT_VOXELS = 1_000_000
"""Approximate number of voxels used to fit the tissue peak; more do not improve the fit."""


def tissue_peak(image: torch.Tensor, brain: torch.Tensor) -> TissuePeak:
    """Fit the tissue peak with `normalisation.fit_tissue_peak` on a subset of the brain voxels."""
    every = max(1, image.numel() // _FIT_VOXELS)
    part, inside = (volume.flatten()[::every] for volume in (image, brain))
    values = part[inside].cpu().numpy()
    return fit_tissue_peak(values, np.ones(values.shape, dtype=bool))


def zscore(image: torch.Tensor, brain: torch.Tensor) -> torch.Tensor:
    """Scale an image to mean 0 and SD 1 over the brain, 0 outside; see `normalisation.zscore`."""
    # Sums over a masked volume: gathering the brain voxels takes ten times as long.
    count = brain.sum()
    mean = (image * brain).sum(dtype=torch.float64) / count
    apart = (image - mean.float()).mul_(brain)
    sd = (apart.square().sum(dtype=torch.float64) / count).sqrt().clamp(min=1e-12)
    return apart.div_(sd.float())


@dataclass(frozen=True, eq=False)
class HealthyTensors:
    """`classical.Healthy` on a device.

    Attributes:
        dwi_mean: (192, 224, 192).
        dwi_scale: Same shape; alpha times the SD of the DWI.
        adc_mean: Same shape.
        adc_scale: Same shape; alpha times the SD of the ADC.
        settings: Settings of the IS map.
    """

    dwi_mean: torch.Tensor
    dwi_scale: torch.Tensor
    adc_mean: torch.Tensor
    adc_scale: torch.Tensor
    settings: FuzzySettings

    def cut(self, box: Box) -> HealthyTensors:
        """Return the statistics inside a box."""
        return HealthyTensors(
            self.dwi_mean[box],
            self.dwi_scale[box],
            self.adc_mean[box],
            self.adc_scale[box],
            self.settings,
        )

    @staticmethod
    def of(
        healthy: Healthy,
        device: torch.device | str = "cpu",
        settings: FuzzySettings | None = None,
    ) -> HealthyTensors:
        """Copy the healthy statistics to a device."""
        s = settings or FuzzySettings()

        def there(array: Image) -> torch.Tensor:
            return torch.from_numpy(array).float().to(device)

        return HealthyTensors(
            there(healthy.dwi_mean),
            there(s.alpha_dwi * healthy.dwi_sd),
            there(healthy.adc_mean),
            there(s.alpha_adc * healthy.adc_sd),
            s,
        )


def healthy_at_1mm(statistics: Mapping[str, Image], n: int = 2) -> Healthy:
    """Resample the healthy statistics from the template grid to the MNI grid, as `load_healthy`.

    Args:
        statistics: `dwi_mean`, `dwi_sd`, `adc_mean`, `adc_sd`, each (96, 112, 96).
        n: Number of control brains; not used by the IS map.
    """

    def fine(name: str) -> Image:
        coarse = torch.from_numpy(statistics[name])[None, None]
        # Blocks of two voxels: without aligned corners, block centres are preserved.
        image = functional.interpolate(coarse, scale_factor=2.0, mode="trilinear")
        return np.asarray(image[0, 0].numpy())

    return Healthy(fine("dwi_mean"), fine("dwi_sd"), fine("adc_mean"), fine("adc_sd"), n)


def healthy_on_slices(statistics: Mapping[str, Image], lattice: Grid, n: int = 2) -> Healthy:
    """Resample the healthy statistics to a measured-slice lattice, as `controls.healthy_on`.

    Args:
        statistics: As for `healthy_at_1mm`.
        lattice: From `measured_lattice.lattice`.
        n: Number of control brains; not used by the IS map.
    """
    first = (lattice.affine[:3, 3] - MNI_GRID.affine[:3, 3] - 0.5) / 2
    steps = lattice.spacing / 2
    matrices = [
        separable_filters.linear(size, start + step * np.arange(count))
        for size, start, step, count in zip(
            statistics["dwi_mean"].shape, first, steps, lattice.shape, strict=True
        )
    ]
    dwi_mean, dwi_sd, adc_mean, adc_sd = (
        np.asarray(separable_filters.apply(torch.from_numpy(statistics[name]), matrices).numpy())
        for name in ("dwi_mean", "dwi_sd", "adc_mean", "adc_sd")
    )
    return Healthy(dwi_mean, dwi_sd, adc_mean, adc_sd, n)


def box(brain: torch.Tensor, margin: int = 8) -> Box:
    """Return the bounding box of the brain with a margin for smoothing, voxels."""
    limits = []
    for axis, size in enumerate(brain.shape):
        others = tuple(a for a in range(3) if a != axis)
        seen = brain.any(dim=others[1]).any(dim=others[0]).nonzero()
        low, high = (int(seen[end]) for end in (0, -1))
        limits.append(slice(max(0, low - margin), min(size, high + 1 + margin)))
    x, y, z = limits
    return x, y, z


def smooth_in_plane(image: torch.Tensor, brain: torch.Tensor, fwhm: float) -> torch.Tensor:
    """Smooth within slices, with 0 outside the brain; see `classical.smooth_in_plane`."""
    blurs = [separable_filters.reflecting_blur(n, fwhm) for n in image.shape[:2]]
    return separable_filters.apply(image * brain, [*blurs, None])


def is_map(
    dwi: torch.Tensor, adc: torch.Tensor, brain: torch.Tensor, healthy: HealthyTensors
) -> torch.Tensor:
    """Compute the IS map (probability of ischemia); arguments and result as `classical.is_map`."""
    s = healthy.settings
    dwi = smooth_in_plane(dwi, brain, s.fwhm)
    adc = smooth_in_plane(adc, brain, s.fwhm)
    own = zscore(dwi, brain)
    bright = torch.tanh((dwi - healthy.dwi_mean) / healthy.dwi_scale).clamp_(min=0)
    dark = torch.tanh((healthy.adc_mean - adc) / healthy.adc_scale).clamp_(min=0)
    membership = bright.pow_(s.lambda_dwi) * dark.pow_(s.lambda_adc)
    ischemic = membership * (0.5 * (1 + torch.erf(own / math.sqrt(2.0))))
    return torch.where(brain & (own >= s.sigma_id), ischemic, 0.0)
