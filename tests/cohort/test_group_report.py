import csv
import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infarct.cohort.case_log import Ledger
from infarct.cohort.group_report import Row, _render, write_group
from infarct.cohort.jobs import Job, Outcome, Settings
from infarct.cohort.numbers_table import cells, columns
from infarct.core.errors import OutputError
from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume, write
from infarct.preprocessing.case import CaseFiles

MANIFEST = {
    **{
        "infarct": "1.0",
        "model": "cfuzzy",
        "python": "3.12",
        "created": "2026-01-01",
        "command": None,
    },
    **{"libraries": {"SimpleITK": "2.5"}, "networks": {}, "assets": {}},
    **{"engine": {"name": "onnxruntime", "version": "1", "precision": "float32"}},
    **{"territories": {"file": "territories.nii.gz", "sha256": "0"}},
    "inputs": {"dwi": {"file": "dwi.nii.gz", "sha256": "1"}},
}

ASPECTS = {"score": 8, "side": "left", "affected": ["M1", "M2"], "rule": "20% of a region"}


def summary(ml: float, codes: tuple[str, ...] = ()) -> dict:
    ratios = (1.8, 0.6, 5e-4) if ml else (None,) * 3
    lesion = {
        **{"label": 1, "volume_ml": ml, "slices": 2, "side": "left"},
        **{"centroid_mm": [1.0, 2.0, 3.0], "centroid_mni_mm": [1.0, 2.0, 3.0]},
        **{"dwi_ratio": 1.8, "adc_ratio": 0.6, "mean_adc": 5e-4, "mean_probability": 0.9},
        **{"probability": None, "territory": "MCA left", "compartment": "deep"},
    }
    return {
        "lesion_volume_ml": ml,
        "lesion_count": int(ml > 0),
        "left_ml": ml,
        "right_ml": 0.0,
        "intracranial_volume_ml": 1500.0,
        **dict(zip(("dwi_ratio", "adc_ratio", "mean_adc"), ratios, strict=True)),
        "lesions": [lesion] if ml else [],
        **{"method": "c-fuzzy", "model": "cfuzzy", "threshold": 0.5, "brain_method": "network"},
        "bvalue_s_per_mm2": 1000.0,
        "registration": {"translation_mm": [1.0, 2.0], "scale": [1.0, 1.01]},
        "warnings": [{"code": c, "level": "warning", "message": f"<{c}>"} for c in codes],
        "notes": [],
        "seconds": {"is map": 1.25},
    }


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Job]]:
    """Two cases whose lesions share a box, one without, one failed, one not run."""
    out = tmp_path_factory.mktemp("cohort")
    names = ["small", "doubtful", "none", "broken", "later"]
    jobs = [Job(name, CaseFiles(out.parent / "dwi.nii.gz"), out / name) for name in names]
    interval = {"volume_interval_ml": [1.5, 3.25], "volume_interval_probability": 0.9}
    sure = {"confidence": {"infarct_probability": 0.97, **interval}}
    summaries = [summary(2.0) | sure, summary(9.0, ("adc-not-low", "brain-cropped")), summary(0.0)]
    dwi = np.full(MNI_GRID.shape, 100, np.int16)
    for job, numbers, extent in zip(jobs, summaries, (10, 20, 0), strict=False):
        (job.folder / "mni").mkdir(parents=True)
        (job.folder / "manifest.json").write_text(json.dumps(MANIFEST))
        (job.folder / "summary.json").write_text(json.dumps(numbers))
        mask = np.zeros(MNI_GRID.shape, np.uint8)
        mask[60 : 60 + extent, 100:110, 90:100] = 1
        write(Volume(mask, MNI_GRID.affine), job.folder / "mni/lesion_mask.nii.gz", np.uint8)
        write(Volume(dwi, MNI_GRID.affine), job.folder / "mni/dwi.nii.gz", np.int16)
    Ledger(out).add(Outcome("broken", "failed", 3, "<dwi> is truncated"), Settings("cfuzzy"))
    # The scan "broken" was processed earlier; its old result still exists.
    (out / "broken").mkdir()
    for name in ("manifest.json", "summary.json"):
        (out / "broken" / name).write_text(json.dumps(summary(5.0)))
    about = {
        "small": {"participant_id": "sub-1", "age": "70", "model": "Prisma", "sex": ""},
        "broken": {"participant_id": "sub-4", "age": "80", "model": "Achieva", "sex": "F"},
    }
    write_group(jobs, out, about)
    return out, jobs


