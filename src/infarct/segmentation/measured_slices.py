"""A scan on its measured slices, and the networks that read it there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infarct.core.diffusion import Image, Mask
from infarct.core.geometry import Grid
from infarct.core.nifti import Volume
from infarct.core.resampling import resample
from infarct.inference.network import Network
from infarct.preprocessing.case import Case
from infarct.preprocessing.preprocess import Prepared
from infarct.preprocessing.registration import Registration
from infarct.segmentation.controls import healthy_on
from infarct.segmentation.measured_lattice import (
    SIDES,
    brain_box,
    lattice,
    network_input,
    spacing_value,
)


@dataclass(frozen=True, eq=False)
class MeasuredSlices:
    """A scan on its measured-slice lattice; K is the number of slices.

    Attributes:
        grid: The lattice, (192, 224, K).
        dwi: (192, 224, K) signal.
        adc: Same shape, mm^2/s.
        brain: Same shape, bool.
        channels: (3, 192, 224, K) output of `network_input`; its last channel is the IS map.
    """

    grid: Grid
    dwi: Image
    adc: Image
    brain: Mask
    channels: NDArray[np.float32]

    @property
    def is_map(self) -> Volume:
        """The modified c-fuzzy map."""
        return Volume(self.channels[2], self.grid.affine)


def measured_slices(case: Case, prepared: Prepared) -> MeasuredSlices:
    """Read the slices of a scan on the lattice.

    Args:
        case: The scan.
        prepared: The preprocessed scan, for its registration and brain mask.
    """
    registration = prepared.registration
    grid = lattice(registration.mni_from_voxel, case.dwi.grid.shape)
    dwi, adc, brain = (
        onto_slices(image, case, registration, grid)
        for image in (case.dwi.data, case.adc.data, prepared.brain_native.astype(np.float32))
    )
    inside: Mask = brain >= 0.5
    channels = network_input(dwi, adc, inside, healthy_on(grid))
    return MeasuredSlices(grid, dwi, adc, inside, channels)


def onto_slices(image: Image, case: Case, registration: Registration, grid: Grid) -> Image:
    """Interpolate an image onto the lattice, within slices only.

    Args:
        image: (X, Y, Z) on the grid of the DWI.
        case: The scan.
        registration: Registration of the scan.
        grid: Lattice of the scan.
    """
    return resample(case.dwi.like(image), grid, np.linalg.inv(registration.mni_from_native))


def lesion_probability(network: Network, slices: MeasuredSlices) -> Volume:
    """Run a network for measured slices once over the brain.

    Args:
        network: A network whose contract has `slices`.
        slices: The scan.

    Returns:
        (192, 224, K) probability on the lattice, exactly 0 outside the brain.
    """
    images = dict(zip(("DWI", "ADC", "IS"), slices.channels, strict=True))
    images["spacing"] = slices.brain * np.float32(spacing_value(float(slices.grid.spacing[2])))
    x, y, z = brain_box(slices.brain)
    box = np.stack([images[name][x, y, z] for name in network.contract.channels])
    depth = box.shape[-1]
    box = np.pad(box, [(0, 0)] * 3 + [(0, -depth % SIDES[2])])
    probability = np.zeros(slices.grid.shape, np.float32)
    probability[x, y, z] = network.run(box[None])[0, 0, ..., :depth]
    return Volume(np.where(slices.brain, probability, np.float32(0)), slices.grid.affine)
