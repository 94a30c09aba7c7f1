import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infarct.core.diffusion import adc_from_signal, b0_from_adc, find_shell, trace
from infarct.core.normalisation import fit_tissue_peak, normalise, zscore


@pytest.mark.parametrize(
    ("bvalues", "wanted", "shell"),
    [
        ((0, 500, 980, 1020, 2000), 1000, (2, 3)),
        ((0, 500, 980, 1020, 2000), 1800, (4,)),
        ((5, 3000, 2900), 1000, (1, 2)),
        ((0, 900, 1100), 1000, (2,)),
        ((0, 10, 49), 1000, ()),
    ],
)
def test_the_nearest_of_several_shells_is_selected(
    bvalues: tuple[float, ...], wanted: float, shell: tuple[int, ...]
) -> None:
    assert find_shell(bvalues, wanted) == shell


@given(st.floats(300, 3000), st.integers(0, 2**32 - 1))
def test_adc_and_b0_invert_each_other(bvalue: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dwi = rng.uniform(10, 500, (4, 4, 4)).astype(np.float32)
    adc = rng.uniform(0, 3e-3, (4, 4, 4)).astype(np.float32)
    b0 = b0_from_adc(dwi, adc, bvalue)
    assert adc_from_signal(b0, dwi, bvalue) == pytest.approx(adc, rel=1e-3, abs=2e-6)


def test_adc_is_zero_where_a_signal_is_not_positive() -> None:
    b0 = np.array([[[100.0, 0.0, 100.0, -5.0]]], np.float32)
    dwi = np.array([[[100 * np.exp(-0.8), 10.0, 0.0, 10.0]]], np.float32)
    assert adc_from_signal(b0, dwi, 1000)[0, 0] == pytest.approx([0.8e-3, 0, 0, 0], abs=1e-9)


def test_trace_is_the_geometric_mean() -> None:
    signals = np.array([[[[10.0, 40.0, 20.0], [0.0, 0.0, 10.0]]]], np.float32)
    assert trace(signals)[0, 0] == pytest.approx([20.0, 0.0])


def test_one_lost_direction_leaves_no_hole() -> None:
    signals = np.array([[[[10.0, 40.0, 0.0]]]], np.float32)
    assert trace(signals)[0, 0] == pytest.approx([20.0])


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_fit_finds_the_tissue_and_not_the_fluid(scale: float) -> None:
    rng = np.random.default_rng(1)
    tissue = rng.normal(100, 8, 60_000)
    fluid = rng.normal(35, 12, 20_000)
    lesion = rng.normal(220, 25, 4_000)
    image = (np.concatenate([tissue, fluid, lesion]) * scale).astype(np.float32).reshape(-1, 1, 1)
    peak = fit_tissue_peak(image, np.ones(image.shape, bool))
    assert peak.converged
    assert peak.mean == pytest.approx(100 * scale, rel=0.02)
    assert peak.sd == pytest.approx(8 * scale, rel=0.15)


def test_fit_finds_the_tissue_of_an_adc_map_below_the_fluid() -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(0.8e-3, 0.09e-3, 50_000), rng.normal(2.6e-3, 4e-4, 15_000)])
    image = values.astype(np.float32).reshape(-1, 1, 1)
    peak = fit_tissue_peak(image, np.ones(image.shape, bool))
    assert peak.converged
    assert peak.mean == pytest.approx(0.8e-3, rel=0.02)
    normal = normalise(image, peak)[:50_000]
    assert float(normal.mean()) == pytest.approx(0, abs=0.15)
    assert float(normal.std()) == pytest.approx(1, abs=0.15)


def test_fit_without_a_peak_falls_back_and_reports_it() -> None:
    image = np.full((10, 10, 10), 5.0, np.float32)
    image[0, 0, :2] = 7.0
    peak = fit_tissue_peak(image, np.ones(image.shape, bool))
    assert not peak.converged
    assert peak.mean == 5.0
    assert peak.sd > 0


def test_zscore_is_zero_outside_and_standard_inside() -> None:
    rng = np.random.default_rng(3)
    image = rng.normal(50, 9, (12, 12, 12)).astype(np.float32)
    brain = np.zeros(image.shape, bool)
    brain[2:9, 3:10, 1:8] = True
    scaled = zscore(image, brain)
    assert float(scaled[brain].mean()) == pytest.approx(0, abs=1e-5)
    assert float(scaled[brain].std()) == pytest.approx(1, abs=1e-5)
    assert not scaled[~brain].any()
    assert not zscore(np.ones_like(image), brain).any()
