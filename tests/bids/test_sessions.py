"""Participants with several sessions."""

from pathlib import Path

from infarct.bids.dataset import BidsScan
from infarct.bids.sessions import patients_of
from infarct.cohort.jobs import Job
from infarct.preprocessing.case import CaseFiles

FILES = CaseFiles(Path("dwi.nii.gz"))


def scans(*entities):
    return [BidsScan(each, FILES) for each in entities]


def test_only_participants_with_several_sessions_in_order_of_the_labels():
    found = scans(
        {"sub": "1", "ses": "02"},
        {"sub": "1", "ses": "01"},
        {"sub": "2", "ses": "01"},
        {"sub": "3"},
    )
    jobs = [Job(scan.name, FILES, Path(scan.name)) for scan in found]
    (patient,) = patients_of(found, jobs)
    assert patient.id == "sub-1"
    assert [job.id for job in patient.scans] == ["sub-1_ses-01", "sub-1_ses-02"]


def test_one_scan_per_session():
    found = scans(
        {"sub": "1", "ses": "01", "run": "2"},
        {"sub": "1", "ses": "01", "run": "1"},
        {"sub": "1", "ses": "02"},
    )
    jobs = [Job(scan.name, FILES, Path(scan.name)) for scan in found]
    (patient,) = patients_of(found, jobs)
    assert [job.id for job in patient.scans] == ["sub-1_ses-01_run-1", "sub-1_ses-02"]
