import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from infarct.bids.dataset import BidsScan
from infarct.bids.derivatives import jobs_of
from infarct.cohort.worker import publish
from infarct.core import assets
from infarct.core.errors import ContentError, GeometryError, InputFileError, OutputError
from infarct.measurement.anatomy import Anatomy, find_anatomy
from infarct.preprocessing.case import CaseFiles
from infarct.reporting import recompute as correction
from infarct.reporting.reader import FILES, OUTLINE, THUMBNAIL, list_files, manual_work, read_stored
from infarct.reporting.recompute import recompute
from infarct.reporting.writer import rebuild_page


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "case"))


def save(path: Path, data: np.ndarray, affine: np.ndarray) -> Path:
    nib.Nifti1Image(data, affine).to_filename(path)
    return path


def summary_of(folder: Path) -> dict:
    content: dict = json.loads((folder / "summary.json").read_text())
    return content


def audit_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "audit.tsv").open() as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_unchanged_mask_gives_unchanged_measurements(copy, tmp_path) -> None:
    before = summary_of(copy)
    same = Path(shutil.copyfile(copy / OUTLINE, tmp_path / "same.nii.gz"))
    recompute(copy, same, by="AB")
    after = summary_of(copy)
    for name in ("lesion_volume_ml", "left_ml", "right_ml", "lesion_count", "registration"):
        assert after[name] == before[name]
    # The stored images are quantised to 32,000 steps.
    for name in ("dwi_ratio", "adc_ratio", "mean_adc"):
        assert after[name] == pytest.approx(before[name], rel=2e-4)
    for new, old in zip(after["lesions"], before["lesions"], strict=True):
        assert new["centroid_mni_mm"] == pytest.approx(old["centroid_mni_mm"], abs=1e-3)


