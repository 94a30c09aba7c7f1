from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.filters import threshold_otsu

from infarct.core.nifti import read
from infarct.evaluation.metrics import dice
from infarct.preprocessing.skull_strip import (
    brain_by_threshold,
    close,
    dilate,
    erode,
    find_brain,
    otsu,
)

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


def test_a_very_bright_infarct_does_not_hide_the_brain(head) -> None:
    """An infarct on the second day can be five times as bright as normal tissue."""
    side = head.brain.copy()
    side[: int(np.argwhere(head.brain)[:, 0].mean())] = False
    side[:, : int(np.argwhere(head.brain)[:, 1].mean())] = False
    dwi, b0 = head.dwi * np.where(side, 6.0, 1.0), head.b0 * np.where(side, 2.3, 1.0)
    brain = brain_by_threshold(dwi.astype(np.float32), b0.astype(np.float32), SPACING)
    assert dice(head.brain, brain) > 0.95


def test_skull_stripped_images_keep_their_mask(head) -> None:
    dwi, b0 = ((image * head.brain).astype(np.float32) for image in (head.dwi, head.b0))
    brain, method = find_brain(dwi, b0, SPACING)
    assert method == "stripped"
    assert np.array_equal(brain, head.brain)


def test_a_head_with_skull_is_not_mistaken_for_a_stripped_one(head) -> None:
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


def ball(radius: float, spacing: np.ndarray) -> np.ndarray:
    """Return the structuring element equivalent to the distance transform."""
    reach = [int(radius / step + 1e-9) for step in spacing]
    axes = np.ogrid[tuple(slice(-r, r + 1) for r in reach)]
    return sum((x * step) ** 2 for x, step in zip(axes, spacing, strict=True)) <= radius**2 + 1e-6


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 2.0, 5.0), (0.9, 1.3, 9.0)])
def test_morphology_by_distance_agrees_with_a_ball(spacing: tuple[float, float, float]) -> None:
    mm = np.array(spacing)
    noise = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(24, 26, 12)), 1.5)
    for mask in (noise > 0.05, np.pad(noise[8:16, 8:16, 4:8] > -0.1, ((8, 8), (8, 10), (4, 4)))):
        for radius in (2.0, 4.5, 8.0):
            element = ball(radius, mm)
            assert np.array_equal(dilate(mask, radius, mm), ndimage.binary_dilation(mask, element))
            assert np.array_equal(erode(mask, radius, mm), ndimage.binary_erosion(mask, element))
            closed = ndimage.binary_closing(np.pad(mask, 10), element)[10:-10, 10:-10, 10:-10]
            assert np.array_equal(close(mask, radius, mm), closed)


def test_morphology_of_empty_and_full_masks() -> None:
    nothing, everything = np.zeros((6, 6, 6), bool), np.ones((6, 6, 6), bool)
    for change in (dilate, erode, close):
        assert not change(nothing, 3.0, np.ones(3)).any()
    assert dilate(everything, 3.0, np.ones(3)).all()
    assert close(everything, 3.0, np.ones(3)).all()
    assert not erode(everything, 3.0, np.ones(3)).any()


def test_otsu_agrees_with_scikit_image() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(10, 2, 4000), rng.normal(40, 6, 1000)])
    assert otsu(values) == pytest.approx(threshold_otsu(values, nbins=256), abs=0.3)
