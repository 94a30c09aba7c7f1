import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infarct import pipeline
from infarct.core.errors import AssetError, OutputError
from infarct.core.findings import Finding
from infarct.core.step_timer import StepProgress, StepTimer
from infarct.evaluation.metrics import dice
from infarct.inference.network import Network, load_network
from infarct.pipeline import RunRequest, planned_steps, run, segment_case
from infarct.preprocessing.case import Case, CaseFiles
from infarct.preprocessing.load import open_case
from infarct.segmentation.models import get_model
from infarct.segmentation.result import Segmentation
from infarct.uncertainty.result_checks import filter_findings, lesion_findings


def test_classical_method_segments_a_painted_infarct(head, quick) -> None:
    assert dice(head.lesion, quick.lesion.data) > 0.9
    assert quick.measurements.lesions[0].side == "left"
    assert quick.measurements.adc_ratio == pytest.approx(0.55, abs=0.05)
    assert quick.second_method is None


def test_network_segments_a_painted_infarct_and_the_second_method_agrees(
    head, segmentation
) -> None:
    assert dice(head.lesion, segmentation.lesion.data) > 0.8
    assert segmentation.measurements.lesions[0].side == "left"
    assert segmentation.second_method is not None
    assert segmentation.second_method.agrees


def test_misaligned_images_void_the_lesion_probabilities(segmentation) -> None:
    poor = Finding("misaligned", "warning", "The b0 is misaligned.")
    case = replace(segmentation.case, findings=(poor,))
    void = segment_case(case, "fcn-ch2-slices").measurements.lesions
    assert {one.probability is None for one in segmentation.measurements.lesions} == {False}
    assert {one.probability is None for one in void} == {True}


def test_results_are_on_the_grid_of_the_dwi(segmentation) -> None:
    for volume in (segmentation.lesion, segmentation.probability, segmentation.brain):
        assert volume.data.shape == segmentation.case.dwi.data.shape
        assert np.array_equal(volume.affine, segmentation.case.dwi.affine)
    # Slices are axial in the painted head: every one has its own plane in MNI space.
    for in_mni in (segmentation.probability_mni, segmentation.is_map_mni):
        assert in_mni.data.shape[:2] == (192, 224)
        assert 0 < in_mni.data.shape[2] <= segmentation.case.dwi.data.shape[2]


def test_sides_and_centroids_use_the_same_transform_as_territories(segmentation) -> None:
    """The in-plane transform cannot correct roll, so a rolled head would cross the midline."""
    refinement = segmentation.refinement
    assert refinement.affine
    for one in segmentation.measurements.lesions:
        centre = refinement.mni_from_native @ [*one.centroid_mm, 1]
        assert one.centroid_mni_mm == pytest.approx(tuple(centre[:3]), abs=1e-6)


def test_healthy_head_has_no_lesion(healthy_head, tmp_path) -> None:
    # Only a classical method: the networks were not trained on painted heads.
    result = segment_case(open_case(CaseFiles(**healthy_head.save(tmp_path))), "cfuzzy")
    assert result.measurements.lesion_volume_ml < 0.3


def test_t_score_uses_the_same_pipeline_and_the_engine_is_reported(
    head, quick, monkeypatch
) -> None:
    def other(name: str) -> Network:
        network = load_network(name)
        return replace(network, engine=replace(network.engine, name="OpenVINO, bf16"))

    monkeypatch.setattr(pipeline, "load_network", other)
    result = segment_case(quick.case, "tscore")
    assert dice(head.lesion, result.lesion.data) > 0.4
    (finding,) = (f for f in result.findings if f.code == "engine")
    assert finding.level == "note"
    assert "OpenVINO, bf16" in finding.message
    assert "engine" not in {f.code for f in quick.findings}


def test_unknown_method_is_rejected(quick) -> None:
    with pytest.raises(AssetError):
        segment_case(quick.case, "nonsense")


def test_lesions_that_do_not_look_acute_cause_warnings(segmentation) -> None:
    m = segmentation.measurements
    assert lesion_findings(m) == []
    assert [d.code for d in lesion_findings(replace(m, adc_ratio=1.2))] == ["adc-not-low"]
    huge = replace(m, lesion_volume_ml=0.5 * m.intracranial_volume_ml)
    assert [d.code for d in lesion_findings(huge)] == ["lesion-very-large"]
    # If the whole brain is segmented, there is no normal tissue to compare with.
    everything = replace(huge, dwi_ratio=math.nan, adc_ratio=math.nan)
    assert [d.code for d in lesion_findings(everything)] == ["lesion-very-large"]
    assert lesion_findings(replace(huge, lesion_count=0)) == []


