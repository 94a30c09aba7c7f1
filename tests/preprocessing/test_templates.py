import numpy as np
from scipy import ndimage

from infarct.core.geometry import MNI_GRID
from infarct.preprocessing.templates import TEMPLATE_GRID, load_template
from infarct.segmentation.controls import load_healthy


def test_template_voxels_cover_blocks_of_the_mni_grid() -> None:
    first_block = MNI_GRID.affine @ np.array([0.5, 0.5, 0.5, 1])
    assert np.allclose(TEMPLATE_GRID.affine @ np.array([0, 0, 0, 1]), first_block)
    assert tuple(2 * n for n in TEMPLATE_GRID.shape) == MNI_GRID.shape


def test_the_template_is_one_brain_with_bright_ventricles() -> None:
    template = load_template()
    _, pieces = ndimage.label(template.brain)
    assert pieces == 1
    assert 1.5e6 < template.brain_at_1mm.sum() < 2.1e6  # mm^3; the ICBM brain is a large one
    ventricle = np.linalg.inv(TEMPLATE_GRID.affine) @ [8, -30, 18, 1]  # beside the midline
    i, j, k = np.round(ventricle[:3]).astype(int)
    assert template.b0.data[i - 3 : i + 4, j - 3 : j + 4, k].max() > 2.0


def test_healthy_statistics_are_usable_everywhere_in_the_brain() -> None:
    healthy, brain = load_healthy(), load_template().brain_at_1mm
    for image in (healthy.dwi_mean, healthy.dwi_sd, healthy.adc_mean, healthy.adc_sd):
        assert image.shape == MNI_GRID.shape
        assert np.isfinite(image).all()
    assert healthy.dwi_sd[brain].min() > 0
    assert healthy.adc_sd[brain].min() > 0
    assert healthy.n >= 4


def test_fluid_is_dark_on_dwi_and_high_on_adc() -> None:
    healthy, template = load_healthy(), load_template()
    fluid = np.repeat(np.repeat(np.repeat(template.b0.data > 2.2, 2, axis=0), 2, axis=1), 2, axis=2)
    white = load_template().brain_at_1mm & ~fluid
    assert healthy.adc_mean[fluid].mean() > healthy.adc_mean[white].mean() + 3
    assert healthy.dwi_mean[fluid].mean() < healthy.dwi_mean[white].mean()


def test_healthy_statistics_are_the_same_on_both_sides_of_the_midline() -> None:
    mean = load_healthy().dwi_mean
    apart = np.abs(mean - np.roll(mean[::-1], 1, axis=0))  # voxel 96 is x = 0
    shifted = np.abs(mean - np.roll(mean[::-1], 3, axis=0))
    assert apart.mean() < 0.01
    assert apart.mean() < 0.2 * shifted.mean()