def test_corrected_mask_is_measured_and_the_old_mask_kept(copy, tmp_path) -> None:
    old = assets.sha256(copy / OUTLINE)
    stored = read_stored(copy)
    half = stored.lesion.data.copy()
    half[:, : int(np.argwhere(half)[:, 1].mean())] = False
    edited = save(tmp_path / "edited.nii.gz", 2.0 * half, stored.dwi.affine)
    done = recompute(copy, edited, by="A. Reader", reason="cut\tthe\nback")

    ml = half.sum() * stored.dwi.grid.voxel_ml
    summary = summary_of(copy)
    assert summary["lesion_volume_ml"] == pytest.approx(ml)
    with (copy / "lesions.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert sum(float(row["volume_ml"]) for row in rows) == pytest.approx(ml, rel=1e-4)
    image = nib.load(copy / OUTLINE)
    assert np.array_equal(np.asarray(image.dataobj) > 0, half)
    assert image.header["sform_code"] == nib.load(copy / "brain_mask.nii.gz").header["sform_code"]
    assert nib.load(copy / "mni" / OUTLINE).get_fdata().sum() < stored.lesion_mni.sum()

    (line,) = audit_of(copy)
    assert (line["by"], line["reason"]) == ("A. Reader", "cut the back")
    assert line["previous_mask"] == done.previous_mask == "lesion_mask_automatic.nii.gz"
    assert line["sha256_before"] == old == assets.sha256(copy / "lesion_mask_automatic.nii.gz")
    assert line["sha256_after"] == assets.sha256(copy / OUTLINE)
    assert float(line["ml_before"]) == stored.summary["lesion_volume_ml"]
    assert line["date_utc"].endswith("+00:00")

    page = (copy / "report.html").read_text()
    assert "corrected manually by A. Reader" in page
    assert "lesion_mask_automatic.nii.gz" in page
    rebuild_page(copy)
    assert (copy / "report.html").read_text() == page


def test_reason_that_is_not_utf8_is_written(copy, tmp_path) -> None:
    same = Path(shutil.copyfile(copy / OUTLINE, tmp_path / "same.nii.gz"))
    recompute(copy, same, by=os.fsdecode(b"M\xfcller"), reason=os.fsdecode(b"gr\xf6\xdfer"))
    (line,) = audit_of(copy)
    assert (line["by"], line["reason"]) == ("M?ller", "gr??er")
    assert "by M?ller" in (copy / "report.html").read_text(encoding="utf-8")


def test_coverage_note_describes_the_corrected_mask(copy, tmp_path, monkeypatch) -> None:
    def too_short(*given: Any) -> Anatomy:
        return replace(find_anatomy(*given), pc_aspects=None)

    def coverage_notes() -> list[str]:
        notes = summary_of(copy)["notes"]
        return [note["message"] for note in notes if note["code"] == "aspects-coverage"]

    same = Path(shutil.copyfile(copy / OUTLINE, tmp_path / "same.nii.gz"))
    with monkeypatch.context() as patch:
        patch.setattr(correction, "find_anatomy", too_short)
        recompute(copy, same, by="AB")
        (text,) = coverage_notes()
        assert "every region of PC-ASPECTS" in text
    recompute(copy, same, by="AB")
    assert coverage_notes() == []


def test_correction_of_a_bids_result_updates_the_dataset(copy, tmp_path) -> None:
    data, out = tmp_path / "data", tmp_path / "data" / "derivatives" / "infarct"
    source = CaseFiles(data / "sub-1" / "dwi.nii.gz", adc=data / "sub-1" / "adc.nii.gz")
    (job,) = jobs_of([BidsScan({"sub": "1"}, source)], data, out)
    job.folder.parent.mkdir(parents=True)
    stored = read_stored(copy)
    publish(copy, job)
    moved = tmp_path / "moved"
    data.rename(moved)
    folder, mask, in_mni = (
        moved / path.relative_to(data)
        for path in (job.folder, job.output(OUTLINE), job.output(f"mni/{OUTLINE}"))
    )
    page = (folder / "report.html").read_bytes()
    rebuild_page(folder)
    assert (folder / "report.html").read_bytes() == page

    half = stored.lesion.data.copy()
    half[:, : int(np.argwhere(half)[:, 1].mean())] = False
    before = nib.load(in_mni).get_fdata().sum()
    # Images that are not needed for the measurements may be missing.
    next(mask.parent.glob("*desc-ismap*.nii.gz")).unlink()
    names = {path.name for path in mask.parent.iterdir()}
    recompute(folder, save(tmp_path / "half.nii.gz", 1.0 * half, stored.dwi.affine), by="A")
    assert np.array_equal(np.asarray(nib.load(mask).dataobj) > 0, half)
    assert nib.load(in_mni).get_fdata().sum() < before
    assert {path.name for path in mask.parent.iterdir()} == names
    assert not (folder / OUTLINE).exists()
    kept = audit_of(folder)[0]["previous_mask"]
    assert np.array_equal(np.asarray(nib.load(folder / kept).dataobj) > 0, stored.lesion.data)
    assert summary_of(folder)["lesion_volume_ml"] == pytest.approx(
        half.sum() * stored.dwi.grid.voxel_ml
    )


def test_concurrent_correction_is_rejected(copy, tmp_path, held_elsewhere) -> None:
    same = Path(shutil.copyfile(copy / OUTLINE, tmp_path / "same.nii.gz"))
    with held_elsewhere(copy), pytest.raises(OutputError, match="another infarct process"):
        recompute(copy, same, by="A")
    assert not (copy / "audit.tsv").exists()
    recompute(copy, same, by="B")
    assert [line["by"] for line in audit_of(copy)] == ["B"]
    assert {path.name for path in tmp_path.iterdir()} == {"case", "same.nii.gz"}


def test_correction_updates_the_file_list(copy, tmp_path) -> None:
    (copy / "dicom").mkdir()
    (copy / "dicom" / "segmentation.dcm").write_bytes(b"DICM")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest[FILES] = list_files(copy)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    (copy / "notes.txt").write_text("mine")
    recompute(copy, Path(shutil.copyfile(copy / OUTLINE, tmp_path / "same.nii.gz")), by="AB")
    listed = json.loads((copy / "manifest.json").read_text())[FILES]
    assert {**listed, "notes.txt": assets.sha256(copy / "notes.txt")} == list_files(copy)
    assert manual_work(copy) == [
        f"{OUTLINE} (corrected by hand)",
        "audit.tsv (its audit trail)",
        "notes.txt (not written by infarct)",
    ]


def test_correction_removes_the_thumbnail_of_the_old_mask(copy, tmp_path) -> None:
    (copy / THUMBNAIL).write_bytes(b"the old one")
    recompute(copy, Path(shutil.copyfile(copy / OUTLINE, tmp_path / "same.nii.gz")), by="AB")
    assert not (copy / THUMBNAIL).exists()


def test_earlier_masks_are_kept_and_automatic_dicom_is_renamed(copy, tmp_path) -> None:
    (copy / "dicom").mkdir()
    (copy / "dicom" / "segmentation.dcm").write_bytes(b"DICM")
    stored = read_stored(copy)
    first = save(tmp_path / "a.nii", stored.lesion.data.astype(np.uint8), stored.dwi.affine)
    recompute(copy, first, by="AB")
    assert not (copy / "dicom").exists()
    # An empty mask means that there is no lesion; the mask may be inside the result folder.
    second = save(copy / "none.nii.gz", np.zeros(stored.dwi.data.shape), stored.dwi.affine)
    recompute(copy, second, by="B")
    assert [line["previous_mask"] for line in audit_of(copy)] == [
        "lesion_mask_automatic.nii.gz",
        "lesion_mask_corrected-1.nii.gz",
    ]
    assert summary_of(copy)["lesion_count"] == 0
    assert summary_of(copy)["adc_ratio"] is None
    assert "No acute infarct was segmented" in (copy / "report.html").read_text()
    assert audit_of(copy)[1]["sha256_before"] == audit_of(copy)[0]["sha256_after"]
    assert not (copy / "dicom").exists()
    assert (copy / "dicom_automatic" / "segmentation.dcm").read_bytes() == b"DICM"


def test_findings_and_confidence_of_the_old_mask_are_dropped(copy, tmp_path) -> None:
    old = summary_of(copy)
    stale = {"code": "lesion-very-large", "level": "warning", "message": "old"}
    unsure = {"code": "mask-contradicts-probability", "level": "warning", "message": "old"}
    kept = {"code": "brain-cropped", "level": "warning", "message": "stays"}
    notes = [
        {"code": "second-method-disagrees", "level": "note", "message": "old"},
        {"code": "candidates-rejected", "level": "note", "message": "old"},
        {"code": "b0-computed", "level": "note", "message": "stays"},
    ]
    old |= {
        "confidence": {"infarct_probability": 0.9},
        "territories": [],
        "aspects": {"score": 3, "side": "left", "affected": [], "rule": ""},
        "warnings": [stale, unsure, kept],
        "notes": notes,
    }
    (copy / "summary.json").write_text(json.dumps(old))
    stored = read_stored(copy)
    outside = ~stored.brain.data
    edited = save(tmp_path / "edited.nii.gz", outside.astype(np.uint8), stored.dwi.affine)
    recompute(copy, edited, by="AB")
    new = summary_of(copy)
    assert new["confidence"] is None
    assert new["territories"]
    assert new["aspects"] != old["aspects"]
    assert {"brain-cropped", "mask-outside-brain"} <= {w["code"] for w in new["warnings"]}
    assert "old" not in {w["message"] for w in new["warnings"]}
    assert new["notes"] == notes[-1:]


def test_mask_saved_by_another_tool_is_reordered_to_the_dwi_grid(copy, tmp_path) -> None:
    stored = read_stored(copy)
    mask, affine = stored.lesion.data, stored.dwi.affine.copy()
    # ITK stores directions as a rotation and drops the shear of the scan, 0.02 mm at the corners.
    affine[0, 1] += 2e-4
    sloppy = np.where(mask > 0, 0.99999, np.nan).astype(np.float32)
    turned = nib.Nifti1Image(sloppy, affine).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    turned.to_filename(tmp_path / "edited.nii.gz")
    edited = correction._read_edited(tmp_path / "edited.nii.gz", stored.dwi)
    np.testing.assert_array_equal(edited.data, mask > 0)


def test_invalid_mask_is_rejected_and_the_result_unchanged(copy, tmp_path) -> None:
    stored = read_stored(copy)
    before = {path: assets.sha256(path) for path in copy.rglob("*") if path.is_file()}
    mask, affine = stored.lesion.data.astype(np.float32), stored.dwi.affine
    moved = affine.copy()
    moved[0, 3] += 1.0
    mirrored = affine @ np.diag([-1, 1, 1, 1])
    for data, grid, error, reason in (
        (mask[1:], affine, GeometryError, "shape"),
        (mask, moved, GeometryError, "affine"),
        (mask, mirrored, GeometryError, "affine"),
        (mask * 0.7, affine, ContentError, r"0\.7"),
        (-mask, affine, ContentError, "-1"),
        (np.where(mask > 0, np.inf, 0), affine, ContentError, "inf"),
    ):
        with pytest.raises(error, match=reason):
            recompute(copy, save(tmp_path / "bad.nii.gz", data, grid), by="AB")
    assert before == {path: assets.sha256(path) for path in copy.rglob("*") if path.is_file()}


def test_failed_correction_leaves_the_result_unchanged(copy, tmp_path, monkeypatch) -> None:
    same = Path(shutil.copyfile(copy / OUTLINE, tmp_path / "same.nii.gz"))
    before = {path: assets.sha256(path) for path in copy.rglob("*") if path.is_file()}

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(correction, "write_documents", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        recompute(copy, same, by="AB")
    assert before == {path: assets.sha256(path) for path in copy.rglob("*") if path.is_file()}
    assert {path.name for path in tmp_path.iterdir()} == {"case", "same.nii.gz"}


def test_erasing_a_large_infarct_causes_an_asymmetry_warning(copy, tmp_path) -> None:
    assert "asymmetry" not in {w["code"] for w in summary_of(copy)["warnings"]}
    dwi = read_stored(copy).dwi
    nothing = save(tmp_path / "edited.nii.gz", np.zeros(dwi.data.shape, np.uint8), dwi.affine)
    recompute(copy, nothing, by="AB")
    assert "asymmetry" in {w["code"] for w in summary_of(copy)["warnings"]}


def test_a_correction_without_a_name_is_refused(copy, tmp_path) -> None:
    same = Path(shutil.copyfile(copy / OUTLINE, tmp_path / "same.nii.gz"))
    with pytest.raises(InputFileError, match="--by"):
        recompute(copy, same, by=" ")
    assert not (copy / "audit.tsv").exists()


def test_the_label_image_follows_the_corrected_mask(copy, tmp_path) -> None:
    stored = read_stored(copy)
    half = stored.lesion.data.copy()
    half[:, : int(np.argwhere(half)[:, 1].mean())] = False
    recompute(copy, save(tmp_path / "half.nii.gz", 1.0 * half, stored.dwi.affine), by="AB")
    labels = np.asarray(nib.load(copy / "lesion_labels.nii.gz").dataobj)
    assert np.array_equal(labels > 0, half)
