"""Patients with several scans in a cohort: the table, the joined results, and failures."""

import csv
import json
from pathlib import Path

import pytest

from infarct.cohort import follow_up
from infarct.cohort.follow_up import Patient, follow_patients, read_patients
from infarct.cohort.jobs import Job
from infarct.core.errors import CohortError, FollowUpError, InputFileError
from infarct.followup.tables import COLUMNS
from infarct.preprocessing.case import CaseFiles

JOBS = [Job(name, CaseFiles(Path("dwi.nii.gz")), Path("/results") / name) for name in "abcd"]


def table(folder, text):
    path = folder / "patients.csv"
    path.write_text(text)
    return path


def test_rows_may_have_two_or_more_scans(tmp_path):
    found = read_patients(table(tmp_path, "patient,first,second,third\np1,a,b,\np2,c,d,a\n"), JOBS)
    assert [(p.id, [job.id for job in p.scans]) for p in found] == [
        ("p1", ["a", "b"]),
        ("p2", ["c", "d", "a"]),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,first\np1,a\n", "expected a header"),
        ("patient,first,second\n", "expected a header"),
        ("patient,first,second\np1,a,x\n", "row 2: x are not cases"),
        ("patient,first,second\np1,a,\n", "at least two scans, found 1"),
        ("patient,first,second\np1,a,b\nP1,c,d\n", "row 3: P1 is listed twice"),
        ("patient,first,second\n../p,a,b\n", "not a valid id"),
    ],
)
def test_invalid_tables_are_refused(tmp_path, text, message):
    with pytest.raises(InputFileError, match=message):
        read_patients(table(tmp_path, text), JOBS)


def test_one_failure_does_not_stop_the_others(tmp_path, monkeypatch):
    def follow(request):
        if request.out.name == "bad":
            raise FollowUpError("not the same brain")
        return ["comparison"]

    monkeypatch.setattr(follow_up, "follow", follow)
    monkeypatch.setattr(follow_up, "row", lambda _: dict.fromkeys(COLUMNS, 1.5))
    told = []
    patients = [Patient("bad", tuple(JOBS[:2])), Patient("good", tuple(JOBS[2:]))]
    with pytest.raises(CohortError, match="1 of 2 patients"):
        follow_patients(patients, tmp_path, told.append)
    with (tmp_path / "follow.tsv").open(newline="") as stream:
        (row,) = csv.DictReader(stream, delimiter="\t")
    assert row["patient"] == "good"
    assert list(row) == list(json.loads((tmp_path / "follow.json").read_text()))
    assert told[0] == "bad: not the same brain"