def test_the_map_counts_lesions(cohort) -> None:
    image = nib.load(cohort[0] / "group" / "lesion_overlap.nii.gz")
    count = np.asarray(image.dataobj)
    assert np.array_equal(image.affine, MNI_GRID.affine)
    assert (int((count == 2).sum()), int((count == 1).sum())) == (1000, 1000)
    assert count[65, 105, 95] == 2


def test_the_table_has_every_number_of_every_case(cohort) -> None:
    with (cohort[0] / "group" / "numbers.tsv").open() as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream, delimiter="\t")}
    assert list(rows) == ["small", "doubtful", "none", "broken", "later"]
    small = rows["small"]
    assert (small["participant_id"], small["age"], small["sex"]) == ("sub-1", "70", "n/a")
    assert (small["model"], small["participants_model"]) == ("cfuzzy", "Prisma")
    assert (small["confidence_infarct_probability"], small["seconds"]) == ("0.97", "1.25")
    assert small["confidence_volume_interval_ml_2"] == "3.25"
    assert rows["doubtful"]["warnings"] == "adc-not-low;brain-cropped"
    assert rows["none"]["adc_ratio"] == "n/a"
    assert (rows["broken"]["status"], rows["broken"]["reason"]) == ("failed", "<dwi> is truncated")
    assert (rows["broken"]["model"], rows["broken"]["participants_model"]) == ("n/a", "Achieva")
    assert rows["broken"]["lesion_volume_ml"] == "n/a"
    assert (rows["later"]["status"], rows["later"]["lesion_volume_ml"]) == ("missing", "n/a")


def test_the_numbers_of_a_real_result_fit_into_one_line(written: Path, tmp_path: Path) -> None:
    """Lesions, territories and regions are lists of rows of their own in a summary."""
    shutil.copytree(written, tmp_path / "real")
    shutil.copytree(written, tmp_path / "bare")
    bare = json.loads((written / "summary.json").read_text())
    bare |= {"lesions": [], "territories": [], "regions": [], "lesion_count": 0, "warnings": []}
    (tmp_path / "bare" / "summary.json").write_text(json.dumps(bare))
    names = ("real", "bare", "later")
    write_group([Job(n, CaseFiles(Path("dwi.nii.gz")), tmp_path / n) for n in names], tmp_path)
    with (tmp_path / "group" / "numbers.tsv").open() as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream, delimiter="\t")}
    summary = json.loads((written / "summary.json").read_text())
    assert (rows["real"]["lesions"], rows["bare"]["lesions"]) == (str(len(summary["lesions"])), "0")
    for kind in ("territories", "regions"):
        first = summary[kind][0]
        column = f"{kind}_{first['name']}_{first['side']}_ml".replace(" ", "_")
        assert float(rows["real"][column]) == pytest.approx(first["ml"], rel=1e-4)
        assert (rows["bare"][column], rows["later"][column]) == ("0", "n/a")
    sub = summary["territories"][0]["subterritories"][0]
    column = f"territories_{sub['name']}_{sub['side']}_ml".replace(" ", "_")
    assert float(rows["real"][column]) == pytest.approx(sub["ml"], rel=1e-4)
    assert rows["real"]["aspects_affected"].split(";") == summary["aspects"]["affected"]
    assert rows["bare"]["warnings"] == "n/a"
    # Every number of a real result has a column, and every column a value.
    undefined = {name for name, cell in rows["real"].items() if cell == "n/a"}
    assert not {name for name in undefined if name.startswith(("terr", "reg", "pattern", "dwi"))}


def test_the_columns_do_not_depend_on_the_cases() -> None:
    names = [column.name for column in columns()]
    assert len(names) == len(set(names))
    for one in (summary(2.0) | {"aspects": ASPECTS}, summary(0.0), {}):
        assert len(cells(one)) == len(names)
    row = dict(zip(names, cells(summary(2.0) | {"aspects": ASPECTS}), strict=True))
    assert (row["aspects_score"], row["aspects_affected"]) == ("8", "M1;M2")
    assert row["confidence_infarct_probability"] == "n/a"
    assert row["regions_pons_left_ml"] == "0"
    assert dict(zip(names, cells({}), strict=True))["regions_pons_left_ml"] == "n/a"


