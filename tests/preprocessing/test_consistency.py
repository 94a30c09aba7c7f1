import numpy as np
import pytest

from infarct.core.errors import ContentError
from infarct.core.findings import Finding
from infarct.preprocessing import consistency

BRAIN = np.zeros((32, 32, 8), bool)
BRAIN[8:24, 8:24, 1:7] = True


def codes(findings: list[Finding]) -> list[str]:
    return [finding.code for finding in findings]


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-5, 1e-6])
@pytest.mark.parametrize("median", [0.62e-3, 0.85e-3, 1.3e-3])
def test_the_adc_unit_is_detected(scale: float, median: float) -> None:
    rng = np.random.default_rng(0)
    adc = (rng.normal(median, 0.1e-3, BRAIN.shape) / scale).astype(np.float32)
    found, findings = consistency.adc_scale(adc, BRAIN)
    assert found == scale
    assert codes(findings) == ([] if scale == 1.0 else ["adc-unit-converted"])


@pytest.mark.parametrize("median", [0.0, 30.0, 1e6, -1.0])
def test_implausible_adc_values_are_rejected(median: float) -> None:
    spread = np.random.default_rng(0).normal(1, 0.2, BRAIN.shape)
    with pytest.raises(ContentError, match="ADC"):
        consistency.adc_scale((median * spread).astype(np.float32), BRAIN)


def test_a_mask_given_as_adc_is_rejected() -> None:
    with pytest.raises(ContentError, match="mask"):
        consistency.adc_scale(np.ones(BRAIN.shape, np.float32), BRAIN)


def signals(adc_value: float = 0.8e-3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    spread = np.random.default_rng(0).normal(1, 0.1, BRAIN.shape)
    adc = (adc_value * spread).astype(np.float32)
    adc[8:11] = 2.8e-3
    b0 = np.where(adc > 2e-3, 700, 300).astype(np.float32)
    return b0 * np.exp(-1000 * adc), b0, adc


@pytest.mark.parametrize("adc_given", [True, False])
def test_swapped_images_are_detected_even_with_a_bright_infarct(adc_given: bool) -> None:
    dwi, b0, adc = signals()
    dwi[11:15, 8:24, 2:6] *= 4  # more voxels than fluid has, brighter than anything
    assert consistency.check_contrast(dwi, b0, adc, BRAIN, adc_given=adc_given) == []
    with pytest.raises(ContentError, match="swapped"):
        consistency.check_contrast(b0, dwi, adc, BRAIN, adc_given=adc_given)


def test_differently_scaled_images_need_an_adc_map() -> None:
    dwi, b0, adc = signals()
    assert consistency.check_contrast(dwi * 10, b0, adc, BRAIN, adc_given=True) == []
    findings = consistency.check_agreement(dwi * 10, b0, adc, BRAIN, 1000)
    assert codes(findings) == ["bvalue-inconsistent"]
    with pytest.raises(ContentError, match="scaled differently"):
        consistency.check_contrast(dwi * 10, b0, adc, BRAIN, adc_given=False)


def test_a_water_phantom_is_rejected() -> None:
    dwi, b0, adc = signals(2.1e-3)
    with pytest.raises(ContentError, match="phantom"):
        consistency.check_contrast(dwi, b0, adc, BRAIN, adc_given=False)


def test_a_wrong_b_value_shows_in_the_three_images() -> None:
    dwi, b0, adc = signals()
    assert consistency.check_agreement(dwi, b0, adc, BRAIN, 1000) == []
    assert "1000" in consistency.check_agreement(dwi, b0, adc, BRAIN, 2000)[0].message


def test_an_adc_map_of_another_scan_is_detected() -> None:
    dwi, b0, adc = signals()
    findings = consistency.check_agreement(dwi, b0, adc[::-1, ::-1], BRAIN, 1000)
    assert "adc-inconsistent" in codes(findings)


@pytest.mark.parametrize(
    ("value", "share", "reported"),
    [(0.0, 0.002, True), (-1e-6, 0.02, True), (-1e-6, 0.002, False), (1e-4, 0.5, False)],
)
def test_voxels_without_an_adc_are_reported_but_noise_is_not(
    value: float, share: float, reported: bool
) -> None:
    adc = np.full(BRAIN.shape, 0.8e-3)
    at = np.argwhere(BRAIN)[: round(share * BRAIN.sum())]
    adc[tuple(at.T)] = value
    assert codes(consistency.check_holes(adc, BRAIN)) == (["adc-missing"] if reported else [])


def test_a_b0_given_as_dwi_is_rejected() -> None:
    dwi, b0, adc = signals()
    consistency.check_weighting(dwi, adc, BRAIN)
    with pytest.raises(ContentError, match="may be the b0"):
        consistency.check_weighting(b0, adc, BRAIN)


def test_an_image_computed_from_the_other_is_reported_or_rejected() -> None:
    dwi, _, adc = signals()
    with pytest.raises(ContentError, match="are the same image"):
        consistency.check_agreement(dwi, dwi, adc, BRAIN, 1000)
    findings = consistency.check_agreement(dwi, 7 * dwi, adc, BRAIN, 1000)
    assert codes(findings) == ["bvalue-inconsistent"]
