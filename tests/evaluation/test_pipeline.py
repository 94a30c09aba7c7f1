"""The evaluation of a small cohort: outputs, notes, and handling of missing files."""

import csv
import json
import math
import re
import shutil
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from disk import save

from infarct.core.errors import CohortError, InputFileError, OutputError
from infarct.core.nifti import read
from infarct.evaluation import Evaluation, EvaluationRequest, evaluate, pipeline
from infarct.evaluation.analysis import analyse
from infarct.evaluation.metrics import dice
from infarct.evaluation.pipeline import gather
from infarct.evaluation.report import write_scores
from infarct.evaluation.report_contents import all_drawings, draw
from infarct.evaluation.statistics import spearman
from infarct.evaluation.subject_scores import measure

TOOLS = ("good", "late")


def request(cohort: Path, out: Path) -> EvaluationRequest:
    return EvaluationRequest(
        reference=cohort / "reference",
        predictions={tool: cohort / tool for tool in TOOLS},
        out=out,
        dwi=cohort / "images",
        adc=cohort / "images",
        brain=cohort / "brains",
        subjects=cohort / "subjects.tsv",
        resamples=200,
        workers=2,
    )


@pytest.fixture(scope="module")
def done(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return evaluate(request(cohort, tmp_path_factory.mktemp("out") / "evaluation"))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the figures, which take seconds."""
    monkeypatch.setattr(pipeline, "all_drawings", lambda *_: {})


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_scores_have_one_row_per_subject_and_tool(done: Evaluation, cohort: Path) -> None:
    scores = rows(done.report.parent / "scores.tsv")
    assert [(row["participant_id"], row["tool"]) for row in scores] == [
        (f"sub-{number:02d}", tool) for number in range(14) for tool in TOOLS
    ]
    for row in scores:
        if row["missing"] == "0":
            name = row["participant_id"] + ("_mask" if row["tool"] == "late" else "")
            masks = (
                cohort / "reference" / f"{row['participant_id']}_lesion.nii.gz",
                cohort / row["tool"] / f"{name}.nii.gz",
            )
            expected = dice(*(read(path).data > 0 for path in masks))
            assert float(row["dice"]) == pytest.approx(expected, abs=1e-5)


def test_missing_predictions_are_listed_and_count_as_failures(done: Evaluation) -> None:
    assert any("late" in note and "sub-03, sub-12" in note for note in done.notes)
    late = {p.group: p for p in done.analysis.performance if p.tool == "late"}
    assert late["All with a lesion"].n == 10
    assert late["All with a lesion"].missing == 1
    scores = done.results.values("late", "dice", [f"sub-{number:02d}" for number in range(10)])
    assert scores[3] == 0
    assert late["All with a lesion"].summaries["dice"].mean == pytest.approx(scores.mean())
    alarms = next(a for a in done.analysis.false_alarms if a.tool == "late")
    assert alarms.missing == 1
    assert done.results.measured["sub-12"].scores["late"].detected
    assert alarms.n == 4


def test_lesion_free_subjects_are_excluded_from_the_mean(done: Evaluation) -> None:
    assert done.results.lesion_free == ("sub-10", "sub-11", "sub-12", "sub-13")
    assert {p.n for p in done.analysis.performance if p.group == "All with a lesion"} == {10}


def test_json_contains_the_same_numbers_and_no_nan(done: Evaluation) -> None:
    text = (done.report.parent / "evaluation.json").read_text("utf-8")
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"contains {name}"))
    seen = content["relations"][0]["correlations"]["Dice, volume"]
    names = done.results.with_lesion
    expected = spearman(
        done.results.values("good", "reference_ml", names),
        done.results.values("good", "dice", names),
    )
    assert (seen["rho"], seen["n"]) == (pytest.approx(expected.rho), 10)


def test_every_figure_and_table_of_the_paper_is_written(done: Evaluation) -> None:
    directory = done.report.parent
    stems = ["table1_cohort", "table2_performance", "fig3_territory", "fig3_volume"]
    stems += ["fig4_dice_density", "fig5_sex", "fig5_field_strength"]
    stems += ["fig6_correlation", "fig7_gallery", "figS1_normalisation", "volume_agreement"]
    for stem in stems:
        assert (directory / f"{stem}.svg").read_text("utf-8").startswith("<?xml"), stem
        assert (directory / f"{stem}.png").read_bytes().startswith(b"\x89PNG"), stem


def test_the_report_is_self_contained(done: Evaluation) -> None:
    page = done.report.read_text("utf-8")
    assert not re.search(r"(src|href)=[\"'](?!data:)", page)
    assert "<script" not in page
    assert done.verdict in page.replace("&#39;", "'")
    for tool in TOOLS:
        assert tool in page


def test_skipped_columns_are_listed(done: Evaluation) -> None:
    (note,) = [note for note in done.notes if note.startswith("Skipped")]
    assert "race" in note
    assert "nihss" in note
    assert "sex" not in note


@pytest.mark.usefixtures("undrawn")
def test_non_numeric_cells_are_listed(cohort: Path, tmp_path: Path) -> None:
    text = (cohort / "subjects.tsv").read_text()
    (tmp_path / "subjects.tsv").write_text(text.replace("\t2.89", "\t28900").replace(".", ","))
    bare = EvaluationRequest(
        *(cohort / "reference", {"good": cohort / "good"}, tmp_path / "out"),
        subjects=tmp_path / "subjects.tsv",
        workers=1,
        resamples=50,
    )
    seen = evaluate(bare)
    (note,) = [note for note in seen.notes if note.startswith("Treated as unknown")]
    assert "field_strength of sub-01 ('28900'), field_strength of sub-03" in note
    cells = {row[0].strip(): row[1:] for row in seen.tables["table1_cohort"].rows}
    assert cells["1.5 T"][:2] == ("5 (50.0%)", "2 (50.0%)")


def test_table_1_has_one_column_per_cohort(done: Evaluation) -> None:
    table = done.tables["table1_cohort"]
    assert table.header == ("", "test", "not-visible", "p")
    cells = {row[0].strip(): row[1:] for row in table.rows}
    assert cells["Subjects"][:2] == ("10", "4")
    assert cells["With a lesion"][:2] == ("10 (100.0%)", "0 (0.0%)")
    assert cells["Age, years"][:2] == ("54.5 [52.2, 56.8]", "61.5 [60.8, 62.2]")
    assert cells["Voxel thickness, mm"][0] == "5.00 [5.00, 5.00]"


def test_results_do_not_depend_on_the_number_of_processes(
    done: Evaluation, cohort: Path, tmp_path: Path
) -> None:
    single = request(cohort, tmp_path)
    cases, _ = gather(single)
    results = replace(done.results, measured={name: measure(case) for name, case in cases.items()})
    write_scores(results, tmp_path / "scores.tsv")
    analysis = analyse(results, np.random.default_rng(single.seed), single.resamples)
    assert repr(analysis) == repr(done.analysis)
    drawings = all_drawings(results, analysis, cases, done.tables)
    for name in ("fig4_dice_density", "fig7_gallery"):
        draw(tmp_path, (name, drawings[name]))
    made = [path for path in tmp_path.iterdir() if path.is_file()]
    assert len(made) == 5
    for path in made:
        assert path.read_bytes() == (done.report.parent / path.name).read_bytes(), path.name


def test_masks_alone_are_sufficient(cohort: Path, tmp_path: Path) -> None:
    bare = EvaluationRequest(
        cohort / "reference", {"good": cohort / "good"}, tmp_path / "out", workers=1, resamples=50
    )
    steps: list[str] = []
    seen = evaluate(bare, lambda step, *_: steps.append(step))
    assert steps[:14] == ["measuring subjects"] * 14
    assert any("No DWI" in note for note in seen.notes)
    scores = seen.results.measured["sub-00"].scores["good"]
    assert math.isnan(scores.dwi_ratio_reference)
    assert not seen.analysis.comparisons
    assert not (tmp_path / "out" / "figS1_normalisation.svg").exists()


def test_an_unknown_focus_cohort_is_refused(cohort: Path, tmp_path: Path) -> None:
    wrong = replace(request(cohort, tmp_path / "out"), focus="STIR 1", workers=1)
    with pytest.raises(InputFileError, match="test, not-visible"):
        evaluate(wrong)
    assert not (tmp_path / "out").exists()


def test_one_subject_is_sufficient(cohort: Path, tmp_path: Path) -> None:
    for name in ("reference/sub-04_lesion", "good/sub-04"):
        mask = read(cohort / f"{name}.nii.gz")
        save(tmp_path / name.split("/")[0] / "sub-04.nii.gz", mask.data > 0)
    bare = EvaluationRequest(
        *(tmp_path / "reference", {"good": tmp_path / "good"}, tmp_path / "out"), workers=1
    )
    save(tmp_path / "reference" / "sub-04_T1.nii.gz", mask.data > 0)
    halves = (mask.data > 0) * np.where(np.arange(len(mask.data)) % 2, 1, 7)[:, None, None]
    save(tmp_path / "good" / "sub-04.nii.gz", halves.astype(np.uint8))
    first = evaluate(bare)
    assert first.analysis.performance[0].n == 1
    assert (
        "Ignored because the file name indicates another image type: sub-04_T1.nii.gz."
    ) in first.notes
    assert (
        "Masks with more than one label, all counted as lesion (1 files): "
        f"{tmp_path / 'good' / 'sub-04.nii.gz'}."
    ) in first.notes
    (tmp_path / "out" / "table1_cohort.tsv").write_text("spoilt")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"would be lost: notes\.txt"):
        evaluate(replace(bare, overwrite=True))
    (tmp_path / "out" / "notes.txt").unlink()
    again = evaluate(replace(bare, overwrite=True))
    assert "spoilt" not in (again.report.parent / "table1_cohort.tsv").read_text("utf-8")


def test_only_lesion_free_subjects(tmp_path: Path) -> None:
    nothing = np.zeros((8, 8, 8), bool)
    for number in range(3):
        save(tmp_path / "reference" / f"{number}.nii.gz", nothing)
        save(tmp_path / "tool" / f"{number}.nii.gz", nothing)
    bare = EvaluationRequest(
        *(tmp_path / "reference", {"tool": tmp_path / "tool"}, tmp_path / "out"), workers=1
    )
    seen = evaluate(bare)
    assert seen.analysis.false_alarms[0].flagged.rate == 0
    assert "false positives in 0 of 3" in seen.verdict


def test_a_tool_without_matching_subjects_is_refused(cohort: Path, tmp_path: Path) -> None:
    save(tmp_path / "other" / "patient.nii.gz", np.zeros((4, 4, 4), bool))
    wrong = EvaluationRequest(
        cohort / "reference", {"other": tmp_path / "other"}, tmp_path / "out", workers=1
    )
    with pytest.raises(InputFileError, match="same name"):
        evaluate(wrong)


def test_a_dead_worker_is_reported(cohort: Path, tmp_path: Path, monkeypatch) -> None:
    class Dead:
        def __init__(self, *_: object, **__: object) -> None:
            raise BrokenProcessPool

    monkeypatch.setattr(pipeline, "ProcessPoolExecutor", Dead)
    with pytest.raises(CohortError, match="fewer --workers"):
        evaluate(replace(request(cohort, tmp_path / "out"), workers=2))
    assert not (tmp_path / "out").exists()


def test_other_files_are_never_overwritten(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not lose")
    with pytest.raises(OutputError, match="is not an evaluation"):
        evaluate(request(cohort, tmp_path))
    assert (tmp_path / "thesis.txt").read_text() == "do not lose"


@pytest.mark.parametrize("place", ["predictions", "predictions/deeper", "subjects.tsv"])
def test_an_output_folder_with_an_input_is_not_replaced(
    cohort: Path, tmp_path: Path, place: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "evaluation.json").write_text("{}")
    given = replace(request(cohort, out), overwrite=True, workers=1)
    if place == "subjects.tsv":
        given = replace(given, subjects=out / place)
    else:
        given = replace(given, predictions={"good": out / place})
        shutil.copytree(cohort / "good", out / place)
    with pytest.raises(OutputError, match="folders with inputs are never written to"):
        evaluate(given)
    assert (out / "evaluation.json").is_file()


def test_the_current_directory_is_not_replaced(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="your current directory"):
        evaluate(request(cohort, Path()))


@pytest.mark.usefixtures("undrawn")
def test_gaps_in_the_tables_are_noted(cohort: Path, tmp_path: Path) -> None:
    lines = (cohort / "subjects.tsv").read_text().splitlines()
    # One subject without a row, one without a cohort.
    lines = [line.replace("\ttest\t", "\tn/a\t", "sub-01" in line) for line in lines[:-1]]
    (tmp_path / "subjects.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "costs.tsv").write_text("tool\tseconds\tparameters\ngood\t3,5\tn/a\nGood\t1\t2\n")
    given = replace(
        request(cohort, tmp_path / "out"),
        predictions={"good": cohort / "good"},
        subjects=tmp_path / "subjects.tsv",
        costs=tmp_path / "costs.tsv",
        focus="test",
        workers=1,
    )
    seen = evaluate(given)
    notes = "\n".join(seen.notes)
    assert "Subjects missing from the table of subjects: sub-13." in notes
    assert "The table of costs names tools that were not given: Good." in notes
    assert any(
        "because the cohort is unknown: 2 subjects" in n for n in seen.tables["table1_cohort"].notes
    )
    groups = [row[0] for row in seen.tables["table2_performance"].rows]
    assert any(name.startswith("test: ") for name in groups)
    good = next(row for row in seen.tables["table2_performance"].rows if row[0] == "good")
    assert good[-3:] == ("-", "3.5", "-")


@pytest.mark.parametrize("out", ["file/x/out", "/proc/out", "/dev/null/out"])
def test_an_output_that_is_not_writable_is_refused_before_any_computation(
    cohort: Path, tmp_path: Path, out: str
) -> None:
    (tmp_path / "file").write_text("")
    steps: list[str] = []
    with pytest.raises(OutputError, match="cannot be written"):
        evaluate(
            replace(request(cohort, tmp_path / out), workers=1), lambda step, *_: steps.append(step)
        )
    assert not steps


@pytest.mark.usefixtures("undrawn")
def test_a_full_disk_is_reported(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pipeline, "write_scores", full_disk)
    bare = EvaluationRequest(
        *(cohort / "reference", {"good": cohort / "good"}, tmp_path / "out"),
        workers=1,
        resamples=50,
    )
    with pytest.raises(OutputError, match="No space left"):
        evaluate(bare)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("undrawn")
def test_a_link_to_the_output_folder_is_followed(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    bare = EvaluationRequest(
        *(cohort / "reference", {"good": cohort / "good"}, tmp_path / "out"),
        workers=1,
        resamples=50,
    )
    evaluate(bare)
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "real" / "report.html").is_file()


def test_an_earlier_evaluation_is_replaced_only_on_request(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text("{}")
    with pytest.raises(OutputError, match="overwriting"):
        evaluate(request(cohort, tmp_path))
    assert (tmp_path / "evaluation.json").read_text() == "{}"
