"""Lesion-free synthetic scans for the healthy statistics of the classical methods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from infarct.core.normalisation import fit_tissue_peak, normalise
from infarct.lab.simulation import sampling, scanner
from infarct.lab.simulation.cohort import load_cohort
from infarct.lab.sources.bank import Bank
from infarct.lab.sources.templates import LesionFree

_WHOLE_BRAIN = 800_000
"""Voxels of 1 mm; scans with less brain have incomplete coverage and are skipped."""


def lesion_free_scans(bank: Bank, count: int, seed: int) -> Iterator[LesionFree]:
    """Simulate lesion-free scans, normalised as in preprocessing.

    Scans are drawn from the training split. Real backgrounds are not used here because they are
    added to the statistics directly.

    Args:
        bank: Source of anatomies.
        count: Number of scans.
        seed: Seed of the series.

    Yields:
        Scans on the MNI grid.
    """
    cohort = replace(load_cohort("training"), lesion_free=1.0, real_background=0.0)
    made = index = 0
    while made < count:
        scan = scanner.render(sampling.draw(cohort, bank, seed, index), bank)
        index += 1
        brain, dwi, adc = scan.brain.numpy(), scan.dwi.numpy(), scan.adc.numpy()
        if brain.sum() < _WHOLE_BRAIN:
            continue
        made += 1
        yield LesionFree(
            name=f"synthetic-{seed}-{index - 1}",
            dwi=normalise(dwi, fit_tissue_peak(dwi, brain)),
            adc=normalise(adc, fit_tissue_peak(adc, brain)),
            brain=brain,
        )
