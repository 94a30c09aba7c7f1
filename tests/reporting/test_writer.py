import csv
import json
import math
import os
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infarct.core import assets
from infarct.core.errors import OutputError
from infarct.core.findings import Finding, FindingCode
from infarct.reporting import writer
from infarct.reporting.reader import manual_work
from infarct.reporting.recompute import recompute
from infarct.reporting.writer import (
    check_destination,
    destination,
    rebuild_page,
    summarise,
    write_results,
)


def test_result_contains_all_documented_files(written) -> None:
    names = {path.relative_to(written).as_posix() for path in written.rglob("*") if path.is_file()}
    assert names == {
        *("lesion_mask.nii.gz", "lesion_probability.nii.gz", "brain_mask.nii.gz"),
        *("uncertainty.nii.gz", "lesion_labels.nii.gz", "second_mask.nii.gz"),
        *(
            "lesions.tsv",
            "regions.tsv",
            "summary.json",
            "manifest.json",
            "figure.png",
            "report.html",
        ),
        *("methods.md", "methods.tex", "references.bib"),
        *(f"mni/{n}.nii.gz" for n in ("dwi", "b0", "adc", "dwi_normalised", "is_map")),
        *(f"scan/{n}.nii.gz" for n in ("dwi", "b0", "adc")),
        *("mni/lesion_mask.nii.gz", "mni/lesion_probability.nii.gz", "mni/mni_from_native.txt"),
        "mni/atlas_from_native.txt",
    }
    assert [path.name for path in written.parent.iterdir()] == ["case"]


def test_masks_have_the_geometry_of_the_dwi(segmentation, written) -> None:
    dwi = nib.load(segmentation.case.files.dwi)
    for name in ("lesion_mask", "brain_mask", "lesion_probability", "uncertainty"):
        image = nib.load(written / f"{name}.nii.gz")
        assert image.shape == dwi.shape
        for field in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "pixdim"):
            assert np.array_equal(image.header[field], dwi.header[field])
    mask = np.asarray(nib.load(written / "lesion_mask.nii.gz").dataobj)
    assert mask.dtype == np.uint8
    assert np.array_equal(mask > 0, segmentation.lesion.data)


def test_rows_of_the_lesion_table_are_found_in_the_label_image(written) -> None:
    labels = nib.load(written / "lesion_labels.nii.gz")
    data = np.asarray(labels.dataobj)
    voxel_ml = float(np.prod(labels.header.get_zooms())) / 1000
    lesions = json.loads((written / "summary.json").read_text())["lesions"]
    assert data.max() == len(lesions) > 0
    for lesion in lesions:
        at = np.argwhere(data == lesion["label"])
        assert len(at) * voxel_ml == pytest.approx(lesion["volume_ml"], rel=1e-4)
        centre = nib.affines.apply_affine(labels.affine, at.mean(axis=0))
        assert centre == pytest.approx(lesion["centroid_mm"], abs=1e-2)


