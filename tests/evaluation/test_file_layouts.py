"""Assignment of images to subjects."""

import os
from pathlib import Path

import numpy as np
import pytest
from blobs import SHAPE
from disk import save

from infarct.core.errors import InputFileError
from infarct.evaluation import EvaluationRequest
from infarct.evaluation.file_layouts import find_images, other_images, subjects_with
from infarct.evaluation.pipeline import gather

LESION = np.zeros(SHAPE, bool)
LESION[4:9, 4:9, 4:9] = True


def test_masks_and_images_may_share_a_directory(tmp_path: Path) -> None:
    for name in ("a_lesion", "a_dwi", "a_adc", "a_brain_mask", "b_mask", "c"):
        save(tmp_path / f"{name}.nii.gz", LESION)
    save(tmp_path / "d.nii", LESION)
    assert list(find_images(tmp_path, "lesion")) == ["a", "b", "c", "d"]
    assert find_images(tmp_path, "dwi")["a"].name == "a_dwi.nii.gz"
    assert find_images(tmp_path, "brain")["a"].name == "a_brain_mask.nii.gz"


def test_case_folders_are_found_at_any_depth(tmp_path: Path) -> None:
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
    with pytest.raises(InputFileError, match=f"both are {kind} images of test/case-1; keep one"):
        find_images(tmp_path, kind)


def test_earlier_masks_of_a_corrected_result_are_ignored(tmp_path: Path) -> None:
    kept = ("lesion_mask_automatic", "lesion_mask_corrected-1", "uncertainty", "scan/dwi")
    for name in ("lesion_mask", "lesion_probability", "brain_mask", "mni/lesion_mask", *kept):
        save(tmp_path / "case-1" / f"{name}.nii.gz", LESION)
    assert find_images(tmp_path, "lesion") == {"case-1": tmp_path / "case-1/lesion_mask.nii.gz"}


@pytest.mark.parametrize("name", ["absent", "."])
def test_a_directory_without_masks_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputFileError, match=r"expected|give a directory"):
        find_images(tmp_path / name, "lesion")


def test_other_images_in_the_directory_are_ignored(tmp_path: Path) -> None:
    others = ("b0", "FLAIR", "trace", "T1w", "probability", "uncertainty")
    for name in ("a", "a_dwi", "a_adc", *(f"a_{other}" for other in others), "b-0_t1"):
        save(tmp_path / f"{name}.nii.gz", LESION)
    save(tmp_path / "cat1.nii.gz", LESION)
    assert list(find_images(tmp_path, "lesion")) == ["a", "cat1"]
    assert find_images(tmp_path, "dwi") == {"a": tmp_path / "a_dwi.nii.gz"}


def test_images_of_a_result_are_assigned_to_its_subject(tmp_path: Path) -> None:
    for name in ("lesion_mask", "brain_mask", "scan/dwi", "scan/adc", "mni/dwi"):
        save(tmp_path / "case-1" / f"{name}.nii.gz", LESION)
    for kind in ("lesion", "brain", "dwi", "adc"):
        assert list(find_images(tmp_path, kind)) == ["case-1"]


@pytest.mark.parametrize(
    ("name", "kind", "subject"),
    [
        ("sub-1/ses-2/sub-1_ses-2_msk", "lesion", "sub-1_ses-2"),
        ("sub-1/dwi/sub-1_run-1_space-orig_label-lesion_mask", "lesion", "sub-1_run-1"),
        ("sub-1/dwi/sub-1_space-TRACE_desc-lesion_mask", "lesion", "sub-1"),
        ("sub-1/dwi/sub-1_space-orig_label-brain_mask", "brain", "sub-1"),
        ("sub-1/anat/sub-1_desc-brain_mask", "brain", "sub-1"),
        ("sub-1/ses-2/dwi/sub-1_ses-2_dwi", "dwi", "sub-1_ses-2"),
        ("sub-1/dwi/sub-1_trace", "dwi", "sub-1"),
        ("sub-1/dwi/sub-1_rec-TRACE_dwi", "dwi", "sub-1"),
        ("sub-1/dwi/sub-1_rec-ADC_dwi", "adc", "sub-1"),
        ("sub-1/dwi/sub-1_ADC", "adc", "sub-1"),
    ],
)
def test_bids_names(tmp_path: Path, name: str, kind: str, subject: str) -> None:
    save(tmp_path / "derivatives" / f"{name}.nii.gz", LESION)
    assert list(find_images(tmp_path, kind)) == [subject]
    for other in {"lesion", "brain", "dwi", "adc"} - {kind}:
        with pytest.raises(InputFileError, match=f"no {other} images found"):
            find_images(tmp_path, other)