def test_every_column_is_described(cohort) -> None:
    group = cohort[0] / "group"
    described = json.loads((group / "numbers.json").read_text())
    header = (group / "numbers.tsv").read_text().splitlines()[0].split("\t")
    assert set(header) == set(described)
    assert all(entry["Description"] for entry in described.values())
    assert {described[name].get("Units") for name in header if name.endswith("_ml")} == {"ml"}
    assert described["age"]["Description"] == "Copied from the table of participants"


def test_small_volumes_are_not_rounded_to_zero() -> None:
    page = _render([Row(str(v), "done", "", summary(v)) for v in (0.03, 0.04, 0.2)], b"")
    assert "<b>0.040 ml</b>median volume of the 3 cases with a lesion" in page
    assert "(quartiles 0.035 ml and 0.12 ml)" in page


def test_medians_are_over_the_cases_with_a_lesion() -> None:
    page = _render([Row(str(v), "done", "", summary(v)) for v in (0.0, 0.0, 0.0, 2.0)], b"")
    assert "<b>2.0 ml</b>median volume of the 1 case with a lesion" in page
    assert "median volume" not in _render([Row("a", "done", "", summary(0.0))], b"")


def test_corrected_and_doubtful_cases_are_marked() -> None:
    corrected = summary(2.0) | {"corrections": [{"by": "AB"}]}
    doubtful = summary(3.0)
    doubtful["lesions"][0]["probability"] = 0.3
    page = _render([Row("c", "done", "", corrected), Row("d", "done", "", doubtful)], b"")
    assert page.count('<span class="chip">corrected</span>') == 1
    assert "<b>1</b>corrected manually" in page
    assert "<b>1</b>with doubtful lesions" in page


def test_every_case_can_be_ticked_as_reviewed(cohort) -> None:
    page = (cohort[0] / "group" / "report.html").read_text()
    for name in ("small", "doubtful", "none", "broken", "later"):
        assert f'value="{name}" aria-label="{name} reviewed"' in page


def test_the_report_is_self_contained_and_sorted_by_review_priority(cohort) -> None:
    page = (cohort[0] / "group" / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert "3 of 5 cases finished, 1 failed, 1 not run yet" in page
    body = page[page.index("<tbody>") :]
    ids = re.findall(r'<td class="id">(?:<a href="[^"]*">)?(\w+)', body)
    assert ids == ["broken", "later", "doubtful", "none", "small"]
    assert body.count("data-picture=") == 3
    assert "failed: &lt;dwi&gt; is truncated" in body
    assert "not run yet" in body
    assert "&lt;dwi&gt; is truncated" in body
    assert "&lt;brain-cropped&gt;" in page


def test_mixed_engines_are_listed() -> None:
    rows = [
        Row(str(k), "done", summary=summary(2.0) | {"engine": f"onnxruntime 1.{k}, float32"})
        for k in (1, 2)
    ]
    assert "by onnxruntime 1.1, float32" in _render(rows, b"")
    assert "by onnxruntime" not in _render(rows[:1], b"")


def test_uncertain_cases_come_first_among_equal_warnings() -> None:
    sure = {
        "clear": summary(80.0) | {"confidence": {"infarct_probability": 0.99}},
        "coin": summary(0.0) | {"confidence": {"infarct_probability": 0.49}},
        "corrected": summary(1.0) | {"confidence": None},
        "likely": summary(3.0) | {"confidence": {"infarct_probability": 0.8}},
    }
    rows = [Row(name, "done", Path(name), numbers) for name, numbers in sure.items()]
    ranked = sorted(rows, key=lambda row: row.doubt, reverse=True)
    assert [row.id for row in ranked] == ["corrected", "coin", "likely", "clear"]


def test_the_report_shows_probability_and_interval(cohort) -> None:
    page = (cohort[0] / "group" / "report.html").read_text()
    cells = {
        name: re.findall(r'<td class="n">(.*?)</td>', rest)
        for name, rest in re.findall(r'<td class="id"><a[^>]*>(\w+)</a></td>(.*)', page)
    }
    assert cells["small"][:3] == ["97%", "2.0", "1.5 to 3.2"]
    assert cells["none"][:3] == ["-", "0", "-"]


def test_the_report_links_to_the_cases(cohort) -> None:
    page = (cohort[0] / "group" / "report.html").read_text()
    links = set(re.findall(r'href="([^"]+)"', page))
    assert links == {f"../{name}/report.html" for name in ("small", "doubtful", "none")}


@pytest.mark.parametrize(
    ("name", "how"),
    [("summary.json", "cut"), ("mni/lesion_mask.nii.gz", "cut"), ("mni/dwi.nii.gz", "cut")],
)
def test_a_damaged_result_counts_as_failed(name: str, how: str, cohort, tmp_path: Path) -> None:
    out, jobs = cohort
    bad = Job("bad", jobs[0].files, tmp_path / "Roe_Jane" / "bad")
    shutil.copytree(out / "small", bad.folder)
    if how == "gone":
        (bad.folder / name).unlink()
    else:
        (bad.folder / name).write_text("{")
    page = write_group([bad], tmp_path / "Roe_Jane").read_text()
    assert "0 of 1 cases finished, 1 failed" in page
    assert Path(name).name in page or how == "cut"
    assert "Roe_Jane" not in page


def test_the_old_page_stays_when_the_new_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [Job("a", CaseFiles(tmp_path / "dwi.nii.gz"), tmp_path / "out" / "a")]
    page = write_group(jobs, tmp_path / "out")
    before = page.read_text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("infarct.cohort.group_report._write_numbers", full)
    with pytest.raises(OutputError, match="No space left"):
        write_group(jobs, tmp_path / "out")
    assert page.read_text() == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["group"]


def test_the_old_page_comes_back_when_the_new_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [Job("a", CaseFiles(tmp_path / "dwi.nii.gz"), tmp_path / "out" / "a")]
    page = write_group(jobs, tmp_path / "out")
    before, rename = page.read_text(), Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise PermissionError(13, "in use by another program")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError, match="in use"):
        write_group(jobs, tmp_path / "out")
    assert page.read_text() == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["group"]