def test_measurements_agree_with_the_written_mask(written) -> None:
    summary = json.loads((written / "summary.json").read_text())
    image = nib.load(written / "lesion_mask.nii.gz")
    ml = image.get_fdata().sum() * abs(np.linalg.det(image.affine[:3, :3])) / 1000
    assert summary["lesion_volume_ml"] == pytest.approx(ml)
    with (written / "lesions.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert len(rows) == summary["lesion_count"]
    assert sum(float(row["volume_ml"]) for row in rows) == pytest.approx(ml, rel=1e-4)
    assert rows[0]["side"] == "left"
    assert float(rows[0]["centroid_mni_x_mm"]) < 0
    assert set(summary["seconds"]) >= {"register", "cfuzzy map", "segment"}


def test_territory_and_region_tables_agree(segmentation, written) -> None:
    summary = json.loads((written / "summary.json").read_text())
    first = summary["territories"][0]
    assert (first["name"], first["side"]) == ("MCA", "left")
    assert set(first) == {
        *("name", "side", "ml", "share_of_territory", "share_of_lesion", "subterritories"),
    }
    total = sum(row["ml"] for row in summary["territories"])
    assert total == pytest.approx(summary["lesion_volume_ml"], rel=0.02)
    row = summary["regions"][0]
    assert set(row) == {"name", "side", "class", "ml", "share_of_region", "share_of_lesion"}
    assert row["class"] in {"cortical", "deep", "infratentorial", "ventricle"}
    assert summary["pattern"]["dominant_territory"] == "MCA left"
    assert summary["pattern"]["hemispheres"] == "left"
    assert summary["aspects"]["side"] == "left"
    assert summary["aspects"]["score"] == 10 - len(summary["aspects"]["affected"])
    with (written / "regions.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    for kind, table in (("territory", "territories"), ("region", "regions")):
        own = [float(r["ml"]) for r in rows if r["kind"] == kind]
        assert own == pytest.approx([r["ml"] for r in summary[table]], rel=1e-4)
    with (written / "lesions.tsv").open() as stream:
        lesions = list(csv.DictReader(stream, delimiter="\t"))
    assert lesions[0]["territory"] == "MCA left"
    assert lesions[0]["compartment"] in {"cortical", "deep"}
    matrix = np.loadtxt(written / "mni" / "atlas_from_native.txt")
    assert matrix == pytest.approx(segmentation.refinement.mni_from_native, abs=1e-5)
    manifest = json.loads((written / "manifest.json").read_text())
    assert manifest["territories"]["sha256"] == manifest["assets"]["atlas/territories"]


def test_mni_mask_has_the_volume_of_the_native_mask(segmentation, written) -> None:
    in_mni = nib.load(written / "mni" / "lesion_mask.nii.gz").get_fdata()
    sx, sy = segmentation.prepared.registration.in_plane.scale
    ml = segmentation.measurements.lesion_volume_ml * sx * sy
    assert in_mni.sum() / 1000 == pytest.approx(ml, rel=0.05)


def test_written_transform_maps_the_lesion_centroid(segmentation, written) -> None:
    matrix = np.loadtxt(written / "mni" / "atlas_from_native.txt")
    lesion = segmentation.measurements.lesions[0]
    moved = matrix @ [*lesion.centroid_mm, 1]
    assert moved[:3] == pytest.approx(lesion.centroid_mni_mm, abs=1e-4)


def test_manifest_gives_the_provenance_without_folders(segmentation, written, tmp_path) -> None:
    text = (written / "manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["inputs"]["dwi"]["file"] == "dwi.nii.gz"
    assert len(manifest["inputs"]["b0"]["sha256"]) == 64
    assert "bval" not in manifest["inputs"]
    bvalues = tmp_path / "dwi.bval"
    bvalues.write_text("0 1000")
    case = replace(segmentation.case, files=replace(segmentation.case.files, bval=bvalues))
    inputs = writer._manifest(replace(segmentation, case=case), ())["inputs"]
    assert inputs["bval"] == {"file": "dwi.bval", "sha256": assets.sha256(bvalues)}
    assert "templates/b0" in manifest["assets"]
    assert {"numpy", "SimpleITK"} <= set(manifest["libraries"])
    assert str(written.parent) not in text


def test_scan_is_stored_with_the_documented_precision(segmentation, written) -> None:
    case = segmentation.case
    for name, data, step in (
        ("dwi", case.dwi.data, case.dwi.data.max() / 32000),
        ("b0", case.b0.data, case.b0.data.max() / 32000),
        ("adc", np.clip(case.adc.data, -0.03, 0.03), 1e-6),
    ):
        on_disk = nib.load(written / "scan" / f"{name}.nii.gz").get_fdata()
        assert np.abs(on_disk - data).max() <= 0.51 * step


def test_very_bright_voxel_does_not_reduce_the_grey_levels_of_the_brain(quick, tmp_path) -> None:
    case, scan = quick.case, quick.prepared
    hot, hot_mni = case.dwi.data.copy(), scan.dwi.copy()
    hot[2, 2, 2] = hot_mni[2, 2, 2] = 1e7
    case = replace(case, dwi=case.dwi.like(hot))
    out = write_results(
        replace(quick, case=case, prepared=replace(scan, dwi=hot_mni)), tmp_path / "o"
    )
    assert np.array_equal(nib.load(out / "scan" / "dwi.nii.gz").get_fdata(), hot)
    # In MNI space, for display only, the voxel is clipped.
    in_mni = nib.load(out / "mni" / "dwi.nii.gz").get_fdata()
    step = np.percentile(hot_mni[scan.brain], 99.5) / 1000
    assert np.abs(in_mni - hot_mni)[scan.brain].max() <= 0.51 * step
    assert nib.load(out / "scan" / "b0.nii.gz").get_data_dtype() == np.int16


def test_report_is_rebuilt_identically_from_the_folder(written, tmp_path) -> None:
    moved = tmp_path / "exported"
    shutil.copytree(written, moved)
    (moved / "report.html").write_text("lost")
    (moved / "figure.png").unlink()
    rebuild_page(moved)
    for name in ("report.html", "figure.png"):
        assert (moved / name).read_bytes() == (written / name).read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]


def test_report_of_a_scan_whose_name_is_not_utf8(quick, tmp_path) -> None:
    files = quick.case.files
    named = tmp_path / "in" / os.fsdecode(b"M\xfcller_dwi.nii.gz")
    named.parent.mkdir()
    shutil.copyfile(files.dwi, named)
    case = replace(quick.case, files=replace(files, dwi=named))
    command = ["segment", "--dwi", str(named), f"--out={tmp_path / 'Doe' / 'out'}", "--overwrite"]
    out = write_results(replace(quick, case=case), tmp_path / "out", command=command)
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["inputs"]["dwi"]["file"] == "M?ller_dwi.nii.gz"
    # Folders may name patients.
    expected = ["infarct", "segment", "--dwi", "M?ller_dwi.nii.gz", "--out=out", "--overwrite"]
    assert manifest["command"] == expected
    assert "M?ller_dwi.nii.gz" in (out / "report.html").read_text(encoding="utf-8")
    rebuild_page(out)


def test_undefined_numbers_become_null(segmentation) -> None:
    m = replace(segmentation.measurements, dwi_ratio=math.nan)
    summary = summarise(replace(segmentation, measurements=m))
    assert summary["dwi_ratio"] is None
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize("code", [code for code in FindingCode if code.voids_confidence])
def test_voiding_finding_removes_the_confidence(code, segmentation) -> None:
    poor = Finding(code, "warning", "The registration failed.")
    confidence = summarise(segmentation)["confidence"]
    void = summarise(replace(segmentation, findings=(*segmentation.findings, poor)))["confidence"]
    assert confidence["infarct_probability"] is not None
    withheld = ("infarct_probability", "volume_interval_ml", "failure_probability")
    assert void == {**confidence, **dict.fromkeys(withheld)}


def test_failed_write_leaves_no_files(segmentation, tmp_path, monkeypatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "write_tables", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        write_results(segmentation, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_interrupted_write_leaves_no_files(segmentation, tmp_path, monkeypatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "_manifest", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_results(segmentation, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_earlier_result_is_replaced_only_with_overwrite(segmentation, written, tmp_path) -> None:
    out = Path(shutil.copytree(written, tmp_path / "out"))
    with pytest.raises(OutputError, match="--overwrite"):
        write_results(segmentation, out)
    before = (out / "manifest.json").stat().st_ino
    write_results(segmentation, out, overwrite=True)
    assert (out / "manifest.json").stat().st_ino != before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def corrected(out: Path) -> str:
    mask = out.with_name("edited.nii.gz")
    shutil.copyfile(out / "lesion_mask.nii.gz", mask)
    recompute(out, mask, by="me")
    mask.unlink()
    return "audit.tsv"


def edited(out: Path) -> str:
    shutil.copyfile(out / "brain_mask.nii.gz", out / "lesion_mask.nii.gz")
    return "lesion_mask.nii.gz"


def annotated(out: Path) -> str:
    (out / "scan" / "notes.txt").write_text("mine")
    return "scan/notes.txt"


@pytest.mark.parametrize("work", [corrected, edited, annotated])
def test_manual_work_is_listed_and_deleted_only_on_request(quick, tmp_path, work) -> None:
    out = write_results(quick, tmp_path / "out")
    name = work(out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(OutputError, match=r"would delete manual work: .*overwrite-corrected") as no:
        write_results(quick, out, overwrite=True)
    assert name in str(no.value)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    write_results(quick, out, overwrite_corrected=True)
    assert manual_work(out) == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_files_added_while_writing_are_kept(quick, tmp_path, monkeypatch, overwrite: bool) -> None:
    out = tmp_path / "out"
    if overwrite:
        write_results(quick, out)

    def add(_: Path) -> None:
        out.mkdir(exist_ok=True)
        (out / "notes.txt").write_text("mine")

    with pytest.raises(OutputError, match=r"notes\.txt" if overwrite else "already exists"):
        write_results(quick, out, overwrite=overwrite, add=add)
    assert (out / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folder_in_use_is_rejected_before_processing(tmp_path, held_elsewhere) -> None:
    with (
        held_elsewhere(tmp_path / "out"),
        pytest.raises(OutputError, match="another infarct process"),
        destination(tmp_path / "out", [], patience=0.1),
    ):
        pass
    with destination(tmp_path / "out", []), destination(tmp_path / "out", []):
        pass
    assert list(tmp_path.iterdir()) == []


def test_manifest_names_engine_and_calibration(segmentation, written, quick) -> None:
    manifest = json.loads((written / "manifest.json").read_text())
    assert manifest["engine"] == {
        "name": "onnxruntime",
        "version": version("onnxruntime"),
        "precision": "float32",
    }
    calibration = assets.path("calibration/ensemble")
    assert manifest["calibration"] == {
        "file": calibration.name,
        "sha256": assets.sha256(calibration),
    }
    assert manifest["networks"] == {
        file.name: assets.sha256(file) for file in segmentation.model.networks
    }
    assert writer._manifest(quick, ())["calibration"] is None
    data = json.loads((written / "summary.json").read_text())["confidence"]["calibration"]
    assert data == {"scans": 155, "with_infarct": 62, "learned_from": "synthetic scans"}


def test_rebuilding_the_report_does_not_hide_manual_work(written, tmp_path) -> None:
    out = Path(shutil.copytree(written, tmp_path / "out"))
    (out / "notes.txt").write_text("mine")
    (out / "report.html").unlink()
    rebuild_page(out)
    assert manual_work(out) == ["notes.txt (not written by infarct)"]


def test_folders_without_a_result_are_never_replaced(tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    for manifest in (None, "{", '{"source": "XNAT"}', "[]"):
        if manifest:
            (tmp_path / "mine" / "manifest.json").write_text(manifest)
        with pytest.raises(OutputError, match=r"no manifest\.json of infarct"):
            check_destination(tmp_path / "mine", [], overwrite=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        check_destination(tmp_path / "file", [], overwrite=False)


def test_mount_point_is_rejected(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path)
    with pytest.raises(OutputError, match=r"mount point.* a folder inside it"):
        check_destination(tmp_path, [], overwrite=False)
    check_destination(tmp_path / "out", [], overwrite=False)


def test_current_directory_is_rejected(tmp_path, monkeypatch) -> None:
    (tmp_path / "case" / "mni").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "case" / "mni")
    with pytest.raises(OutputError, match="is or contains your current directory"):
        check_destination(tmp_path / "case", [], overwrite=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="your current directory"):
        check_destination(Path(), [], overwrite=False)
    check_destination(Path("out"), [], overwrite=False)


def test_folder_without_write_permission_is_rejected(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"cannot create a folder in .*file"):
        check_destination(tmp_path / "file" / "new" / "out", [], overwrite=False)
    # Patched, because root has write permission everywhere.
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    with pytest.raises(OutputError, match="no write permission"):
        check_destination(tmp_path / "new" / "out", [], overwrite=False)


def test_input_folders_are_never_written_to(tmp_path) -> None:
    dwi = tmp_path / "scan" / "dwi.nii.gz"
    dwi.parent.mkdir()
    dwi.write_text("x")
    for out in (dwi.parent, tmp_path):
        with pytest.raises(OutputError, match="never written to"):
            check_destination(out, [dwi], overwrite=True)
