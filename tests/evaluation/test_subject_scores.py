"""Measurements of one subject, and refused inputs."""

from pathlib import Path

import numpy as np
import pytest
from blobs import AFFINE, SHAPE
from disk import save
from scipy.ndimage import gaussian_filter

from infarct.core.errors import ContentError, GeometryError
from infarct.evaluation.subject_scores import Case, measure, read_mask

LESION = np.zeros(SHAPE, bool)
LESION[4:9, 4:9, 4:9] = True


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "reference.nii.gz", LESION)
    shifted = AFFINE.copy()
    shifted[0, 3] = 1.0
    flipped = AFFINE @ np.diag([-1.0, 1, 1, 1])
    coarse = LESION[::2, ::2]
    for name, mask, affine in (
        ("shifted", LESION, shifted),
        ("flipped", LESION, flipped),
        ("coarse", coarse, AFFINE),
    ):
        save(tmp_path / f"{name}.nii.gz", mask, affine)
        case = Case("a", tmp_path / "reference.nii.gz", {"t": tmp_path / f"{name}.nii.gz"})
        with pytest.raises(GeometryError, match="another grid"):
            measure(case)


@pytest.mark.parametrize("value", [0.5, -1.0, np.inf])
def test_a_probability_map_is_not_a_mask(tmp_path: Path, value: float) -> None:
    save(tmp_path / "p.nii.gz", np.where(LESION, value, 0).astype(np.float32))
    with pytest.raises(ContentError, match="whole numbers"):
        read_mask(tmp_path / "p.nii.gz")


@pytest.mark.parametrize("image", ["percent", "DWI"])
def test_an_image_of_whole_numbers_is_not_a_mask(tmp_path: Path, image: str) -> None:
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(LESION.astype(float), 2.0)
    values = smooth / smooth.max() * 100 if image == "percent" else rng.uniform(0, 900, SHAPE)
    save(tmp_path / "p.nii.gz", np.rint(values).astype(np.float32))
    with pytest.raises(ContentError, match="change from voxel to voxel"):
        read_mask(tmp_path / "p.nii.gz")


def test_a_mask_may_number_its_lesions(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.float32)
    for number in range(60):
        x, y = divmod(number, 10)
        labels[5 * x : 5 * x + 4, 4 * y : 4 * y + 3, 2:9] = number + 1
    save(tmp_path / "m.nii.gz", labels)
    found = read_mask(tmp_path / "m.nii.gz")
    assert np.array_equal(found.mask, labels > 0)
    assert found.labels == 60
    save(tmp_path / "one.nii.gz", labels > 0)
    one, many = tmp_path / "one.nii.gz", tmp_path / "m.nii.gz"
    assert measure(Case("s", many, {"a": one, "b": many, "c": None})).labelled == (many, many)
    assert measure(Case("s", one, {"a": one})).labelled == ()


def test_a_mask_may_hold_255(tmp_path: Path) -> None:
    save(tmp_path / "m.nii.gz", LESION.astype(np.float32) * 255)
    assert np.array_equal(read_mask(tmp_path / "m.nii.gz").mask, LESION)


def test_contrast_is_measured_on_images_on_another_grid(tmp_path: Path) -> None:
    dwi = np.where(LESION, 300, 100).astype(np.float32)
    save(tmp_path / "lesion.nii.gz", LESION)
    save(tmp_path / "brain.nii.gz", np.ones(SHAPE, bool))
    save(tmp_path / "flipped.nii.gz", dwi[::-1].copy(), AFFINE @ _mirror())
    path = tmp_path / "lesion.nii.gz"
    case = Case(
        "a", path, {"t": path}, dwi=tmp_path / "flipped.nii.gz", brain=tmp_path / "brain.nii.gz"
    )
    assert measure(case).scores["t"].dwi_ratio_reference == pytest.approx(3.0)


def test_contrast_is_measured_inside_the_field_of_view_of_the_images(tmp_path: Path) -> None:
    lesion = np.zeros(SHAPE, bool)
    lesion[10:30, 10:20, 4:9] = True
    dwi = np.where(lesion, 300, 100).astype(np.float32)
    save(tmp_path / "lesion.nii.gz", lesion)
    save(tmp_path / "brain.nii.gz", np.ones(SHAPE, bool))
    save(tmp_path / "half.nii.gz", dwi[: SHAPE[0] // 2])
    path = tmp_path / "lesion.nii.gz"
    case = Case(
        "a", path, {"t": path}, dwi=tmp_path / "half.nii.gz", brain=tmp_path / "brain.nii.gz"
    )
    seen = measure(case)
    assert seen.scores["t"].dwi_ratio_reference == pytest.approx(3.0)
    assert not seen.covers


@pytest.mark.parametrize("kind", ["dwi", "adc", "brain"])
@pytest.mark.parametrize("affine", [AFFINE, 2 * AFFINE], ids=["same grid", "another grid"])
def test_a_series_is_refused_with_its_file_name(
    tmp_path: Path, kind: str, affine: np.ndarray
) -> None:
    save(tmp_path / "lesion.nii.gz", LESION)
    save(tmp_path / "series.nii.gz", np.ones((*SHAPE, 3), np.float32), affine)
    path = tmp_path / "lesion.nii.gz"
    images = {"brain": path, kind: tmp_path / "series.nii.gz"}
    with pytest.raises(GeometryError, match=r"series\.nii\.gz: has shape \(40, 44, 16, 3\)"):
        measure(Case("a", path, {"t": path}, **images))


def _mirror() -> np.ndarray:
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = SHAPE[0] - 1
    return mirror


def test_without_a_brain_mask_the_brain_is_segmented_by_thresholds(cohort: Path) -> None:
    path = cohort / "reference" / "sub-09_lesion.nii.gz"
    images = {kind: cohort / "images" / f"sub-09_{kind}.nii.gz" for kind in ("dwi", "adc")}
    scores = measure(Case("a", path, {"t": path}, **images)).scores["t"]
    assert scores.dwi_ratio_reference == pytest.approx(2.0, rel=0.1)
    assert scores.adc_ratio_reference == pytest.approx(0.6, rel=0.1)
