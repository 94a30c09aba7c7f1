"""Fast stubs for the processing of one case, to test the scheduling around it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from infarct.cohort.jobs import Job, Outcome, Settings


def touch(job: Job, _: Settings) -> Outcome:
    """Record the start, then behave as the case id requests."""
    notes = job.files.dwi.parent
    with (notes / "started.txt").open("a") as stream:
        stream.write(f"{job.id} {os.getpid()}\n")
    tries = (notes / "started.txt").read_text().split().count(job.id)
    if job.id == "poison" or (job.id == "unlucky" and tries == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if job.id == "fault":
        raise ZeroDivisionError("of our own making")
    if job.id == "slow":
        time.sleep(600)
    if job.id == "environment":
        deaf = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        return Outcome(job.id, "failed", 1, f"{os.environ['OMP_NUM_THREADS']} {deaf}")
    fresh = not job.folder.is_dir()
    job.folder.mkdir(parents=True, exist_ok=True)
    return Outcome(job.id, "done", volume_ml=1.5, lesions=1, warnings=0, seconds=0.1, fresh=fresh)


def jobs(folder: Path, *names: str) -> list[Job]:
    """Make jobs whose input files do not exist; the stubs never read them."""
    from infarct.preprocessing.case import CaseFiles  # noqa: PLC0415 - workers that unpickle `touch` need it not

    (folder / "in").mkdir(exist_ok=True)
    return [
        Job(name, CaseFiles(folder / "in" / f"{name}.nii.gz"), folder / "out" / name)
        for name in names
    ]
