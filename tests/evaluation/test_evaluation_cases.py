"""Which file is whose, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from blobs import AFFINE, SHAPE
from disk import save

from infarct.errors import ContentError, GeometryError, InputFileError
from infarct.evaluation.cases import Case, find_images, measure, read_mask

LESION = np.zeros(SHAPE, bool)
LESION[4:9, 4:9, 4:9] = True


def test_masks_and_images_may_share_a_directory(tmp_path: Path) -> None:
    for name in ("a_lesion", "a_dwi", "a_adc", "a_brain_mask", "b_mask", "c"):
        save(tmp_path / f"{name}.nii.gz", LESION)
    save(tmp_path / "d.nii", LESION)
    assert list(find_images(tmp_path, "lesion")) == ["a", "b", "c", "d"]
    assert find_images(tmp_path, "dwi")["a"].name == "a_dwi.nii.gz"
    assert find_images(tmp_path, "brain")["a"].name == "a_brain_mask.nii.gz"


def test_folders_of_cases_at_any_depth(tmp_path: Path) -> None:
    for folder in ("test/case-1", "test/case-2", "late/case-1"):
        for name in ("lesion_mask", "lesion_probability", "brain_mask", "mni/lesion_mask"):
            save(tmp_path / folder / f"{name}.nii.gz", LESION)
    found = find_images(tmp_path, "lesion")
    assert list(found) == ["late/case-1", "test/case-1", "test/case-2"]
    assert all(path.name == "lesion_mask.nii.gz" for path in found.values())
    assert len(find_images(tmp_path, "brain")) == 3


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere/case-7/lesion_mask.nii.gz", LESION)
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort/case-7").symlink_to(tmp_path / "elsewhere/case-7")
    assert list(find_images(tmp_path / "cohort", "lesion")) == ["case-7"]


def test_two_masks_of_one_subject_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", LESION)
    save(tmp_path / "a_lesion.nii.gz", LESION)
    with pytest.raises(InputFileError, match="keep one"):
        find_images(tmp_path, "lesion")


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("lesion_mask.nii.gz", "lesion_manual.nii.gz"), "lesion"),
        (("lesion_mask.nii.gz", "lesion_mask.nii"), "lesion"),
        (("brain_mask.nii.gz", "brain.nii.gz"), "brain"),
    ],
)
def test_two_masks_in_one_folder_are_refused(
    tmp_path: Path, names: tuple[str, str], kind: str
) -> None:
    for name in names:
        save(tmp_path / "test/case-1" / name, LESION)
    with pytest.raises(InputFileError, match=f"are both the {kind} of test/case-1; keep one"):
        find_images(tmp_path, kind)


def test_a_corrected_result_has_one_mask(tmp_path: Path) -> None:
    kept = ("lesion_mask_automatic", "lesion_mask_corrected-1", "uncertainty", "scan/dwi")
    for name in ("lesion_mask", "lesion_probability", "brain_mask", "mni/lesion_mask", *kept):
        save(tmp_path / "case-1" / f"{name}.nii.gz", LESION)
    assert find_images(tmp_path, "lesion") == {"case-1": tmp_path / "case-1/lesion_mask.nii.gz"}


@pytest.mark.parametrize("name", ["absent", "."])
def test_a_directory_without_masks_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputFileError, match=r"expected|give one"):
        find_images(tmp_path / name, "lesion")


def test_another_grid_is_refused_never_resampled(tmp_path: Path) -> None:
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


def test_a_mask_may_hold_255(tmp_path: Path) -> None:
    save(tmp_path / "m.nii.gz", LESION.astype(np.float32) * 255)
    assert np.array_equal(read_mask(tmp_path / "m.nii.gz")[0], LESION)


def test_contrast_is_measured_on_images_of_another_grid(tmp_path: Path) -> None:
    dwi = np.where(LESION, 300, 100).astype(np.float32)
    save(tmp_path / "lesion.nii.gz", LESION)
    save(tmp_path / "brain.nii.gz", np.ones(SHAPE, bool))
    save(tmp_path / "flipped.nii.gz", dwi[::-1].copy(), AFFINE @ _mirror())
    path = tmp_path / "lesion.nii.gz"
    case = Case(
        "a", path, {"t": path}, dwi=tmp_path / "flipped.nii.gz", brain=tmp_path / "brain.nii.gz"
    )
    assert measure(case).scores["t"].kappa_dwi_reference == pytest.approx(3.0)


@pytest.mark.parametrize("kind", ["dwi", "adc", "brain"])
@pytest.mark.parametrize("affine", [AFFINE, 2 * AFFINE], ids=["same grid", "another"])
def test_a_series_is_refused_by_name(tmp_path: Path, kind: str, affine: np.ndarray) -> None:
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


def test_without_a_brain_mask_thresholds_outline_it(cohort: Path) -> None:
    path = cohort / "reference" / "sub-09_lesion.nii.gz"
    images = {kind: cohort / "images" / f"sub-09_{kind}.nii.gz" for kind in ("dwi", "adc")}
    scores = measure(Case("a", path, {"t": path}, **images)).scores["t"]
    assert scores.kappa_dwi_reference == pytest.approx(2.0, rel=0.1)
    assert scores.kappa_adc_reference == pytest.approx(0.6, rel=0.1)
