"""A large faint infarct outside the lesion mask is detected on the correct side."""

import numpy as np
import pytest

from infarct.core.geometry import MNI_GRID
from infarct.uncertainty.asymmetry import LARGE_ML, Asymmetry, asymmetry_beyond, asymmetry_findings

SHAPE = MNI_GRID.shape


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    axes = np.meshgrid(*(np.arange(size) for size in SHAPE), indexing="ij", sparse=True)
    return sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < radius**2


@pytest.fixture(scope="module")
def brain() -> np.ndarray:
    return ball((95.5, 112, 96), 70)


def scan(brain: np.ndarray, *faint: np.ndarray, dwi: float = 1.25, adc: float = 0.8) -> tuple:
    """Return a noisy head whose infarcts are slightly brighter on DWI and darker on ADC."""
    rng = np.random.default_rng(0)
    images = []
    for level, factor, sd in ((100.0, dwi, 8.0), (0.8e-3, adc, 0.05e-3)):
        image = np.where(brain, level, 0.0) + rng.normal(0, sd, SHAPE) * brain
        for infarct in faint:
            image[infarct] *= factor
        images.append(image.astype(np.float32))
    return (*images, brain)


NOTHING = np.zeros(SHAPE, dtype=bool)
RIGHT = ball((135, 112, 100), 22)
RIGHT_ML = RIGHT.sum() / 1000


@pytest.mark.parametrize(("infarct", "side"), [(RIGHT, "right"), (RIGHT[::-1], "left")])
def test_large_faint_infarct_is_detected_on_its_side(brain, infarct, side) -> None:
    found = asymmetry_beyond(*scan(brain, infarct), NOTHING, 1.0)
    assert found.side == side
    assert found.volume_ml == pytest.approx(RIGHT_ML, rel=0.35)
    (finding,) = asymmetry_findings(found)
    assert (finding.code, finding.level) == ("asymmetry", "warning")
    assert side in finding.message
    assert finding.message.startswith("no lesion was segmented, but a region of roughly")


def test_segmented_infarct_causes_no_warning(brain) -> None:
    assert asymmetry_findings(asymmetry_beyond(*scan(brain, RIGHT), RIGHT, 1.0)) == []
    part = RIGHT & (np.arange(SHAPE[2]) < 92)
    rest = asymmetry_beyond(*scan(brain, RIGHT), part, 1.0)
    assert LARGE_ML < rest.volume_ml < (RIGHT & ~part).sum() / 1000
    assert asymmetry_findings(rest)[0].message.startswith("outside the lesion mask, a region")


@pytest.mark.parametrize(
    ("faint", "contrast"),
    [
        ((), {}),
        ((RIGHT, RIGHT[::-1]), {}),
        ((ball((135, 112, 100), 9),), {}),
        ((RIGHT,), {"adc": 1.0}),
        ((RIGHT,), {"adc": 1.2}),
        ((RIGHT,), {"dwi": 1.0}),
    ],
    ids=["none", "both sides", "small", "normal ADC", "T2 shine-through", "dark ADC alone"],
)
def test_other_patterns_cause_no_warning(brain, faint, contrast) -> None:
    found = asymmetry_beyond(*scan(brain, *faint, **contrast), NOTHING, 1.0)
    assert asymmetry_findings(found) == []


def test_coil_shading_and_empty_images_cause_no_warning(brain) -> None:
    dwi, adc, _ = scan(brain)
    shaded = dwi * np.linspace(0.7, 1.3, SHAPE[0])[:, None, None].astype(np.float32)
    assert asymmetry_findings(asymmetry_beyond(shaded, adc, brain, NOTHING, 1.0)) == []
    assert asymmetry_beyond(dwi, adc, NOTHING, NOTHING, 1.0) == Asymmetry(0.0, "")
