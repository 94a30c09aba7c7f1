"""Test the complete command on a DICOM folder whose name contains the patient name."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_scanner import ANATOMY, IDENTIFIERS, SMALL, Plane, Protocol, Study, noise, save_classic

from infarct.cli import main
from infarct.cli.segment_dicom import DicomRequest
from infarct.dicom.seg import from_frames
from infarct.measurement.atlas import load_atlas


@dataclass(frozen=True)
class Run:
    """One run of `infarct segment --dicom --dicom-out`.

    Attributes:
        folder: Input folder.
        out: Output folder.
        uid: UID of the requested series.
        before: Modification times of all input files before the run.
        stdout: Standard output.
        stderr: Standard error.
    """

    folder: Path
    out: Path
    uid: str
    before: dict[Path, int]
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def run(head, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Save the synthetic head as Siemens DICOM (b0, three directions) and run the command.

    The folder also contains an earlier study.
    """
    folder = tmp_path_factory.mktemp("scanned") / "Roe_Jane_PAT-4711"
    study = Study.new("SIEMENS")
    # The head has a RAS grid; DICOM rows run from front to back, columns from right to left.
    corner = head.affine @ [*(n - 1 for n in head.dwi.shape[:2]), 0, 1]
    plane = Plane((-corner[0], -corner[1], corner[2]))
    b0, dwi = (
        np.clip(10 * image[::-1, ::-1].transpose(2, 1, 0), 0, 65535).astype(np.uint16)
        for image in (head.b0, head.dwi)
    )
    directions = [(1000, (dwi * factor).astype(np.uint16)) for factor in (1.1, 1.0, 1 / 1.1)]
    uid = save_classic(folder, study, Protocol(4, "ep2d_diff"), plane, [(0, b0), *directions])
    earlier = replace(Study.new("SIEMENS"), date="20190401")
    save_classic(folder, earlier, Protocol(2, "t1_mprage", ANATOMY), SMALL, [(None, noise(500))])
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    out = folder.parent / "out"
    command = [sys.executable, "-W", "error", "-m", "infarct", "segment", "--dicom", str(folder)]
    done = subprocess.run(
        [*command, "--out", str(out), "--dicom-out", "--model", "cfuzzy", "--series", uid],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Run(folder, out, uid, before, done.stdout, done.stderr)


def every_byte(out: Path) -> bytes:
    """Return all file names and contents in a folder, with compressed files decompressed."""
    content = []
    for path in sorted(out.rglob("*")):
        content.append(path.name.encode())
        if path.is_file():
            data = path.read_bytes()
            content += [data, gzip.decompress(data)] if path.suffix == ".gz" else [data]
    return b"\0".join(content)


@pytest.fixture(scope="module")
def written(run: Run) -> bytes:
    return every_byte(run.out)


def test_the_lesion_is_segmented_at_the_right_position(run, head, quick) -> None:
    summary = json.loads((run.out / "summary.json").read_text())
    expected = quick.measurements
    assert summary["lesion_volume_ml"] == pytest.approx(expected.lesion_volume_ml, rel=0.1)
    assert summary["left_ml"] > 0.9 * summary["lesion_volume_ml"]
    assert summary["bvalue_s_per_mm2"] == 1000
    notes = {note["code"]: note["message"] for note in summary["notes"]}
    assert "series 4 (Siemens) used as DWI" in notes["dicom-series"]
    mask = nib.load(run.out / "lesion_mask.nii.gz")
    inside = np.argwhere(np.asarray(mask.dataobj) > 0)
    world = nib.affines.apply_affine(mask.affine, inside)
    voxels = np.round(nib.affines.apply_affine(np.linalg.inv(head.affine), world)).astype(int)
    found = np.zeros(head.lesion.shape, bool)
    found[tuple(voxels.T)] = True
    dice = 2 * (found & head.lesion).sum() / (found.sum() + head.lesion.sum())
    assert dice > 0.8


def test_the_terminal_lists_all_series_and_their_use(run) -> None:
    text = " ".join(run.stdout.split())
    assert "used as DWI and b0" in text
    assert "t1_mprage" in text
    assert re.search(r"1 acute lesion in the left MCA territory, [\d.]+ ml\.", text)


def test_dates_and_uids_of_studies_are_shown_on_the_terminal_only(run, written) -> None:
    assert "2019-04-01" in run.stdout
    assert f"study of 2024-02-29 11:59, series 4: --series {run.uid}\n" in run.stdout
    for date in ("2019-04-01", "2024-02-29", "20190401"):
        assert date.encode() not in written
    study = pydicom.dcmread(run.out / "dicom" / "segmentation.dcm").StudyInstanceUID
    files = [path for path in run.out.iterdir() if path.is_file()]
    for uid in (run.uid, study):
        assert not [path.name for path in files if uid.encode() in path.read_bytes()]
    summary = json.loads((run.out / "summary.json").read_text())
    assert "dicom-studies" in {warning["code"] for warning in summary["warnings"]}


def test_no_identifier_appears_in_the_outputs(run, written) -> None:
    source = every_byte(run.folder)
    for identifier in (*IDENTIFIERS, "20240229", "Roe_Jane"):
        assert identifier.encode() not in written, identifier
        assert identifier not in run.stdout + run.stderr
        # The search itself works: the inputs contain the identifier.
        assert identifier.encode() in source or identifier in str(run.folder)


def test_the_manifest_stores_the_command_without_folder_names(run) -> None:
    manifest = json.loads((run.out / "manifest.json").read_text())
    assert manifest["command"][1:6] == ["segment", "--dicom", "FOLDER", "--out", "OUT"]
    assert "--dicom-out" in manifest["command"]
    assert manifest["inputs"]["dwi"]["file"] == "dwi.nii"
    assert len(manifest["inputs"]["dwi"]["sha256"]) == 64


def test_the_command_in_the_manifest_is_complete_without_file_names() -> None:
    territories = load_atlas("territories")
    request = DicomRequest(Path("a"), Path("b"), territories=territories, overwrite=True)
    assert request.command[7:] == ["--atlas", "ATLAS", "--labels", "LABELS", "--overwrite"]


def test_the_input_is_not_modified(run) -> None:
    assert run.before == {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")}


def test_both_objects_are_valid_dicom(run) -> None:
    for name, modality in (("segmentation", "SEG"), ("measurements", "SR")):
        assert pydicom.dcmread(run.out / "dicom" / f"{name}.dcm").Modality == modality


def test_the_seg_equals_the_masks(run) -> None:
    seg = hd.seg.segread(run.out / "dicom" / "segmentation.dcm")
    for number, name in ((1, "lesion_mask"), (2, "brain_mask")):
        mask = nib.load(run.out / f"{name}.nii.gz")
        volume = seg.get_volume(combine_segments=False, segment_numbers=[number])
        frames = volume.array[..., 0]
        # Every SEG voxel has the same world position as in the NIfTI file.
        ras_from_frames = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
        voxel_from_frames = np.linalg.inv(mask.affine) @ ras_from_frames
        at = np.argwhere(frames > 0)
        voxels = nib.affines.apply_affine(voxel_from_frames, at)
        assert np.allclose(voxels, np.round(voxels), atol=2e-3)
        back = np.zeros(mask.shape, bool)
        back[tuple(np.round(voxels).astype(int).T)] = True
        assert np.array_equal(back, np.asarray(mask.dataobj) > 0)
    plain = pydicom.dcmread(run.out / "dicom" / "segmentation.dcm")
    frames = plain.pixel_array[: mask.shape[2]]
    heights = [
        group.PlanePositionSequence[0].ImagePositionPatient[2]
        for group in plain.PerFrameFunctionalGroupsSequence[: mask.shape[2]]
    ]
    lesion = np.asarray(nib.load(run.out / "lesion_mask.nii.gz").dataobj)
    assert np.array_equal(from_frames(frames[np.argsort(heights)]), lesion)


def test_the_structured_report_matches_the_summary(run) -> None:
    summary = json.loads((run.out / "summary.json").read_text())
    report = hd.sr.srread(run.out / "dicom" / "measurements.dcm")
    lesion, brain = report.content.get_volumetric_roi_measurement_groups()
    volume = lesion.get_measurements()[0].value
    assert volume == pytest.approx(summary["lesion_volume_ml"])
    icv = brain.get_measurements()[0].value
    assert icv == pytest.approx(summary["intracranial_volume_ml"])
    comments = [item.TextValue for item in report.ContentSequence[-1].ContentSequence]
    assert comments == [warning["message"] for warning in summary["warnings"]]


def exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["infarct", "segment", *arguments])
    with pytest.raises(SystemExit) as stop:
        main.main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--dwi", "a.nii", "--dicom", "folder"),
        ("--dicom", "folder", "--bvalue", "1000"),
        ("--dwi", "a.nii", "--dicom-out"),
        ("--dwi", "a.nii", "--series", "4"),
        ("--dicom", "folder", "--keep-identity"),
    ],
)
def test_wrong_usage_exits_with_code_2(arguments, monkeypatch, tmp_path: Path) -> None:
    assert exit_code(monkeypatch, *arguments, "--out", str(tmp_path / "out")) == 2


@pytest.mark.parametrize(("where", "code"), [("in", 6), ("in/results", 6), ("out", 3)])
def test_errors_exit_with_their_code(where, code, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    out = ("--out", str(tmp_path / where))
    assert exit_code(monkeypatch, "--dicom", str(tmp_path / "in"), *out) == code


def test_the_error_without_the_dicom_extra_says_how_to_install_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['highdicom'] = None\n"
        f"sys.argv = ['infarct', 'segment', '--dicom', 'x', '--out', {str(tmp_path / 'out')!r}]\n"
        "from infarct.cli.main import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 7
    assert "pip install '.[dicom]'" in done.stderr