def test_bids_images_of_other_types_and_in_template_space_are_ignored(tmp_path: Path) -> None:
    save(tmp_path / "sub-1/dwi/sub-1_space-orig_label-lesion_mask.nii.gz", LESION)
    save(tmp_path / "sub-1/dwi/sub-1_space-MNI152NLin2009aSym_label-lesion_mask.nii.gz", LESION)
    save(tmp_path / "sub-1/dwi/sub-1_label-L_mask.nii.gz", LESION)
    save(tmp_path / "sub-1/dwi/sub-1_desc-b0_dwi.nii.gz", LESION)
    save(tmp_path / "sub-2/dwi/sub-1_label-lesion_mask.nii.gz", LESION)
    found = find_images(tmp_path, "lesion")
    assert {name: path.name for name, path in found.items()} == {
        "sub-1": "sub-1_space-orig_label-lesion_mask.nii.gz"
    }
    with pytest.raises(InputFileError, match="no dwi images found"):
        find_images(tmp_path, "dwi")


def test_a_mixture_of_files_and_folders_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "group_mean.nii.gz", LESION)
    save(tmp_path / "case-1/lesion_mask.nii.gz", LESION)
    with pytest.raises(InputFileError, match=r"directly \(group_mean\.nii\.gz\) and in subfolders"):
        find_images(tmp_path, "lesion")


def test_files_with_the_suffix_of_another_image_type_are_listed(tmp_path: Path) -> None:
    for name in ("P01", "P01_T1", "P01_T2", "P02_lesion", "P02_dwi"):
        save(tmp_path / f"{name}.nii.gz", LESION)
    assert list(find_images(tmp_path, "lesion")) == ["P01", "P02"]
    assert other_images(tmp_path) == ["P01_T1.nii.gz", "P01_T2.nii.gz"]


def test_a_circular_link_does_not_duplicate_subjects(tmp_path: Path) -> None:
    save(tmp_path / "case-1/lesion_mask.nii.gz", LESION)
    (tmp_path / "case-1" / "all").symlink_to(tmp_path)
    assert list(find_images(tmp_path, "lesion")) == ["case-1"]


def test_a_broken_link_is_kept_so_that_reading_it_fails(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", LESION)
    (tmp_path / "b.nii.gz").symlink_to(tmp_path / "annex")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "dwi.nii.gz").symlink_to(tmp_path / "annex")
    assert list(find_images(tmp_path, "lesion")) == ["a", "b"]


