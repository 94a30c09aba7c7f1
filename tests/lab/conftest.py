"""The bank that needs no data, made once, and scans too small to be heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infarct.lab.simulation.scanner import SimulatedScan
from infarct.lab.sources.bank import Bank
from infarct.segmentation.classical import Healthy

_SHAPE = (40, 44, 12)


@pytest.fixture(scope="session")
def bank(once) -> Bank:
    """One ICBM head, no real lesions, no backgrounds."""
    return once("bank", lambda _: Bank.from_icbm())


@pytest.fixture(scope="session")
def painted_scans() -> list[SimulatedScan]:
    """Six small scans, every third without a lesion, each with a bright spot that is none."""
    return [_paint(number) for number in range(6)]


@pytest.fixture(scope="session")
def painted_healthy() -> Healthy:
    """Healthy statistics for the painted scans."""
    rng = np.random.default_rng(6)
    means = rng.normal(0, 0.3, (2, *_SHAPE)).astype(np.float32)
    sds = rng.uniform(0.6, 1.4, (2, *_SHAPE)).astype(np.float32)
    return Healthy(means[0], sds[0], means[1], sds[1], n=20)


def _paint(number: int) -> SimulatedScan:
    rng = np.random.default_rng([7, number])
    x, y, z = np.indices(_SHAPE)
    brain = ((x - 20) / 16) ** 2 + ((y - 22) / 18) ** 2 + ((z - 6) / 5) ** 2 < 1
    lesion = np.zeros(_SHAPE, bool)
    if number % 3 < 2:
        lesion[8 : 12 + number, 14:20, 4:7] = True
    shine = np.zeros(_SHAPE, bool)
    shine[24:28, 24:28, 5:7] = True
    dwi = rng.normal(100, 10, _SHAPE) + (15 + 8 * number) * lesion + 50 * shine
    adc = rng.normal(0.8e-3, 0.05e-3, _SHAPE) - 0.12e-3 * lesion - 0.05e-3 * shine
    images = [torch.from_numpy(image.astype(np.float32)) for image in (dwi, dwi, adc)]
    masks = [torch.from_numpy(mask) for mask in (lesion, brain, brain)]
    return SimulatedScan(*images, *masks, record=None)
