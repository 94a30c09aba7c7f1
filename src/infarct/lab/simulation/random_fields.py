"""Noise and smooth random fields that are identical on every device.

Each value is a hash of its index, the seed of the scan and the name of the field. Fields therefore
have no state and do not depend on each other, and CPU and GPU use the same noise.
"""

from __future__ import annotations

import math
import zlib

import torch

from infarct.lab.simulation import separable_filters

Shape = tuple[int, int, int]


def _mix(x: torch.Tensor) -> torch.Tensor:
    """Hash 32-bit integers (Ellis 2018, "lowbias32" of the hash prospector)."""
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * 0x7FEB352D
    x = x ^ ((x >> 15) & 0x1FFFF)
    x = x * (0x846CA68B - 2**32)
    return x ^ ((x >> 16) & 0xFFFF)


def _uniform(bits: torch.Tensor) -> torch.Tensor:
    """Convert the upper 24 bits to numbers strictly between 0 and 1."""
    return ((bits >> 8) & 0xFFFFFF).to(torch.float32).add_(0.5).mul_(2.0**-24)


def complex_noise(
    shape: Shape, seed: int, name: str, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the real and imaginary part of unit complex noise.

    Args:
        shape: Shape of each part.
        seed: Seed of the scan.
        name: Name of the field.
        device: Torch device.

    Returns:
        Two independent fields of standard normal numbers (Box and Muller 1958).
    """
    key = zlib.crc32(f"{seed}/{name}".encode())
    index = torch.arange(math.prod(shape), dtype=torch.int32, device=device)
    bits = _mix(index ^ _signed(key))
    radius = _uniform(bits).log_().mul_(-2.0).sqrt_()
    angle = _uniform(_mix(bits + _signed(0x9E3779B9))).mul_(2 * math.pi)
    return (radius * angle.cos()).reshape(shape), (radius * angle.sin()).reshape(shape)


def _signed(word: int) -> int:
    """Convert an unsigned 32-bit word to a signed integer."""
    return word - 2**32 if word >= 2**31 else word


def normal(shape: Shape, seed: int, name: str, device: torch.device | str = "cpu") -> torch.Tensor:
    """Draw standard normal numbers; arguments as for `complex_noise`."""
    return complex_noise(shape, seed, name, device)[0]


def smooth(
    shape: Shape,
    distance: float | tuple[float, float, float],
    seed: int,
    name: str,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Draw a smooth field with mean 0 and SD of about 1.

    Args:
        shape: Shape of the field, voxels.
        distance: Distance between independent values, voxels; one value, or one per axis.
        seed: Seed of the scan.
        name: Name of the field.
        device: Torch device.
    """
    distances = distance if isinstance(distance, tuple) else (distance,) * 3
    matrices = [separable_filters.spline(n, d) for n, d in zip(shape, distances, strict=True)]
    x, y, z = (m.shape[1] for m in matrices)
    return separable_filters.apply(normal((x, y, z), seed, name, device), matrices)
