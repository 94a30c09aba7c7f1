"""The measured-slice lattice: slice positions and mirror-symmetric boxes."""

from __future__ import annotations

import numpy as np
import pytest

from infarct.core.geometry import Grid
from infarct.core.nifti import Volume
from infarct.inference.network import Contract, Network
from infarct.preprocessing.preprocess import restore
from infarct.segmentation.measured_lattice import (
    SIDES,
    MeasuredSlices,
    brain_box,
    lattice,
    lesion_probability,
    measured_slices,
    spacing_value,
)


def plane(spacing: tuple[float, float, float], axis: int, flipped: bool) -> np.ndarray:
    """Return a voxel -> MNI transform with slices along one voxel axis and an in-plane rotation."""
    order = [a for a in range(3) if a != axis]
    affine = np.eye(4)
    affine[:3, :3] = 0
    turn = np.deg2rad(7)
    affine[0, order[0]], affine[1, order[0]] = spacing[0] * np.cos(turn), spacing[0] * np.sin(turn)
    affine[0, order[1]], affine[1, order[1]] = -spacing[1] * np.sin(turn), spacing[1] * np.cos(turn)
    affine[2, axis] = -spacing[2] if flipped else spacing[2]
    affine[:3, 3] = (-70, -100, 83.7 if flipped else -41.3)
    return affine


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("flipped", [False, True])
def test_lattice_slices_are_at_the_measured_positions(axis: int, flipped: bool) -> None:
    affine = plane((1.2, 1.2, 5.0), axis, flipped)
    shape = tuple(26 if a == axis else 120 for a in range(3))
    grid = lattice(affine, shape)
    voxels = np.zeros((4, 26))
    voxels[axis], voxels[3] = np.arange(26), 1
    measured = np.sort((affine @ voxels)[2])
    assert grid.shape == (192, 224, 26)
    np.testing.assert_allclose(grid.affine[2, 3] + grid.affine[2, 2] * np.arange(26), measured)


def test_thin_slices_are_subsampled_and_slices_outside_the_grid_omitted() -> None:
    grid = lattice(plane((1.0, 1.0, 1.0), 2, False), (120, 120, 100))
    assert grid.affine[2, 2] == 2.0
    assert grid.shape[2] == 50
    tall = lattice(plane((1.0, 1.0, 5.0), 2, False), (120, 120, 100))
    assert tall.affine[2, 3] + 5.0 * (tall.shape[2] - 1) <= 113.5


def test_reversing_x_mirrors_the_lattice_at_the_midplane() -> None:
    grid = lattice(plane((1.0, 1.0, 5.0), 2, False), (120, 120, 20))
    x = grid.affine[0, 3] + np.arange(grid.shape[0])
    np.testing.assert_array_equal(x[::-1], -x)


def test_brain_box_is_symmetric_and_contains_the_brain() -> None:
    brain = np.zeros((192, 224, 31), bool)
    brain[40:120, 21:199, 3:29] = True
    x, y, z = brain_box(brain)
    assert brain[x, y, z].sum() == brain.sum()
    assert x.start + x.stop == 192
    assert (x.stop - x.start) % SIDES[0] == (y.stop - y.start) % SIDES[1] == 0
    assert (z.start, z.stop) == (3, 29)


def test_brain_box_of_an_empty_mask_is_the_whole_lattice() -> None:
    assert brain_box(np.zeros((192, 224, 9), bool)) == (slice(0, 192), slice(0, 224), slice(0, 9))


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
