from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from infarct.segmentation.classical import (
    FuzzySettings,
    Healthy,
    TScoreSettings,
    is_map,
    smooth_in_plane,
    t_score,
    t_score_mask,
)

SHAPE = (40, 44, 12)
RNG = np.random.default_rng(5)


@pytest.fixture
def healthy() -> Healthy:
    rng = np.random.default_rng(6)
    means = rng.normal(0, 0.3, (2, *SHAPE)).astype(np.float32)
    sds = rng.uniform(0.6, 1.4, (2, *SHAPE)).astype(np.float32)
    return Healthy(means[0], sds[0], means[1], sds[1], n=20)


@pytest.fixture
def brain() -> np.ndarray:
    brain = np.zeros(SHAPE, bool)
    brain[4:36, 4:40, 1:11] = True
    return brain


def test_is_map_follows_equations_2_to_5_voxel_by_voxel(
    healthy: Healthy, brain: np.ndarray
) -> None:
    dwi, adc = RNG.normal(0, 2, (2, *SHAPE)).astype(np.float32)
    settings = FuzzySettings()
    mapped = is_map(dwi, adc, brain, healthy, settings)
    sd, sa = (smooth_in_plane(image, brain, 2.0) for image in (dwi, adc))
    own = (sd - sd[brain].mean()) / sd[brain].std()
    ischemic = np.argwhere(mapped > 0.01)
    assert len(ischemic) > 20  # or zeros would be compared with zeros
    for x, y, z in [*np.argwhere(brain)[::97], *ischemic[::3]]:
        delta_dwi = np.tanh(
            (sd[x, y, z] - healthy.dwi_mean[x, y, z]) / (1.5 * healthy.dwi_sd[x, y, z])
        )
        delta_adc = np.tanh(
            (sa[x, y, z] - healthy.adc_mean[x, y, z]) / (0.5 * healthy.adc_sd[x, y, z])
        )
        high = delta_dwi**4 if delta_dwi > 0 else 0.0
        low = (-delta_adc) ** 2 if delta_adc < 0 else 0.0
        t = own[x, y, z]
        expected = high * low * (1 - stats.norm.sf(t)) if t >= 2 else 0.0
        assert mapped[x, y, z] == pytest.approx(expected, abs=1e-5)


def test_is_map_is_a_probability_and_zero_outside_the_brain(
    healthy: Healthy, brain: np.ndarray
) -> None:
    dwi, adc = RNG.normal(0, 5, (2, *SHAPE)).astype(np.float32)
    mapped = is_map(dwi, adc, brain, healthy)
    assert mapped.min() >= 0
    assert mapped.max() <= 1
    assert mapped[brain].any()
    assert not mapped[~brain].any()


def test_is_map_is_high_in_infarcts_but_not_in_mimics(brain: np.ndarray) -> None:
    flat = np.zeros(SHAPE, np.float32)
    healthy = Healthy(flat, flat + 1, flat, flat + 1, n=20)
    dwi, adc = RNG.normal(0, 0.3, (2, *SHAPE)).astype(np.float32)
    infarct, shine_through, scar = (slice(8, 14),), (slice(18, 24),), (slice(28, 34),)
    box = (slice(10, 20), slice(3, 8))
    dwi[(*infarct, *box)], adc[(*infarct, *box)] = 6, -4
    dwi[(*shine_through, *box)], adc[(*shine_through, *box)] = 6, 2
    dwi[(*scar, *box)], adc[(*scar, *box)] = -2, -4
    mapped = is_map(dwi, adc, brain, healthy)
    assert mapped[10:12, 12:18, 4:7].min() > 0.9
    assert mapped[(*shine_through, *box)].max() < 0.01
    assert mapped[(*scar, *box)].max() < 0.01


def test_smoothing_stays_within_slices(brain: np.ndarray) -> None:
    image = np.zeros(SHAPE, np.float32)
    image[20, 20, 5] = 1
    smooth = smooth_in_plane(image, brain, 4.0)
    assert smooth[:, :, 5].sum() == pytest.approx(1, abs=1e-3)
    assert not np.delete(smooth, 5, axis=2).any()
    profile = smooth[:, 20, 5]
    assert profile[22] / profile[20] == pytest.approx(0.5, abs=0.01)  # half at fwhm / 2


def test_t_score_equals_a_two_sample_test_with_one_case() -> None:
    # Crawford and Howell's statistic equals Student's t of a sample of one against n controls.
    controls = RNG.normal(3, 2, 15)
    case = 8.1
    expected = stats.ttest_ind([case], controls).statistic
    ones = np.ones((1, 1, 1), np.float32)
    score = t_score(
        ones * case, ones > 0, ones * controls.mean(), ones * controls.std(ddof=1), len(controls)
    )
    assert float(score[0, 0, 0]) == pytest.approx(expected, rel=1e-5)


def test_t_score_mask_requires_all_three_conditions(brain: np.ndarray) -> None:
    flat = np.zeros(SHAPE, np.float32)
    healthy = Healthy(flat, flat + 1, flat, flat + 1, n=20)
    dwi, adc = RNG.normal(0, 0.3, (2, *SHAPE)).astype(np.float32)
    box = (slice(10, 18), slice(10, 18), slice(4, 7))
    dwi[box], adc[box] = 8, -4
    assert t_score_mask(dwi, adc, brain, healthy)[14, 14, 5]
    for name, impossible in (("sigma_dwi", 1e3), ("sigma_adc", 1e3), ("sigma_id", 1e3)):
        settings = replace(TScoreSettings(), **{name: impossible})
        assert not t_score_mask(dwi, adc, brain, healthy, settings).any()
