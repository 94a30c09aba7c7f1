"""Lesion-free synthetic scans."""

from __future__ import annotations

import numpy as np

from infarct.lab.simulation.controls import lesion_free_scans
from infarct.lab.sources.bank import Bank


def test_scans_are_whole_brains_with_normal_tissue_at_zero(bank: Bank) -> None:
    (scan,) = lesion_free_scans(bank, 1, seed=3)
    assert scan.brain.sum() >= 800_000
    for image in (scan.dwi, scan.adc):
        # The tissue peak lies at 0; the median of the brain is near it.
        assert abs(float(np.median(image[scan.brain]))) < 1.0
