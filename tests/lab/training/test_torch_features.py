"""Network inputs computed with torch equal those computed with numpy in the runtime."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from infarct.core import normalisation
from infarct.lab.sources.packing import shipped_statistics
from infarct.lab.training import torch_features
from infarct.lab.training.torch_features import HealthyTensors
from infarct.segmentation import classical
from infarct.segmentation.classical import FuzzySettings, Healthy
from infarct.segmentation.controls import load_healthy

SHAPE = (40, 44, 12)


@pytest.fixture
def scan():
    rng = np.random.default_rng(0)
    x, y, z = np.indices(SHAPE)
    brain = ((x - 20) / 16) ** 2 + ((y - 22) / 18) ** 2 + ((z - 6) / 5) ** 2 < 1
    dwi = rng.normal(size=SHAPE)
    adc = rng.normal(size=SHAPE)
    patch = np.zeros(SHAPE)
    patch[10:18, 14:20, 4:8] = 1
    dwi, adc = dwi + 5 * gaussian_filter(patch, 1), adc - 3 * gaussian_filter(patch, 1)
    healthy = Healthy(
        rng.normal(0, 0.3, SHAPE).astype(np.float32),
        rng.uniform(0.5, 1.5, SHAPE).astype(np.float32),
        rng.normal(0, 0.3, SHAPE).astype(np.float32),
        rng.uniform(0.5, 1.5, SHAPE).astype(np.float32),
        10,
    )
    return dwi.astype(np.float32), adc.astype(np.float32), brain, healthy


def test_zscore_equals_that_of_the_runtime(scan):
    dwi, _, brain, _ = scan
    found = torch_features.zscore(torch.from_numpy(dwi), torch.from_numpy(brain))
    np.testing.assert_allclose(found, normalisation.zscore(dwi, brain), atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [FuzzySettings(), FuzzySettings(4.0, 1.0, 2.0, 1.5, 1.0, 1.0)],
    ids=["paper", "other"],
)
def test_is_map_equals_that_of_the_runtime(scan, settings):
    dwi, adc, brain, healthy = scan
    expected = classical.is_map(dwi, adc, brain, healthy, settings)
    found = torch_features.is_map(
        torch.from_numpy(dwi),
        torch.from_numpy(adc),
        torch.from_numpy(brain),
        HealthyTensors.of(healthy, settings=settings),
    )
    assert expected.max() > 0.3
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_is_map_in_the_box_of_the_brain_is_the_same(scan):
    dwi, adc, brain, healthy = (
        torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in scan
    )
    tensors = HealthyTensors.of(healthy)
    box = torch_features.box(brain, margin=4)
    whole = torch_features.is_map(dwi, adc, brain, tensors)
    part = torch_features.is_map(dwi[box], adc[box], brain[box], tensors.cut(box))
    assert part.numel() < whole.numel()
    torch.testing.assert_close(part, whole[box], atol=1e-4, rtol=0)


def test_tissue_peak_of_a_subset_equals_that_of_all_voxels():
    rng = np.random.default_rng(0)
    image = np.where(rng.random((90, 90, 90)) < 0.15, rng.normal(20, 8, (90,) * 3), 0)
    image = np.where(image == 0, rng.normal(100, 12, image.shape), image).astype(np.float32)
    brain = np.ones(image.shape, dtype=bool)
    expected = normalisation.fit_tissue_peak(image, brain)
    found = torch_features.tissue_peak(torch.from_numpy(image), torch.from_numpy(brain))
    assert found.converged
    assert found.mean == pytest.approx(expected.mean, abs=0.05 * expected.sd)
    assert found.sd == pytest.approx(expected.sd, rel=0.03)


def test_statistics_of_the_bank_equal_those_of_the_package() -> None:
    healthy, ours = load_healthy(), torch_features.healthy_at_1mm(shipped_statistics())
    for name in ("dwi_mean", "dwi_sd", "adc_mean", "adc_sd"):
        assert np.abs(getattr(healthy, name) - getattr(ours, name)).max() < 1e-4
