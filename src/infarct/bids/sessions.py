"""Participants with several sessions, for the follow-up."""

from __future__ import annotations

from collections.abc import Sequence

from infarct.bids.dataset import BidsScan
from infarct.cohort.follow_up import Patient
from infarct.cohort.jobs import Job


def patients_of(scans: Sequence[BidsScan], jobs: Sequence[Job]) -> list[Patient]:
    """Return the participants with several sessions, in the order of the session labels.

    Of several scans in one session, the first by name is used. BIDS does not say when a session
    took place, so the labels must sort in time.

    Args:
        scans: Scans of the dataset.
        jobs: The job of each scan.
    """
    sessions: dict[str, dict[str, Job]] = {}
    named = sorted(zip(scans, jobs, strict=True), key=lambda pair: pair[0].name)
    for scan, job in named:
        if "ses" in scan.entities:
            sessions.setdefault(scan.entities["sub"], {}).setdefault(scan.entities["ses"], job)
    return [
        Patient(f"sub-{subject}", tuple(jobs_by_session[each] for each in sorted(jobs_by_session)))
        for subject, jobs_by_session in sessions.items()
        if len(jobs_by_session) > 1
    ]