def test_contradiction_between_mask_and_probability_causes_a_warning(segmentation) -> None:
    confident = segmentation.filtered
    assert [f.code for f in filter_findings(replace(confident, rejected=0))] == []
    unsure = replace(confident, infarct_probability=0.2, rejected=3, rejected_ml=0.4)
    codes = [(finding.code, finding.level) for finding in filter_findings(unsure)]
    assert codes == [("mask-contradicts-probability", "warning"), ("candidates-rejected", "note")]
    # A filter that is not applied rejects no candidates.
    kept = replace(unsure, rejected=0, rejected_ml=0.0)
    assert [finding.code for finding in filter_findings(kept, void=True)] == ["filter-not-applied"]
    rejected = replace(confident, infarct_probability=0.001, rejected=1, rejected_ml=0.004)
    warning, note = (finding.message for finding in filter_findings(rejected))
    assert "shows an infarct is below 1%" in warning
    assert note.startswith("1 candidate (0.0040 ml) was rejected as too improbable")
    nothing = replace(confident.measurements, lesion_count=0)
    empty = replace(confident, measurements=nothing, rejected=0)
    assert [f.code for f in filter_findings(replace(empty, infarct_probability=0.7))] == [
        "mask-contradicts-probability"
    ]
    assert filter_findings(replace(empty, infarct_probability=0.2)) == []


def test_a_mask_that_will_probably_fail_causes_a_warning(segmentation) -> None:
    sure = replace(segmentation.filtered, rejected=0, failure_probability=0.2, failure_limit=0.3)
    assert filter_findings(sure) == []
    (warning,) = filter_findings(replace(sure, failure_probability=0.62))
    assert (warning.code, warning.level) == ("mask-unreliable", "warning")
    assert "probability 62%" in warning.message
    assert filter_findings(replace(sure, failure_probability=None)) == []


@pytest.fixture
def files(head, tmp_path) -> CaseFiles:
    return CaseFiles(**head.save(tmp_path / "scan"))


def test_the_planned_steps_are_those_that_ran(quick, segmentation) -> None:
    for result in (quick, segmentation):
        planned = planned_steps(result.model, written=False)
        assert ["read and check", *result.seconds] == list(planned)
        assert [*planned, "write"] == list(planned_steps(result.model))


@pytest.mark.parametrize("written", [True, False])
def test_a_run_reports_every_step_with_its_number(
    files, quick, tmp_path, monkeypatch, written
) -> None:
    def segment(case: Case, model: str, timer: StepTimer, _: object) -> Segmentation:
        for name in planned_steps(get_model(model), written=False)[1:]:
            with timer.step(name):
                pass
        return replace(quick, seconds=dict(timer.seconds))

    monkeypatch.setattr(pipeline, "open_case", lambda _: quick.case)
    monkeypatch.setattr(pipeline, "segment_case", segment)
    monkeypatch.setattr(pipeline, "write_results", lambda _, out, **__: out.mkdir())
    heard: list[StepProgress] = []
    out = tmp_path / "out"
    request = RunRequest(files, out if written else None, "cfuzzy", seconds={"convert": 2.5})
    result = run(request, heard.append)
    assert [one.number for one in heard] == [*range(2, len(heard) + 2)]
    assert {one.total for one in heard} == {len(heard) + 1}
    assert out.is_dir() == written == (heard[-1].step == "write")
    assert result.seconds["convert"] == 2.5
    assert list(result.seconds)[1:] == [one.step for one in heard if one.step != "write"]


def test_a_run_checks_first_and_adds_files_and_findings_of_its_caller(
    files, quick, tmp_path, monkeypatch
) -> None:
    opened: list[CaseFiles] = []

    def note(given: CaseFiles) -> Case:
        opened.append(given)
        return quick.case

    monkeypatch.setattr(pipeline, "open_case", note)
    monkeypatch.setattr(pipeline, "segment_case", lambda case, *_: replace(quick, case=case))
    origin = Finding("dicom-series", "note", "series 4 used as DWI")
    out = tmp_path / "out"

    def add(result: Segmentation, folder: Path) -> None:
        assert result.case.findings == (origin, *quick.case.findings)
        assert not out.exists()
        (folder / "extra.txt").write_text("extra")

    request = RunRequest(files, out, "cfuzzy", findings=(origin,), add=add)
    run(request)
    assert (out / "extra.txt").read_text() == "extra"
    assert opened == [files]
    # A second run, an unknown method, or an unwritable destination fail before the scan is read.
    for wrong, error in (
        (request, OutputError),
        (replace(request, model="nonsense"), AssetError),
        (replace(request, out=files.dwi.parent, overwrite=True), OutputError),
    ):
        with pytest.raises(error):
            run(wrong)
    assert opened == [files]
    assert (out / "extra.txt").is_file()
    run(replace(request, overwrite=True, add=lambda *_: None))
    assert not (out / "extra.txt").exists()
