"""Simulated manual segmentation."""

import pytest
import torch

from infarct.lab.simulation.reader_outline import (
    FAINTEST,
    LARGE_ML,
    SMALL_ML,
    Seen,
    outlined,
    outlined_from,
)
from infarct.lab.simulation.scan_parameters import Habit

SHAPE = (60, 60, 8)
HABIT = Habit(small=0.15, large=0.15)


def outline(share: torch.Tensor, dwi: torch.Tensor, adc: torch.Tensor, brain: torch.Tensor):
    """Segment on 1 mm voxels with one reader threshold for all volumes."""
    return outlined(share, Seen(dwi, adc, brain, (1.0, 1.0, 1.0)), HABIT)


def outline_of(gain: float, dwi: torch.Tensor | None = None, **changes: torch.Tensor):
    """Segment a square infarct, 8 voxels wide on two slices, with a DWI ratio of `gain`."""
    share = torch.zeros(SHAPE)
    share[26:34, 26:34, 3:5] = 1.0
    dwi = torch.full(SHAPE, 100.0) if dwi is None else dwi
    adc = changes.get("adc", torch.full(SHAPE, 0.8e-3))
    brain = changes.get("brain", torch.ones(SHAPE, dtype=torch.bool))
    return outline(share, dwi * (1 + (gain - 1) * share), adc, brain), share > 0.5


@pytest.mark.parametrize("gain", [FAINTEST + 0.01, 2.5])
def test_visible_infarct_is_segmented_completely(gain):
    found, true = outline_of(gain)
    assert torch.equal(found, true)


@pytest.mark.parametrize("gain", [0.7, 1.0, FAINTEST - 0.01])
def test_invisible_infarct_is_not_segmented(gain):
    found, _ = outline_of(gain)
    assert not found.any()


def test_shading_does_not_change_visibility():
    shade = torch.linspace(0.3, 3.0, SHAPE[0])[:, None, None].expand(SHAPE) * 100
    assert outline_of(1.3, shade)[0].any()
    assert not outline_of(1.1, shade)[0].any()


def test_fluid_and_voxels_outside_the_brain_are_no_reference():
    dark = torch.full(SHAPE, 100.0)
    dark[:, :30] = 10.0
    fluid = torch.full(SHAPE, 0.8e-3)
    fluid[:, :30] = 3e-3
    assert not outline_of(1.1, dark, adc=fluid)[0].any()
    brain = torch.ones(SHAPE, dtype=torch.bool)
    brain[:, :30] = False
    assert not outline_of(1.1, dark, brain=brain)[0].any()


def test_visibility_is_determined_for_each_part():
    share, dwi = torch.zeros(SHAPE), torch.full(SHAPE, 100.0)
    share[10:16, 10:16, 2] = share[40:46, 40:46, 5] = 1.0
    dwi[10:16, 10:16, 2] = 150.0
    dwi[40:46, 40:46, 5] = 105.0
    everywhere = torch.ones(SHAPE, dtype=torch.bool)
    found = outline(share, dwi, torch.full(SHAPE, 0.8e-3), everywhere)
    assert found[10:16, 10:16, 2].all()
    assert found.sum() == 36


@pytest.mark.parametrize(("first", "outlined_too"), [(1.5, True), (1.15, False)])
def test_fainter_part_is_segmented_if_another_part_is_visible(first, outlined_too):
    share, dwi = torch.zeros(SHAPE), torch.full(SHAPE, 100.0)
    share[10:16, 10:16, 2] = share[40:46, 40:46, 5] = 1.0
    dwi[10:16, 10:16, 2] = 100 * first
    dwi[40:46, 40:46, 5] = 115.0
    everywhere = torch.ones(SHAPE, dtype=torch.bool)
    found = outline(share, dwi, torch.full(SHAPE, 0.8e-3), everywhere)
    assert bool(found[40:46, 40:46, 5].all()) == outlined_too
    assert found.any() == outlined_too


def test_sulcal_fluid_within_the_lesion_is_ignored():
    share, dwi, adc = torch.zeros(SHAPE), torch.full(SHAPE, 100.0), torch.full(SHAPE, 0.8e-3)
    share[20:32, 20:32, 3] = 1.0
    dwi[20:32, 20:32, 3] = 130.0
    dwi[20:32:2, 20:32, 3], adc[20:32:2, 20:32, 3] = 20.0, 3e-3
    everywhere = torch.ones(SHAPE, dtype=torch.bool)
    assert outline(share, dwi, adc, everywhere).sum() == 144


def test_lesion_thinner_than_a_slice_is_segmented_at_its_maximum():
    share = torch.zeros(SHAPE)
    share[20:24, 20:24, 3] = 0.3
    share[20:24, 24, 3] = 0.1
    dwi = torch.full(SHAPE, 100.0) + 150 * share
    everywhere = torch.ones(SHAPE, dtype=torch.bool)
    found = outline(share, dwi, torch.full(SHAPE, 0.8e-3), everywhere)
    assert torch.equal(found, share > 0.2)


def test_infarct_without_reference_tissue_counts_as_visible():
    brain = torch.zeros(SHAPE, dtype=torch.bool)
    brain[26:34, 26:34, 3:5] = True
    assert outline_of(1.0, brain=brain)[0].any()


def test_no_infarct_gives_an_empty_mask():
    flat = torch.ones(SHAPE)
    assert not outline(flat * 0, flat, flat * 0.8e-3, flat > 0).any()


def a_wedge(width: int, depth: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the infarct fraction and DWI of a block with a linear edge over ten columns."""
    share = torch.zeros(SHAPE)
    share[10:20, 10 : 10 + width, 2 : 2 + depth] = 1.0
    share[20:30, 10 : 10 + width, 2 : 2 + depth] = torch.linspace(0.95, 0.05, 10)[:, None, None]
    return share, torch.full(SHAPE, 100.0) * (1 + share)


def test_small_foci_include_partial_volume_and_large_infarcts_do_not():
    everywhere, adc = torch.ones(SHAPE, dtype=torch.bool), torch.full(SHAPE, 0.8e-3)
    habit = Habit(small=0.15, large=0.5)
    for spacing, level in (((0.4, 0.4, 0.4), 0.15), ((5.0, 5.0, 5.0), 0.5)):
        share, dwi = a_wedge(6, 3)
        found = outlined(share, Seen(dwi, adc, everywhere, spacing), habit)
        assert torch.equal(found, share >= level)


def test_threshold_depends_on_the_volume_of_each_part():
    share, dwi = a_wedge(40, 4)
    share[50, 50, 6], share[50, 51, 6] = 1.0, 0.2
    dwi = 100 * (1 + share)
    everywhere, adc = torch.ones(SHAPE, dtype=torch.bool), torch.full(SHAPE, 0.8e-3)
    found = outlined(share, Seen(dwi, adc, everywhere, (2.0, 2.0, 4.0)), Habit(0.15, 0.5))
    assert found[50, 51, 6]
    assert torch.equal(found[:40], (share >= 0.5)[:40])


def test_threshold_is_linear_in_the_logarithm_of_the_volume():
    habit = Habit(small=0.2, large=0.4)
    assert outlined_from(SMALL_ML / 9, habit) == habit.small
    assert outlined_from(LARGE_ML * 9, habit) == habit.large
    assert outlined_from((SMALL_ML * LARGE_ML) ** 0.5, habit) == pytest.approx(0.3)
