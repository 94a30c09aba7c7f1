from pathlib import Path

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from infarct.brain import ball, brain_by_threshold, find_brain, otsu
from infarct.evaluation.metrics import dice
from infarct.volume import read

SPACING = np.array([2.0, 2.0, 5.0])


def test_painted_brain_is_found_without_its_scalp(head) -> None:
    brain = brain_by_threshold(head.dwi.astype(np.float32), head.b0.astype(np.float32), SPACING)
    assert dice(head.brain, brain) > 0.97


def test_coil_shading_does_not_cut_the_brain(head) -> None:
    x = np.linspace(-1, 1, head.dwi.shape[0])[:, None, None]
    shading = np.exp(0.7 * x)
    brain = brain_by_threshold(
        (head.dwi * shading).astype(np.float32), (head.b0 * shading).astype(np.float32), SPACING
    )
    assert dice(head.brain, brain) > 0.95


def test_half_a_hemisphere_that_outshines_the_brain_does_not_hide_it(head) -> None:
    """As an infarct does on the second day: five times as bright as what is well."""
    side = head.brain.copy()
    side[: int(np.argwhere(head.brain)[:, 0].mean())] = False
    side[:, : int(np.argwhere(head.brain)[:, 1].mean())] = False
    dwi, b0 = head.dwi * np.where(side, 6.0, 1.0), head.b0 * np.where(side, 2.3, 1.0)
    brain = brain_by_threshold(dwi.astype(np.float32), b0.astype(np.float32), SPACING)
    assert dice(head.brain, brain) > 0.95


def test_stripped_images_keep_the_outline_they_came_with(head) -> None:
    dwi, b0 = ((image * head.brain).astype(np.float32) for image in (head.dwi, head.b0))
    brain, method = find_brain(dwi, b0, SPACING)
    assert method == "stripped"
    assert np.array_equal(brain, head.brain)


def test_a_whole_head_is_not_taken_for_a_stripped_one(head) -> None:
    _, method = find_brain(head.dwi.astype(np.float32), head.b0.astype(np.float32), SPACING)
    assert method == "threshold"


def test_an_empty_image_has_no_brain() -> None:
    nothing = np.zeros((32, 32, 8), np.float32)
    assert not brain_by_threshold(nothing, nothing, SPACING).any()


def test_agrees_with_the_mask_of_the_papers_tool(real_data: Path) -> None:
    scan = real_data / "real" / "ads-subject02"
    dwi, b0 = read(scan / "dwi.nii.gz"), read(scan / "b0.nii.gz")
    reference = read(scan / "brain_ads.nii.gz").data > 0.5
    brain = brain_by_threshold(dwi.data, b0.data, dwi.grid.spacing)
    assert dice(reference, brain) > 0.92


def test_ball_is_round_in_mm_and_flat_on_thick_slices() -> None:
    assert ball(4.0, np.array([2.0, 2.0, 5.0])).shape == (5, 5, 1)
    round_one = ball(3.0, np.ones(3))
    assert round_one.shape == (7, 7, 7)
    assert not round_one[0, 0, 0]
    assert round_one[3, 3, 0]


def test_otsu_agrees_with_scikit_image() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(10, 2, 4000), rng.normal(40, 6, 1000)])
    assert otsu(values) == pytest.approx(threshold_otsu(values, nbins=256), abs=0.3)
