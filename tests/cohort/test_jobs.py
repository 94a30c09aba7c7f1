from pathlib import Path

import pytest

from infarct.cohort.jobs import (
    Export,
    Job,
    Outcome,
    check_outcomes,
    id_problem,
    refuse_inputs_inside,
)
from infarct.core.errors import CohortError, OutputError
from infarct.preprocessing.case import CaseFiles


def test_outputs_are_in_the_folder_of_the_case_unless_exported(tmp_path: Path) -> None:
    mask = Export("mni/lesion_mask.nii.gz", tmp_path / "sub-1_mask.nii.gz", {})
    job = Job("a", CaseFiles(Path("dwi.nii.gz")), tmp_path / "a", (mask,))
    assert job.output("mni/lesion_mask.nii.gz") == mask.path
    assert job.output("summary.json") == tmp_path / "a" / "summary.json"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", ".hidden", "a.", "Group", "ä", "-a"])
def test_ids_that_are_not_valid_folder_names_are_refused(name: str) -> None:
    assert "expected" in id_problem(name)


@pytest.mark.parametrize("name", ["1", "sub-01_ses-2", "a.b+c", "groups"])
def test_plain_ids_are_taken(name: str) -> None:
    assert id_problem(name) == ""


def test_a_folder_that_holds_an_input_is_refused(tmp_path: Path) -> None:
    dwi = tmp_path / "data" / "s1" / "dwi.nii.gz"
    job = Job("s1", CaseFiles(dwi), tmp_path / "out" / "s1")
    refuse_inputs_inside(tmp_path / "out", [job])
    refuse_inputs_inside(tmp_path / "data" / "out", [job])
    for out in (dwi.parent, tmp_path / "data", tmp_path):
        with pytest.raises(OutputError, match=r"contains the input dwi\.nii\.gz of s1"):
            refuse_inputs_inside(out, [job])
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        refuse_inputs_inside(tmp_path / "file", [job])


def test_failures_end_a_cohort_with_an_exit_code_of_their_own() -> None:
    good = [Outcome("a", "done"), Outcome("b", "done")]
    check_outcomes(good)
    with pytest.raises(CohortError, match=r"1 of 3 cases failed \(c\)") as caught:
        check_outcomes([*good, Outcome("c", "failed", 3, "no such file")])
    assert caught.value.exit_code == 9
