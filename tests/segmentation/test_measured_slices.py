"""A scan on its measured slices, and back on its own voxels."""

import numpy as np
import pytest

from infarct.core.geometry import Grid
from infarct.core.nifti import Volume
from infarct.inference.network import Contract, Network
from infarct.preprocessing.preprocess import restore
from infarct.segmentation.measured_lattice import spacing_value
from infarct.segmentation.measured_slices import (
    MeasuredSlices,
    lesion_probability,
    measured_slices,
)


class Recorder:
    """An engine that returns one of its input channels and keeps the shape of its input."""

    def __init__(self, channel: int) -> None:
        self.channel = channel
        self.shape: tuple[int, ...] = ()

    def run(self, image: np.ndarray) -> np.ndarray:
        """Return one channel of a batch."""
        self.shape = image.shape
        return image[:, [self.channel]]


@pytest.mark.parametrize("name", ["DWI", "ADC", "IS", "spacing"])
def test_the_network_reads_each_named_channel_in_the_box_of_the_brain(name: str) -> None:
    rng = np.random.default_rng(0)
    grid = Grid((192, 224, 21), np.diag([1.0, 1.0, 6.0, 1.0]))
    brain = np.zeros(grid.shape, bool)
    brain[40:130, 50:170, 3:16] = True
    channels = rng.random((3, *grid.shape)).astype(np.float32)
    slices = MeasuredSlices(grid, channels[0], channels[1], brain, channels)
    order = ("IS", "spacing", "DWI", "ADC")
    contract = Contract("Test", "lesion", order, (False,) * 4, 16, slices=True)
    engine = Recorder(order.index(name))
    answer = lesion_probability(Network(contract, engine, ""), slices)
    images = {"DWI": channels[0], "ADC": channels[1], "IS": channels[2]}
    expected = images.get(name, np.full(grid.shape, spacing_value(6.0), np.float32))
    np.testing.assert_array_equal(answer.data, np.where(brain, expected, 0))
    np.testing.assert_array_equal(answer.affine, grid.affine)
    # 13 slices with brain are padded to 16; the box is symmetric about x = 0.
    assert engine.shape == (1, 4, 112, 128, 16)


def test_slices_of_a_scan_return_to_their_own_voxels(segmentation) -> None:
    case, prepared = segmentation.case, segmentation.prepared
    slices = measured_slices(case, prepared)
    heights = slices.grid.affine[2, 3] + slices.grid.spacing[2] * np.arange(slices.grid.shape[2])
    mni_from_voxel = prepared.registration.mni_from_voxel
    measured = mni_from_voxel[2, 3] + mni_from_voxel[2, 2] * np.arange(case.dwi.data.shape[2])
    assert np.allclose(heights, measured[: len(heights)], atol=1e-6)
    back = restore(Volume(slices.dwi, slices.grid.affine), case, prepared.registration)
    inside = prepared.brain_native
    # A smooth head is interpolated twice within its slices and never between them.
    assert np.corrcoef(back[inside], case.dwi.data[inside])[0, 1] > 0.98
    profile = [
        [image[:, :, z][inside[:, :, z]].mean() for z in np.flatnonzero(inside.any(axis=(0, 1)))]
        for image in (back, case.dwi.data)
    ]
    np.testing.assert_allclose(*profile, rtol=0.02)
