"""The synthetic scanner: a deterministic function from a record to a scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from infarct.lab.simulation import acquisition, artefacts, tissue
from infarct.lab.simulation.reader_outline import Seen, outlined
from infarct.lab.simulation.scan_parameters import Record
from infarct.lab.simulation.tissue import Head
from infarct.lab.sources.bank import Bank

NOTHING = 1e-6
"""Signal, relative to b0 of white matter, below which the ADC is set to 0. The signal ratio could
overflow, and resampling would spread infinite values."""


@dataclass(frozen=True, eq=False)
class SimulatedScan:
    """Images of one head on one grid (native, MNI or measured slices).

    Attributes:
        dwi: (X, Y, Z) diffusion-weighted signal, arbitrary unit.
        b0: Same shape and unit.
        adc: Same shape, mm^2/s; computed from the noisy signals, as on a scanner.
        lesion: Same shape, bool; acute infarcts as segmented by a reader, see `reader_outline`.
        brain: Same shape, bool; brain mask with the errors of skull-stripping.
        true_brain: Same shape, bool; true brain mask.
        record: Parameters of the scan.
    """

    dwi: torch.Tensor
    b0: torch.Tensor
    adc: torch.Tensor
    lesion: torch.Tensor
    brain: torch.Tensor
    true_brain: torch.Tensor
    record: Record


def render(record: Record, bank: Bank, device: torch.device | str = "cpu") -> SimulatedScan:
    """Simulate the scan of a record and resample it to the MNI grid, as preprocessing does.

    For the measured-slice lattice, see `on_slices`.

    Args:
        record: Parameters of the scan. On a CPU, the same record gives bitwise identical scans.
        bank: Source of anatomy, lesion masks and background.
        device: Torch device.

    Returns:
        The scan on the MNI grid, (192, 224, 192).
    """
    return on_mni_grid(acquire(tissue.build(record, bank, device), record))


def on_mni_grid(native: SimulatedScan) -> SimulatedScan:
    """Resample a scan from the native grid to the MNI grid, (192, 224, 192)."""
    return _resampled(native, acquisition.bring_back)


def on_slices(native: SimulatedScan) -> SimulatedScan:
    """Resample a scan from the native grid to the measured-slice lattice, (192, 224, K)."""
    return _resampled(native, acquisition.onto_slices)


def _resampled(
    native: SimulatedScan, move: Callable[[torch.Tensor, acquisition.Optics], torch.Tensor]
) -> SimulatedScan:
    lens = acquisition.optics(native.record.acquisition)
    images = (native.dwi, native.b0, native.adc)
    masks = (native.lesion, native.brain, native.true_brain)
    dwi, b0, adc = (move(image.float(), lens) for image in images)
    lesion, brain, true_brain = (move(mask.float(), lens) > 0.5 for mask in masks)
    return SimulatedScan(dwi, b0, adc, lesion, brain, true_brain, native.record)


def acquire(head: Head, record: Record) -> SimulatedScan:
    """Simulate the acquisition of a head.

    Returns:
        The scan on the native grid, see `acquisition.grid`.
    """
    plan = record.acquisition
    lens = acquisition.optics(plan)
    weighted = head.b0 * torch.exp(head.adc * (-plan.bvalue * 1e-3))
    b0, dwi = (acquisition.see(image, lens) for image in (head.b0, weighted))
    dwi = artefacts.moved_dwi(dwi, record)
    b0, dwi = artefacts.spoil(b0, dwi, record)
    measured = (b0 > NOTHING) & (dwi > NOTHING)
    adc = torch.where(measured, torch.log(b0 / dwi) / plan.bvalue, 0.0)
    dwi = dwi * artefacts.vendor_filter(dwi, record)
    # Readers segment on DWI, so the lesion moves with the DWI.
    share = artefacts.moved_dwi(acquisition.see(head.lesion, lens), record)
    soft_brain = acquisition.see(head.brain, lens)
    true_brain = soft_brain > 0.5
    spacing = (*plan.in_plane_mm, plan.spacing_mm)
    brain = artefacts.mistaken_brain(soft_brain, record)
    return SimulatedScan(
        dwi=dwi,
        b0=b0,
        adc=adc,
        lesion=outlined(share, Seen(dwi, adc, true_brain, spacing), record.habit),
        brain=brain,
        true_brain=true_brain,
        record=record,
    )
