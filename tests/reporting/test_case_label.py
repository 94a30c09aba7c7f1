"""A report says whose scan it shows."""

from pathlib import Path

from infarct.cohort.jobs import Job, in_order
from infarct.preprocessing.case import CaseFiles
from infarct.reporting.case_label import CaseLabel, stored_label


def test_the_folder_name_is_used_without_an_id() -> None:
    assert CaseLabel().record("case-7")["id"] == "case-7"
    assert CaseLabel("sub-1\n", "2020-01-02").record("case-7") == {
        **{"id": "sub-1", "scan_date": "2020-01-02", "links": {}}
    }


def test_a_stored_label_is_read_back() -> None:
    label = CaseLabel("sub-1", "2020-01-02", {"next": "../sub-2/report.html"})
    assert stored_label({"case": label.record("x")}) == label
    assert stored_label({"cohort": {"id": "old"}}).id == "old"
    assert stored_label({}) == CaseLabel()


def test_cases_of_a_cohort_know_their_neighbours() -> None:
    jobs = in_order([Job(name, CaseFiles(Path("dwi.nii")), Path(name)) for name in "abc"])
    links = [job.label.links for job in jobs]
    assert links[0] == {"group": "../group/report.html", "next": "../b/report.html"}
    assert links[1]["previous"] == "../a/report.html"
    assert links[1]["next"] == "../c/report.html"
    assert "next" not in links[2]
