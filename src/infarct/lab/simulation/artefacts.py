"""Simulate artefacts: shading, motion, ghosts, spikes, noise, and errors of the brain mask."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from infarct.lab.simulation import acquisition, random_fields, separable_filters, warp
from infarct.lab.simulation.random_fields import Shape
from infarct.lab.simulation.scan_parameters import Record
from infarct.lab.sources.tissue_classes import Tissue


def _shape(image: torch.Tensor) -> Shape:
    x, y, z = image.shape
    return x, y, z


def _smooth(image: torch.Tensor, distance_mm: float, record: Record, name: str) -> torch.Tensor:
    """Draw a smooth random field on the native grid."""
    x, y = record.acquisition.in_plane_mm
    steps = (distance_mm / x, distance_mm / y, distance_mm / record.acquisition.spacing_mm)
    return random_fields.smooth(_shape(image), steps, record.seed, name, image.device)


def spoil(b0: torch.Tensor, dwi: torch.Tensor, record: Record) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply artefacts and noise to clean signals.

    Args:
        b0: (X, Y, Z), native grid.
        dwi: Same shape.
        record: Parameters of the scan.

    Returns:
        Magnitude images of b0 and DWI, same shape.
    """
    settings, plan = record.artefacts, record.acquisition
    forward = warp.target_from_source(record.pose)
    log_gain = warp.hills(settings.coils, forward, b0.device, acquisition.positions(plan))
    log_gain += settings.shading * _smooth(b0, settings.shading_mm, record, "shading")
    gain = log_gain.exp_()
    b0, dwi = b0 * gain, dwi * gain
    dwi = dwi * _slice_gain(dwi, record)[None, None, :]
    for index, dx, dy in settings.moved_slices:
        dwi[:, :, index] = torch.roll(dwi[:, :, index], (dx, dy), (0, 1))
    if settings.ghost:
        half = dwi.shape[1] // 2
        b0, dwi = (s + settings.ghost * torch.roll(s, half, 1) for s in (b0, dwi))
    white = record.contrast.b0[Tissue.WHITE] * math.exp(
        -plan.bvalue * 1e-3 * record.contrast.adc[Tissue.WHITE]
    )
    sd = white / plan.snr
    if settings.spike:
        _spike(dwi, settings.spike, sd)
    return _rician(b0, sd * plan.b0_noise, record, "b0"), _rician(dwi, sd, record, "dwi")


def moved_dwi(image: torch.Tensor, record: Record) -> torch.Tensor:
    """Apply the misalignment of DWI relative to b0 due to motion and eddy currents.

    At tissue borders, the computed ADC is then too low on one side and too high on the other.

    Args:
        image: (X, Y, Z), native grid.
        record: Parameters of the scan.
    """
    matrices: list[NDArray[np.float64] | None] = []
    stretches = (0.0, record.artefacts.dwi_stretch)
    for size, step, shift, stretch in zip(
        image.shape[:2],
        record.acquisition.in_plane_mm,
        record.artefacts.dwi_shift_mm,
        stretches,
        strict=True,
    ):
        at = np.arange(float(size))
        at = at - shift / step - stretch * (at - (size - 1) / 2)
        matrices.append(separable_filters.linear(size, np.clip(at, 0, size - 1)))
    return separable_filters.apply(image, [*matrices, None])


def _slice_gain(dwi: torch.Tensor, record: Record) -> torch.Tensor:
    """Return the gain of each DWI slice from uneven excitation and motion-related signal loss."""
    settings = record.artefacts
    gain = (
        1
        + settings.slice_gain
        * random_fields.normal((1, 1, dwi.shape[2]), record.seed, "slices").flatten()
    )
    for index, left in settings.dropped:
        gain[index] *= left
    return gain.to(dwi.device)


def _spike(dwi: torch.Tensor, spike: tuple[int, int, int, float], sd: float) -> None:
    """Add the herringbone pattern of one k-space spike to a slice, in place."""
    index, across, along, height = spike
    x, y, _ = dwi.shape
    phase_x = torch.arange(x, device=dwi.device) * (2 * math.pi * across / x)
    phase_y = torch.arange(y, device=dwi.device) * (2 * math.pi * along / y)
    dwi[:, :, index] += height * sd * torch.cos(phase_x[:, None] + phase_y[None, :])


def _rician(signal: torch.Tensor, sd: float, record: Record, name: str) -> torch.Tensor:
    """Add complex noise and take the magnitude (Gudbjartsson and Patz 1995)."""
    real, imaginary = random_fields.complex_noise(_shape(signal), record.seed, name, signal.device)
    return torch.hypot(signal + sd * real, imaginary.mul_(sd))


def vendor_filter(dwi: torch.Tensor, record: Record) -> torch.Tensor:
    """Return the gain of a vendor's shading correction that affects DWI but not b0, (X, Y, Z)."""
    field = _smooth(dwi, 60.0, record, "filter")
    return field.mul_(record.artefacts.filter_difference).exp_()


def mistaken_brain(soft: torch.Tensor, record: Record) -> torch.Tensor:
    """Return the brain mask as produced by skull-stripping, smooth and with local errors.

    Args:
        soft: (X, Y, Z), 0 to 1; the border of the brain is at 0.5.
        record: Parameters of the scan.

    Returns:
        (X, Y, Z) bool.
    """
    settings = record.artefacts
    wobble = _smooth(soft, 14.0, record, "mask").mul_(settings.mask_wobble)
    forward = warp.target_from_source(record.pose)
    leaks = warp.hills(
        settings.leaks, forward, soft.device, acquisition.positions(record.acquisition)
    )
    level = wobble.add_(settings.mask_level).clamp_(0.08, 0.92)
    return soft + leaks > level
