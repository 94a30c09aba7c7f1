"""The synthetic scanner: a record in, a scan out, and nothing drawn on the way."""

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
"""Signal, in units of white matter's b0, below which no ADC is computed: a ratio of signals could
overflow there, and one infinite voxel spoils every scan it is resampled into."""


@dataclass(frozen=True, eq=False)
class SimulatedScan:
    """Images of one head on one grid: the scanner's own, or the MNI grid.

    Attributes:
        dwi: (X, Y, Z) diffusion-weighted signal, arbitrary unit.
        b0: Same shape and unit.
        adc: Same shape, mm^2/s; computed by the scanner from its own signals.
        lesion: Same shape, bool; acute infarcts as a reader would outline them, see `reader`.
        brain: Same shape, bool; the brain as a masking tool would deliver it.
        true_brain: Same shape, bool; the brain as it is.
        record: What was drawn.
    """

    dwi: torch.Tensor
    b0: torch.Tensor
    adc: torch.Tensor
    lesion: torch.Tensor
    brain: torch.Tensor
    true_brain: torch.Tensor
    record: Record


def render(record: Record, bank: Bank, device: torch.device | str = "cpu") -> SimulatedScan:
    """Scan the head a record describes and bring it onto the MNI grid, as `prepare` would.

    For the lattice of the measured slices see `on_slices`.

    Args:
        record: What was drawn; the same record gives the same scan, bit for bit on a CPU.
        bank: Where anatomy, lesions and background come from.
        device: Where to compute.

    Returns:
        The scan on the MNI grid, (192, 224, 192).
    """
    return on_mni_grid(acquire(tissue.build(record, bank, device), record))


def on_mni_grid(native: SimulatedScan) -> SimulatedScan:
    """Bring a scan from the scanner's own grid onto the MNI grid, (192, 224, 192)."""
    return _moved(native, acquisition.bring_back)


def on_slices(native: SimulatedScan) -> SimulatedScan:
    """Bring a scan onto the lattice of its measured slices, (192, 224, K)."""
    return _moved(native, acquisition.onto_slices)


def _moved(
    native: SimulatedScan, move: Callable[[torch.Tensor, acquisition.Optics], torch.Tensor]
) -> SimulatedScan:
    lens = acquisition.optics(native.record.acquisition)
    images = (native.dwi, native.b0, native.adc)
    masks = (native.lesion, native.brain, native.true_brain)
    dwi, b0, adc = (move(image.float(), lens) for image in images)
    lesion, brain, true_brain = (move(mask.float(), lens) > 0.5 for mask in masks)
    return SimulatedScan(dwi, b0, adc, lesion, brain, true_brain, native.record)


def acquire(head: Head, record: Record) -> SimulatedScan:
    """Scan a head: the images on the scanner's own grid, `acquisition.grid`."""
    plan = record.acquisition
    lens = acquisition.optics(plan)
    weighted = head.b0 * torch.exp(head.adc * (-plan.bvalue * 1e-3))
    b0, dwi = (acquisition.see(image, lens) for image in (head.b0, weighted))
    dwi = artefacts.moved_dwi(dwi, record)
    b0, dwi = artefacts.spoil(b0, dwi, record)
    measured = (b0 > NOTHING) & (dwi > NOTHING)
    adc = torch.where(measured, torch.log(b0 / dwi) / plan.bvalue, 0.0)
    dwi = dwi * artefacts.vendor_filter(dwi, record)
    # Readers outline what shines on the DWI, so the outline moves with it.
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
