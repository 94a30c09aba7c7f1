import numpy as np
import pytest
from scipy import ndimage

from infarct.core.errors import ContentError
from infarct.core.image_type import check_types

SHAPE = (40, 40, 24)
BRAIN = np.ones(SHAPE, bool)


def images() -> dict[str, np.ndarray]:
    """Simulate tissue with varying b0, fluid and noise, and all derived images."""
    rng = np.random.default_rng(0)

    def smooth(sd: float) -> np.ndarray:
        field = ndimage.gaussian_filter(rng.normal(size=SHAPE), sd)
        return field / field.std()

    fluid = np.clip(smooth(1.5) - 1.2, 0, 1)
    tissue = smooth(1.5)
    adc = 0.8e-3 + 0.05e-3 * smooth(1.5) + 2.2e-3 * fluid
    b0 = 300 * np.exp(0.2 * tissue) * (1 + 1.5 * fluid)
    dwi = b0 * np.exp(-1000 * adc)
    dwi, b0 = (s * np.exp(0.03 * rng.normal(size=SHAPE)) for s in (dwi, b0))
    adc = np.log(b0 / dwi) / 1000
    fa = np.clip(0.4 - 0.15 * tissue - 0.3 * fluid + 0.05 * rng.normal(size=SHAPE), 0.02, 1)
    made = {"dwi": dwi, "b0": b0, "adc": adc, "eadc": np.exp(-1000 * adc), "fa": fa}
    return {name: image.astype(np.float32) for name, image in made.items()}


IMAGES = images()


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_images_of_the_correct_type_pass(scale: float) -> None:
    dwi, b0, adc = (IMAGES[name] for name in ("dwi", "b0", "adc"))
    assert check_types(dwi * scale, b0, None, BRAIN) == []
    assert check_types(dwi, None, adc * scale, BRAIN) == []
    assert check_types(dwi, b0, adc, BRAIN) == []


@pytest.mark.parametrize(
    ("dwi", "b0", "adc", "likely"),
    [
        ("dwi", None, "eadc", "exponential ADC"),
        ("dwi", "b0", "eadc", "exponential ADC"),
        ("dwi", None, "b0", "b0"),
        ("dwi", None, "dwi", "are the same image"),
        ("dwi", None, "fa", "FA"),
        ("b0", None, "adc", "may be the b0 or"),
        ("eadc", None, "adc", "exponential ADC"),
        ("adc", None, "dwi", "swapped"),
        ("b0", "dwi", None, "swapped"),
        ("b0", "dwi", "adc", "swapped"),
        ("adc", "b0", None, "ADC map"),
        ("adc", "dwi", None, "probably an ADC map, and the one given as b0 a DWI"),
        ("dwi", "adc", None, "b0 is probably an ADC map"),
        ("eadc", "b0", None, "exponential ADC"),
        ("fa", "b0", None, "FA"),
        ("dwi", "eadc", None, "eADC"),
    ],
)
def test_images_of_another_type_are_named(
    dwi: str, b0: str | None, adc: str | None, likely: str
) -> None:
    with pytest.raises(ContentError, match=likely):
        check_types(IMAGES[dwi], IMAGES[b0] if b0 else None, IMAGES[adc] if adc else None, BRAIN)


def test_a_small_or_constant_sample_is_not_checked() -> None:
    few = np.zeros(SHAPE, bool)
    few[:5, :5, :5] = True
    assert check_types(IMAGES["adc"], IMAGES["b0"], IMAGES["eadc"], few) == []


def test_atrophic_brain_with_fluid_in_most_voxels_passes() -> None:
    rng = np.random.default_rng(0)

    def smooth() -> np.ndarray:
        field = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.5)
        return field / field.std()

    fluid = np.clip(0.3 * smooth() + 0.15, 0, 1)
    adc = 0.8e-3 + 0.05e-3 * smooth() + 2.2e-3 * fluid
    b0 = 300 * np.exp(0.15 * smooth()) * (1 + 1.5 * fluid)
    dwi = b0 * np.exp(-1000 * adc)
    dwi, b0 = (s * np.exp(0.05 * rng.normal(size=SHAPE)) for s in (dwi, b0))
    # Over all tissue the images look opposed; at equal attenuation they agree.
    assert np.corrcoef(dwi.ravel(), b0.ravel())[0, 1] < 0
    assert check_types(dwi, b0, None, BRAIN) == []
    for wrong in (np.log(b0 / dwi), dwi / b0):
        with pytest.raises(ContentError):
            check_types(dwi, np.abs(wrong), None, BRAIN)
