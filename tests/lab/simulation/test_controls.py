"""Lesion-free synthetic scans."""

from __future__ import annotations

import numpy as np

from infarct.lab.simulation.controls import lesion_free_scans
from infarct.lab.sources.bank import Bank


def test_scans_cover_the_brain_and_are_normalised(bank: Bank) -> None:
    (scan,) = lesion_free_scans(bank, 1, seed=3)
    assert scan.brain.sum() >= 800_000
    for image in (scan.dwi, scan.adc):
        # The tissue peak is at 0, and the median of the brain is close to it.
        assert abs(float(np.median(image[scan.brain]))) < 1.0