def test_notes_in_the_folder_of_the_group_are_kept(tmp_path: Path) -> None:
    jobs = [Job("a", CaseFiles(tmp_path / "dwi.nii.gz"), tmp_path / "study" / "a")]
    group = write_group(jobs, tmp_path / "study").parent
    (group / "notes").mkdir()
    (group / "notes" / "mine.txt").write_text("three years")
    (group / "link").symlink_to("notes")
    (group / "report.html").write_text("old")
    write_group(jobs, tmp_path / "study")
    assert (group / "link" / "mine.txt").read_text() == "three years"
    assert (group / "link").is_symlink()
    assert (group / "report.html").read_text() != "old"


def test_a_foreign_group_folder_is_kept(tmp_path: Path) -> None:
    jobs = [Job("a", CaseFiles(tmp_path / "dwi.nii.gz"), tmp_path / "study" / "a")]
    group = tmp_path / "study" / "group"
    group.mkdir(parents=True)
    assert write_group(jobs, tmp_path / "study").is_file()
    shutil.rmtree(group)
    group.mkdir()
    (group / "thesis.docx").write_text("three years")
    with pytest.raises(OutputError, match=r"does not contain group results \(no numbers\.tsv\)"):
        write_group(jobs, tmp_path / "study")
    assert [path.name for path in group.iterdir()] == ["thesis.docx"]
    shutil.rmtree(group)
    group.write_text("a file")
    with pytest.raises(OutputError, match="is a file"):
        write_group(jobs, tmp_path / "study")
    assert group.read_text() == "a file"


def test_the_methods_text_counts_the_scans_that_were_processed(cohort) -> None:
    text = (cohort[0] / "group" / "methods.md").read_text(encoding="utf-8")
    assert "3 scans were processed" in text
    assert "infarct 1.0" in text
    assert "@article{liu2021," in (cohort[0] / "group" / "references.bib").read_text("utf-8")


def test_no_methods_text_without_a_processed_scan(tmp_path: Path) -> None:
    jobs = [Job("a", CaseFiles(tmp_path / "dwi.nii.gz"), tmp_path / "study" / "a")]
    group = write_group(jobs, tmp_path / "study").parent
    assert not (group / "methods.md").exists()