def test_file_extensions_are_case_insensitive(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", LESION)
    (tmp_path / "a.nii").rename(tmp_path / "a_lesion.NII")
    assert list(find_images(tmp_path, "lesion")) == ["a"]


def test_a_subject_name_that_is_not_utf8_is_replaced(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", LESION)
    (tmp_path / "a.nii").rename(tmp_path / os.fsdecode(b"M\xfc.nii"))
    assert list(find_images(tmp_path, "lesion")) == ["M?"]


SOOP = "derivatives/lesion_masks/sub-{0}/dwi/sub-{0}_space-TRACE_desc-{1}_mask"


def test_a_subject_with_several_labels_requires_a_selection(tmp_path: Path) -> None:
    for subject, labels in (
        ("1", ("lesion", "lesionAcute", "lesionChronic")),
        ("2", ("lesion", "lesionAcute")),
        ("3", ("lesion", "lesionChronic")),
    ):
        for label in labels:
            save(tmp_path / f"{SOOP.format(subject, label)}.nii.gz", LESION)
    choice = "--label lesion or --label lesionAcute or --label lesionChronic"
    with pytest.raises(InputFileError, match=rf"sub-1 has 3 lesion masks .*: {choice}"):
        find_images(tmp_path, "lesion")
    acute = find_images(tmp_path, "lesion", "lesionacute")
    assert {subject: path.name for subject, path in acute.items()} == {
        f"sub-{n}": f"sub-{n}_space-TRACE_desc-lesionAcute_mask.nii.gz" for n in "12"
    }
    assert list(find_images(tmp_path, "lesion", "lesion")) == ["sub-1", "sub-2", "sub-3"]
    assert subjects_with(tmp_path) == {"sub-1", "sub-2", "sub-3"}
    with pytest.raises(
        InputFileError, match="available labels: lesion, lesionAcute, lesionChronic"
    ):
        find_images(tmp_path, "lesion", "core")


@pytest.mark.parametrize(
    "names",
    [
        ("P1_lesion", "P1_lesionAcute"),
        ("P1_lesion_mask", "P1_desc-lesionAcute_mask"),
        ("P1/lesion_mask", "P1/lesionAcute"),
        ("sub-1_mask", "sub-1_label-lesionAcute_mask"),
        ("sub-1/sub-1_label-lesion_mask", "sub-1/sub-1_label-lesion_desc-lesionAcute_mask"),
    ],
)
def test_labels_are_recognised_in_every_layout(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        save(tmp_path / f"{name}.nii.gz", LESION)
    with pytest.raises(InputFileError, match=r"--label lesion or --label lesionAcute"):
        find_images(tmp_path, "lesion")
    (path,) = find_images(tmp_path, "lesion", "lesionAcute").values()
    assert path == tmp_path / f"{names[1]}.nii.gz"


def test_each_subject_of_our_derivatives_has_one_lesion_and_one_brain_mask(tmp_path: Path) -> None:
    names = (
        *("space-orig_label-lesion_mask", "space-orig_desc-lesions_dseg"),
        *("space-orig_label-brain_mask", "space-orig_label-lesion_probseg"),
        *("space-MNI152NLin2009aSym_label-lesion_mask", "space-MNI152NLin2009aSym_trace"),
    )
    for subject in ("sub-1", "sub-2"):
        for name in names:
            save(tmp_path / subject / "dwi" / f"{subject}_{name}.nii.gz", LESION)
    for kind in ("lesion", "brain"):
        found = find_images(tmp_path, kind)
        assert list(found) == ["sub-1", "sub-2"]
        assert found["sub-1"].name == f"sub-1_space-orig_label-{kind}_mask.nii.gz"


def test_numbered_lesions_alone_are_a_lesion_mask(tmp_path: Path) -> None:
    save(tmp_path / "sub-1/dwi/sub-1_space-orig_desc-lesions_dseg.nii.gz", LESION)
    assert list(find_images(tmp_path, "lesion")) == ["sub-1"]


def test_published_datasets_are_read_unchanged(tmp_path: Path) -> None:
    soop, isles22, isles24 = (tmp_path / name for name in ("soop", "isles22", "isles24"))
    for name in (
        *("soop/sub-1/dwi/sub-1_rec-TRACE_dwi", "soop/sub-1/dwi/sub-1_rec-ADC_dwi"),
        *("soop/sub-1/anat/sub-1_FLAIR", f"soop/{SOOP.format('1', 'lesion')}"),
        "isles22/sub-strokecase0001/ses-0001/dwi/sub-strokecase0001_ses-0001_dwi",
        "isles22/sub-strokecase0001/ses-0001/dwi/sub-strokecase0001_ses-0001_adc",
        "isles22/derivatives/sub-strokecase0001/ses-0001/sub-strokecase0001_ses-0001_msk",
        *(
            f"isles24/derivatives/sub-stroke0001/ses-02/sub-stroke0001_ses-02_space-ncct_{shows}"
            for shows in ("dwi", "adc", "lesion-msk")
        ),
        *(
            f"isles24/derivatives/sub-stroke0001/ses-01/sub-stroke0001_ses-01_space-ncct_{shows}"
            for shows in ("ctp", "cow-msk", "lvo-msk")
        ),
    ):
        save(tmp_path / f"{name}.nii.gz", LESION)
    for root, subject in (
        (soop, "sub-1"),
        (isles22, "sub-strokecase0001_ses-0001"),
        (isles24, "sub-stroke0001_ses-02"),
    ):
        for kind in ("lesion", "dwi", "adc"):
            assert list(find_images(root, kind)) == [subject]


def test_a_parameter_map_is_not_a_dwi(tmp_path: Path) -> None:
    for folder in ("sub-1/dwi/", ""):
        for shows in ("acq-ADC_dwi", "rec-FA_dwi", "desc-eADC_dwi", "acq-colFA_dwi", "FA"):
            save(tmp_path / f"{folder}sub-1_{shows}.nii.gz", LESION)
        with pytest.raises(InputFileError, match="no dwi images found"):
            find_images(tmp_path, "dwi")


def test_files_with_bids_names_without_folders(tmp_path: Path) -> None:
    for name in ("sub-1_ses-1", "sub-2_ses-1_rec-ADC_dwi", "sub-2_ses-1_msk", "sub-3_T1w"):
        save(tmp_path / f"{name}.nii.gz", LESION)
    assert list(find_images(tmp_path, "lesion")) == ["sub-1_ses-1", "sub-2_ses-1"]
    assert list(find_images(tmp_path, "adc")) == ["sub-2_ses-1"]


def test_hidden_files_are_ignored(tmp_path: Path) -> None:
    for folder in ("a", "b/sub-1", ".git"):
        save(tmp_path / folder / "sub-1_mask.nii.gz", LESION)
        (tmp_path / folder / "._sub-1_mask.nii.gz").write_bytes(b"\0\5\x16\7")
    assert list(find_images(tmp_path / "a", "lesion")) == ["sub-1"]
    assert list(find_images(tmp_path / "b", "lesion")) == ["sub-1"]


def test_subjects_without_the_selected_label_are_listed(tmp_path: Path) -> None:
    reference, ours, theirs = (tmp_path / name for name in ("reference", "ours", "theirs"))
    for subject, labels in (("1", ("lesion", "lesionAcute")), ("2", ("lesion",))):
        for label in labels:
            save(reference / f"{SOOP.format(subject, label)}.nii.gz", LESION)
        save(ours / f"sub-{subject}/dwi/sub-{subject}_label-lesion_mask.nii.gz", LESION)
        save(theirs / f"sub-{subject}_desc-lesionAcute_mask.nii.gz", LESION)
        save(theirs / f"sub-{subject}_desc-lesionChronic_mask.nii.gz", LESION)
    request = EvaluationRequest(
        reference, {"ours": ours, "theirs": theirs}, tmp_path / "out", label="lesionAcute"
    )
    cases, notes = gather(request)
    assert list(cases) == ["sub-1"]
    assert {path and path.name for path in cases["sub-1"].predictions.values()} == {
        "sub-1_label-lesion_mask.nii.gz",
        "sub-1_desc-lesionAcute_mask.nii.gz",
    }
    note = (
        "No reference mask with label lesionAcute for 1 subjects, which are not evaluated: sub-2."
    )
    assert note in notes
    assert "No masks with label lesionAcute, so all masks were used: ours." in notes
