"""`infarct cohort`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from infarct.cli.options import (
    DEFAULT_MODEL,
    B0Below,
    Keep,
    Kept,
    Model,
    OverwriteCorrected,
    RetryFailed,
    Scheduler,
    Unencrypted,
    Workers,
)


def cohort(
    cases: Annotated[
        str,
        typer.Argument(
            metavar="CASES",
            help="Table with columns id, dwi and optional b0, adc, brain, bvalue; or a quoted file "
            "pattern such as 'DATA/*/dwi.nii.gz'.",
        ),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Output folder, with one subfolder per case.")
    ],
    model: Model = DEFAULT_MODEL,
    b0_below: B0Below = 50.0,
    workers: Workers = None,
    scheduler: Scheduler = None,
    unencrypted: Unencrypted = False,
    retry_failed: RetryFailed = False,
    overwrite_corrected: OverwriteCorrected = False,
    keep: Keep = None,
    patients: Annotated[
        Path | None,
        typer.Option(
            help="Table of patients with several scans: patient, followed by columns of case ids, "
            "first scan first. Their scans are compared at the end."
        ),
    ] = None,
) -> None:
    """Segment and measure many scans in parallel. Run it again to resume."""
    from infarct.cli.run_cases import run_cases, write_group_report
    from infarct.cohort.case_list import find_jobs
    from infarct.cohort.follow_up import follow_patients, read_patients
    from infarct.cohort.jobs import Settings, check_outcomes
    from infarct.cohort.run import Request
    from infarct.cohort.runner import Pool

    jobs = find_jobs(cases, out, b0_below)
    followed = read_patients(patients, jobs) if patients else []
    settings = Settings(
        model,
        tuple(sys.argv[1:]),
        overwrite_corrected=overwrite_corrected,
        keep_mni=Kept.mni in (keep or ()),
    )
    pool = Pool(workers, scheduler, unencrypted)
    outcomes = run_cases(jobs, Request(out, settings, pool, retry_failed))
    write_group_report(jobs, out)
    if followed:
        follow_patients(followed, out, typer.echo)
    check_outcomes(outcomes)
