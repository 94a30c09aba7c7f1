import numpy as np
import pytest
from scipy import ndimage

from infarct.core.errors import ContentError
from infarct.core.findings import Finding
from infarct.core.nifti import Volume
from infarct.preprocessing import corruption
from infarct.preprocessing.skull_strip import find_brain

AFFINE = np.diag([4.0, 4.0, 5.0, 1.0])
SHAPE = (40, 48, 24)
GRID = np.indices(SHAPE)
BRAIN = sum(((x - n / 2) / (0.42 * n)) ** 2 for x, n in zip(GRID, SHAPE, strict=True)) < 1
PIECE = np.zeros(SHAPE, bool)
PIECE[10:16, 20:26, 8:12] = True
FLUID = np.zeros(SHAPE, bool)
FLUID[18:22, 20:30, 9:15] = True


def painted() -> np.ndarray:
    """Simulate tissue, fluid with a gradual edge, and a bright infarct."""
    image = np.where(BRAIN, 20000.0, 300.0)
    image = ndimage.gaussian_filter(np.where(FLUID, 2000.0, image), 0.7)
    image[PIECE] = 40000.0
    return image + np.random.default_rng(0).normal(0, 300, SHAPE).clip(-250, 900)


def check(data: np.ndarray, name: str = "DWI") -> list[Finding]:
    return corruption.check_voxels(name, Volume(data.astype(np.float32), AFFINE), BRAIN)


def codes(data: np.ndarray, name: str = "DWI") -> list[str]:
    return [finding.code for finding in check(data, name)]


@pytest.mark.parametrize("name", ["DWI", "b0"])
def test_images_without_damage_pass(name: str) -> None:
    assert codes(painted(), name) == []
    assert codes(painted() * BRAIN, name) == []
    slab = painted()
    slab[:, :, :6] = 0
    assert corruption.check_voxels(name, Volume(slab, AFFINE), BRAIN & (GRID[2] >= 6)) == []


@pytest.mark.parametrize("name", ["DWI", "b0"])
def test_an_integer_overflow_is_detected(name: str) -> None:
    wrapped = painted().astype(np.uint16).view(np.int16)
    with pytest.raises(ContentError, match="integer overflow"):
        check(wrapped, name)
    assert codes(np.maximum(wrapped, 0), name) == ["invalid-voxels"]


def test_an_overflow_of_bytes_leaves_no_negative_value_and_is_reported() -> None:
    values = np.round(painted() / 40000 * 300).astype(np.uint16)
    assert codes(values.astype(np.uint8)) == ["overflow"]


def test_air_next_to_bright_fluid_is_not_an_overflow(head, healthy_head) -> None:
    for each in (head, healthy_head):
        dwi, b0 = (Volume(data.astype(np.float32), each.affine) for data in (each.dwi, each.b0))
        brain, _ = find_brain(dwi.data, b0.data, dwi.grid.spacing)
        assert corruption.check_voxels("DWI", dwi, brain) == []
        assert corruption.check_voxels("b0", b0, brain) == []


@pytest.mark.parametrize("value", [0.0, np.nan, -5.0, 1.0, 2500.0])
def test_holes_in_tissue_are_reported_in_ml(value: float) -> None:
    holed = painted()
    holed[24:30, 20:26, 8:12] = value
    (finding,) = check(holed)
    assert (finding.code, finding.level) == ("invalid-voxels", "warning")
    assert f"{6 * 6 * 4 * 80 / 1000:.2g} ml" in finding.message


def test_fluid_without_signal_is_not_a_hole() -> None:
    dark = painted()
    dark[ndimage.binary_erosion(FLUID)] = 0
    assert codes(dark) == []


def test_clipped_values_are_reported() -> None:
    clipped = np.minimum(painted(), 32767)
    assert [(f.code, f.level) for f in check(clipped)] == [("saturated", "warning")]
    assert [(f.code, f.level) for f in check(clipped, "b0")] == [("saturated", "note")]


def test_standardised_and_inverted_images_are_rejected() -> None:
    inside = painted()[BRAIN]
    with pytest.raises(ContentError, match="standardised"):
        check((painted() - inside.mean()) / inside.std())
    with pytest.raises(ContentError, match="inverted"):
        corruption.refuse_negative("ADC", -painted(), BRAIN)


def test_an_image_to_which_a_constant_was_added_is_rejected() -> None:
    inside = painted()[BRAIN]
    standardised = (painted() - inside.mean()) / inside.std()
    for shift in (20, 100, 1000):
        with pytest.raises(ContentError, match="background"):
            check(standardised + shift)
    with pytest.raises(ContentError, match="background"):
        check(np.where(BRAIN, painted(), 2000.0))  # all air has one value
    assert check(standardised - standardised.min()) == []  # only scaled


def test_even_air_is_doubtful_at_a_level_at_which_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    for coils, level, expected in (
        (1, 0.15, []),
        (64, 0.15, ["background-bright"]),
        (1, 0.4, ["background-bright"]),
    ):
        noise = np.sqrt(rng.chisquare(2 * coils, SHAPE))
        noise *= level * 20000 / np.percentile(noise, 25)
        found = check(np.where(BRAIN, painted(), noise))
        assert [finding.code for finding in found] == expected


def test_an_adc_may_be_clipped_in_fluid_but_not_in_tissue() -> None:
    adc = np.where(FLUID, 3e-3, 0.8e-3) + np.random.default_rng(0).normal(0, 5e-5, SHAPE)
    for least, most, expected in (
        (0.0, 2.8e-3, []),
        (0.0, 0.8e-3, ["saturated"]),
        (0.8e-3, 4e-3, ["saturated"]),
    ):
        volume = Volume(np.clip(adc, least, most), AFFINE)
        found = corruption.check_adc_voxels(volume, BRAIN, 1.0)
        assert [finding.code for finding in found] == expected
