import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

from infarct import pipeline
from infarct.cohort import worker
from infarct.cohort.jobs import Export, Job, Settings
from infarct.cohort.worker import clean, is_done, process
from infarct.core import assets
from infarct.core.errors import ContentError
from infarct.core.findings import Finding
from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume
from infarct.inference.network import load_network
from infarct.preprocessing.case import CaseFiles
from infarct.reporting.reader import ELSEWHERE, FILES, OUTLINE, THUMBNAIL, list_files
from infarct.segmentation.models import BRAIN_NETWORK, get_model

Held = Callable[[Path], AbstractContextManager[None]]

SETTINGS = Settings("cfuzzy")
IMAGES = (OUTLINE, "mni/dwi.nii.gz", "mni/lesion_mask.nii.gz", "mni/xfm.txt")


@dataclass(frozen=True)
class Opened:
    """A scan whose files were not read."""

    files: CaseFiles
    findings: tuple[Finding, ...] = ()


class Segmented(tuple):
    """What was given to the segmentation, with a preprocessed scan for the thumbnail."""

    prepared = SimpleNamespace(dwi=np.zeros(MNI_GRID.shape, np.uint8))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write a result in no time; the pipeline and the report have tests of their own."""
    made: list[str] = []
    blank = Volume(np.zeros(MNI_GRID.shape, np.uint8), MNI_GRID.affine)

    def write_results(given, out: Path, *, command=(), add=lambda _: None, **_: bool) -> Path:
        case, model, *_ = given
        files = case.files
        (out / "mni").mkdir(parents=True)
        for name in IMAGES:
            (out / name).write_bytes(b"x")
        summary = {"lesion_volume_ml": 1.5, "lesion_count": 2, "warnings": [{"code": "x"}]}
        (out / "summary.json").write_text(json.dumps(summary))
        # What only says how it was made, and what decided it.
        manifest = {"python": "3", "command": command}
        manifest |= worker._recipe(Job("", files, out), Settings(model))
        del manifest["cohort"]
        manifest["outputs"] = {OUTLINE: assets.sha256(out / OUTLINE)}
        (out / "manifest.json").write_text(json.dumps(manifest))
        add(out)
        manifest[FILES] = list_files(out)
        (out / "manifest.json").write_text(json.dumps(manifest))
        made.append(out.name)
        return out

    monkeypatch.setattr(pipeline, "open_case", Opened)
    monkeypatch.setattr(pipeline, "segment_case", lambda *given: Segmented(given))
    monkeypatch.setattr(pipeline, "write_results", write_results)
    monkeypatch.setattr(worker, "read", lambda _: blank)
    return made


@pytest.fixture
def job(tmp_path: Path) -> Job:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("dwi.nii.gz", "b0.nii.gz"):
        (folder / name).write_text(name)
    files = CaseFiles(folder / "dwi.nii.gz", folder / "b0.nii.gz", bvalue=1000.0)
    return Job("s1", files, tmp_path / "out" / "s1")


def test_a_case_is_made_once(job: Job, quick: list[str]) -> None:
    first, second = process(job, SETTINGS), process(job, SETTINGS)
    assert (first.status, first.fresh, first.volume_ml, first.lesions) == ("done", True, 1.5, 2)
    assert (second.status, second.fresh, second.warnings) == ("done", False, 1)
    assert len(quick) == 1
    assert [path.name for path in job.folder.parent.iterdir()] == ["s1"]
    assert (job.folder / THUMBNAIL).read_bytes()[:2] == b"\xff\xd8"


def test_what_decides_a_result_is_in_its_manifest(job: Job, quick: list[str]) -> None:
    process(job, replace(SETTINGS, command=("cohort", "x")))
    manifest = json.loads((job.folder / "manifest.json").read_text())
    assert manifest["python"] == "3"
    assert manifest["model"] == "cfuzzy"
    given = {"bvalue": 1000.0, "bval": None, "b0_below": 50.0, "b0_bvalue": 0.0}
    assert manifest["cohort"] == {"id": "s1", **given}
    assert manifest["inputs"]["b0"]["file"] == "b0.nii.gz"
    assert len(manifest["inputs"]["b0"]["sha256"]) == 64


def test_a_changed_case_is_run_again(
    job: Job, quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process(job, SETTINGS)
    assert is_done(job, SETTINGS)
    other = replace(job.files, bvalue=2000.0)
    assert not is_done(replace(job, files=other), SETTINGS)
    assert not is_done(job, Settings("tscore"))
    assert not is_done(job, replace(SETTINGS, infarct="0.0.1"))
    method = get_model(SETTINGS.model)
    retrained = replace(method, networks_sha256={"mine.onnx": "trained again"})
    learned = get_model("fcn-ch2-slices").candidate_filter
    recalibrated = replace(method, candidate_filter=replace(learned, sha256="calibrated again"))
    for other in (retrained, recalibrated):
        with monkeypatch.context() as patched:
            patched.setattr(worker, "get_model", lambda _, method=other: method)
            assert not is_done(job, SETTINGS)
    job.files.dwi.with_name("dwi.bval").write_text("0 1000")
    assert not is_done(job, SETTINGS)
    job.files.dwi.with_name("dwi.bval").unlink()
    assert is_done(job, SETTINGS)
    job.files.dwi.write_text("another scan")
    assert process(job, SETTINGS).fresh
    assert is_done(job, SETTINGS)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("{")])
def test_a_result_without_summary_is_run_again(damage, job: Job, quick: list[str]) -> None:
    process(job, SETTINGS)
    damage(job.folder / "summary.json")
    assert not is_done(job, SETTINGS)
    assert process(job, SETTINGS).fresh


def test_reasons_contain_no_folder_names(
    job: Job, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = job.files.dwi.parent / "Roe" / "Jane"
    deep.mkdir(parents=True)
    adc = deep / "adc.nii.gz"
    adc.write_text("adc")

    def refuse(_: CaseFiles) -> None:
        raise ContentError(f"{adc}: no\nADC; {deep} holds another, {job.folder} too")

    monkeypatch.setattr(pipeline, "open_case", refuse)
    outcome = process(replace(job, files=replace(job.files, adc=adc)), SETTINGS)
    assert outcome.reason == "adc.nii.gz: no ADC; FOLDER holds another, s1 too"


def test_a_failure_is_an_outcome_with_its_exit_code_and_no_folder(
    job: Job, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(files: CaseFiles) -> None:
        raise ContentError(f"{files.dwi}: is no\nbrain")

    monkeypatch.setattr(pipeline, "open_case", refuse)
    outcome = process(job, SETTINGS)
    assert (outcome.status, outcome.code) == ("failed", 5)
    assert outcome.reason == "dwi.nii.gz: is no brain"
    gone = process(replace(job, files=CaseFiles(job.files.dwi.with_name("no.nii"))), SETTINGS)
    assert (gone.code, "no such file" in gone.reason) == (3, True)
    monkeypatch.setattr(pipeline, "open_case", lambda _: 1 / 0)
    fault = process(job, SETTINGS)
    assert (fault.code, fault.reason) == (1, "ZeroDivisionError: division by zero")
    problem = process(replace(job, problem="2 images could be its adc"), SETTINGS)
    assert (problem.code, problem.reason) == (3, "2 images could be its adc")
    assert list(job.folder.parent.glob("*")) == []


def test_a_full_disk_leaves_nothing_and_says_so(
    job: Job, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(worker, "thumbnail", full)
    outcome = process(job, SETTINGS)
    assert outcome.code == 6
    assert "No space left" in outcome.reason
    assert list(job.folder.parent.glob("*")) == list(job.folder.parent.glob(".*")) == []


@pytest.mark.parametrize("changed", ["name", "version", "precision"])
def test_engines_and_precisions_do_not_mix(
    changed: str, job: Job, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    process(job, SETTINGS)
    used = load_network(BRAIN_NETWORK)
    assert json.loads((job.folder / "manifest.json").read_text())["engine"] == {
        "name": "onnxruntime",
        "version": version("onnxruntime"),
        "precision": "float32",
    }
    other = replace(used, engine=mock.Mock(record=lambda: used.engine.record() | {changed: "x"}))
    monkeypatch.setattr(worker, "load_network", lambda _: other)
    assert not is_done(job, SETTINGS)
    assert process(job, SETTINGS).fresh
    assert is_done(job, SETTINGS)


def test_inputs_that_change_during_a_run_are_an_error(
    job: Job, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(*given: object) -> tuple[object, ...]:
        job.files.dwi.write_text("another scan")
        return Segmented(given)

    monkeypatch.setattr(pipeline, "segment_case", replaced)
    failed = process(job, SETTINGS)
    assert (failed.status, failed.code) == ("failed", 6)
    assert failed.reason.startswith("inputs changed while the case was being processed")
    assert not job.folder.exists()


def test_a_live_worker_keeps_its_place_and_a_dead_one_does_not(
    job: Job, held_elsewhere: Held
) -> None:
    dead, live, foreign = (
        job.folder.with_name(f".{name}-host-{number:016x}")
        for number, name in enumerate(("s1.partial", "s2.partial", "s3.partial"))
    )
    for place in (dead, foreign):
        place.mkdir(parents=True)
    second = replace(job, id="s2", folder=job.folder.with_name("s2"))
    with held_elsewhere(second.folder):
        live.mkdir()
        clean([job, second])
        assert {path.name for path in job.folder.parent.iterdir()} == {
            *(live.name, foreign.name, ".s2.lock")
        }
    clean([job, second])
    assert [path.name for path in job.folder.parent.iterdir()] == [foreign.name]


def test_a_case_another_worker_just_made_is_not_made_again(
    job: Job, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def first_not_yet(given: Job, settings: Settings) -> bool:
        if not seen:
            seen.append(True)
            assert process(given, settings).fresh
            return False
        return is_done(given, settings)

    monkeypatch.setattr(worker, "is_done", first_not_yet)
    outcome = process(job, SETTINGS)
    assert (outcome.status, outcome.fresh) == ("done", False)
    assert len(quick) == 1


def test_a_worker_of_another_version_refuses(job: Job, quick: list[str]) -> None:
    outcome = process(job, replace(SETTINGS, infarct="99.0"))
    assert (outcome.code, "install the same version" in outcome.reason) == (7, True)
    assert quick == []


def test_a_folder_that_is_not_a_result_is_not_replaced(job: Job, quick: list[str]) -> None:
    job.folder.mkdir(parents=True)
    (job.folder / "thesis.txt").write_text("x")
    assert process(job, SETTINGS).code == 6
    assert (job.folder / "thesis.txt").is_file()


def test_a_manually_corrected_result_is_not_replaced(job: Job, quick: list[str]) -> None:
    process(job, SETTINGS)
    (job.folder / "audit.tsv").write_text("by\n")
    assert process(job, SETTINGS).status == "done"
    refused = process(job, Settings("tscore"))
    assert (refused.status, refused.code) == ("failed", 6)
    assert refused.reason.startswith(f"s1 contains manual edits, {OUTLINE} (corrected by hand)")
    assert "audit.tsv (its audit trail)" in refused.reason
    assert "move it" in refused.reason
    assert (job.folder / "audit.tsv").is_file()
    assert len(quick) == 1
    job.folder.rename(job.folder.with_name("kept"))
    assert process(job, Settings("tscore")).fresh
    (job.folder / "audit.tsv").write_text("by\n")
    assert process(job, Settings("cfuzzy", overwrite_corrected=True)).fresh
    assert not (job.folder / "audit.tsv").exists()


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "mni/mine.nii.gz", "lesion_mask.nii"])
def test_the_files_of_the_user_are_not_lost_to_another_version(
    name: str, job: Job, quick: list[str]
) -> None:
    process(job, SETTINGS)
    (job.folder / name).write_text("mine")
    assert process(job, SETTINGS).status == "done"
    refused = process(job, Settings("tscore"))
    assert (refused.status, refused.code) == ("failed", 6)
    assert f"{name} (not written by infarct)" in refused.reason
    assert (job.folder / name).read_text() == "mine"


def test_a_mask_edited_in_place_is_neither_used_nor_lost(job: Job, quick: list[str]) -> None:
    process(job, SETTINGS)
    (job.folder / OUTLINE).write_bytes(b"drawn by hand")
    refused = process(job, SETTINGS)
    assert (refused.status, refused.code) == ("failed", 6)
    assert f"{OUTLINE} (edited)" in refused.reason
    assert (job.folder / OUTLINE).read_bytes() == b"drawn by hand"
    assert len(quick) == 1


def test_a_correction_made_while_the_case_is_at_work_stays(
    job: Job, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    process(job, SETTINGS)
    audit = job.folder / "audit.tsv"

    def corrected(*given: object) -> tuple[object, ...]:
        audit.write_text("by\n")
        return Segmented(given)

    monkeypatch.setattr(pipeline, "segment_case", corrected)
    assert process(job, Settings("tscore")).code == 6
    assert audit.is_file()
    assert [path.name for path in job.folder.parent.iterdir()] == ["s1"]


def test_a_name_that_is_not_utf8_is_kept_as_it_reads_back(job: Job, quick: list[str]) -> None:
    named = job.files.dwi.with_name(os.fsdecode(b"M\xfcller_dwi.nii.gz"))
    job = replace(job, files=replace(job.files, dwi=job.files.dwi.rename(named)))
    assert process(job, SETTINGS).fresh
    manifest = json.loads((job.folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["inputs"]["dwi"]["file"] == "M?ller_dwi.nii.gz"
    assert is_done(job, SETTINGS)


def test_exported_files_are_moved_to_their_destinations(
    job: Job, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = job.folder.parent / "sub-1" / "dwi"
    names = {"lesion_mask.nii.gz": "mask.nii.gz", "mni/xfm.txt": "xfm.txt"}
    exports = tuple(Export(old, place / new, {"Type": old}) for old, new in names.items())
    job = replace(job, exports=exports)
    assert process(job, SETTINGS).fresh
    assert not process(job, SETTINGS).fresh
    assert {path.name for path in place.iterdir()} == {
        *("mask.nii.gz", "mask.json", "xfm.txt", "xfm.json")
    }
    assert json.loads((place / "mask.json").read_text()) == {"Type": "lesion_mask.nii.gz"}
    manifest = json.loads((job.folder / "manifest.json").read_text())
    assert manifest[ELSEWHERE] == {
        "lesion_mask.nii.gz": "../sub-1/dwi/mask.nii.gz",
        "lesion_mask.nii.gz.json": "../sub-1/dwi/mask.json",
        "mni/xfm.txt": "../sub-1/dwi/xfm.txt",
        "mni/xfm.txt.json": "../sub-1/dwi/xfm.json",
    }
    assert not (job.folder / "lesion_mask.nii.gz").exists()
    assert (job.folder / "mni" / "dwi.nii.gz").is_file()
    # Killed while files are on their way: the next run brings the others there.
    (place / "mask.nii.gz").rename(job.folder / "lesion_mask.nii.gz")
    (place / "mask.nii.gz").write_text("of an earlier run")
    assert not is_done(job, SETTINGS)
    assert not process(job, SETTINGS).fresh
    assert (place / "mask.nii.gz").read_bytes() == b"x"
    # A mask that is gone is made again.
    (place / "mask.nii.gz").unlink()
    assert not is_done(job, SETTINGS)
    assert process(job, SETTINGS).fresh
    # And one that was edited where BIDS has it is not lost.
    (place / "mask.nii.gz").write_text("drawn by hand")
    refused = process(job, Settings("tscore"))
    assert (refused.code, f"{OUTLINE} (edited)" in refused.reason) == (6, True)
    assert (place / "mask.nii.gz").read_text() == "drawn by hand"
    # Nor if its folder was moved away to have the scan segmented again.
    job.folder.rename(job.folder.with_name("away"))
    refused = process(job, SETTINGS)
    assert (refused.code, refused.reason[:11]) == (6, "mask.nii.gz")
    assert (place / "mask.nii.gz").read_text() == "drawn by hand"
    assert process(job, replace(SETTINGS, overwrite_corrected=True)).fresh


def test_a_failed_move_keeps_the_earlier_result(
    job: Job, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = job.folder.parent / "sub-1" / "dwi"
    exports = tuple(Export(f"{n}.nii.gz", place / f"{n}.nii.gz", {}) for n in ("lesion_mask", "x"))
    job = replace(job, exports=exports[:1])
    assert process(job, SETTINGS).fresh
    before = {p: p.read_bytes() for p in job.folder.parent.rglob("*") if p.is_file()}
    job.files.dwi.write_text("another scan")
    # The second file of the new result is not there, as if the disk were full by then.
    failed = process(replace(job, exports=exports), SETTINGS)
    assert (failed.status, failed.code) == ("failed", 6)
    assert before == {p: p.read_bytes() for p in job.folder.parent.rglob("*") if p.is_file()}


def test_a_result_that_no_cohort_made_is_left_alone(job: Job, quick: list[str]) -> None:
    job.folder.mkdir(parents=True)
    manifest = job.folder / "manifest.json"
    for content, said in (
        ('{"source": "XNAT"}', "is not a result folder"),
        ("[]", "is not a result folder"),
        ('{"infarct": "0", "model": "x"}', "not made by a cohort"),
    ):
        manifest.write_text(content)
        failed = process(job, SETTINGS)
        assert (failed.status, failed.code) == ("failed", 6)
        assert said in failed.reason
        assert manifest.read_text() == content
    assert not quick


def test_a_real_result_is_published_completely(
    segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = segmentation.case.files
    monkeypatch.setattr(pipeline, "segment_case", lambda *_: segmentation)
    monkeypatch.setattr(pipeline, "open_case", Opened)
    job = Job("s1", files, tmp_path / "out" / "s1")
    settings = Settings(segmentation.model.name)
    outcome = process(job, settings)
    assert outcome.volume_ml == pytest.approx(segmentation.measurements.lesion_volume_ml)
    assert is_done(job, settings)
    assert {"report.html", "mni", THUMBNAIL} <= {path.name for path in job.folder.iterdir()}
