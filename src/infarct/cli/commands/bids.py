"""`infarct bids`, a BIDS App."""

from __future__ import annotations

import sys
from enum import StrEnum
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


class Level(StrEnum):
    """Analysis level of a BIDS App."""

    participant = "participant"
    group = "group"


def bids(
    bids_dir: Annotated[Path, typer.Argument(metavar="BIDS_DIR", help="Root of the BIDS dataset.")],
    out_dir: Annotated[
        Path, typer.Argument(metavar="OUT_DIR", help="Output folder for the derivatives.")
    ],
    level: Annotated[
        Level,
        typer.Argument(
            metavar="LEVEL",
            help="participant: process each scan; group: summarise all scans in one report.",
        ),
    ],
    participant_label: Annotated[
        list[str] | None,
        typer.Option(
            "--participant-label",
            "--participant_label",
            help="Process only these participants, e.g. 01 02.",
        ),
    ] = None,
    session_label: Annotated[
        list[str] | None,
        typer.Option(
            "--session-label", "--session_label", help="Process only these sessions, e.g. 01 02."
        ),
    ] = None,
    model: Model = DEFAULT_MODEL,
    b0_below: B0Below = 50.0,
    workers: Workers = None,
    scheduler: Scheduler = None,
    unencrypted: Unencrypted = False,
    retry_failed: RetryFailed = False,
    overwrite_corrected: OverwriteCorrected = False,
    keep: Keep = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", help="Compare the sessions of each participant, in the order of the labels."
        ),
    ] = False,
) -> None:
    """Segment and measure the diffusion scans of a BIDS dataset (BIDS App)."""
    from infarct.bids.dataset import find_scans
    from infarct.bids.derivatives import check_place, describe, jobs_of
    from infarct.bids.gaps import gaps
    from infarct.bids.participants import join_participants
    from infarct.bids.sessions import patients_of
    from infarct.cli.run_cases import run_cases, write_group_report
    from infarct.cohort.follow_up import follow_patients
    from infarct.cohort.jobs import Settings, check_outcomes
    from infarct.cohort.run import Request
    from infarct.cohort.runner import Pool
    from infarct.segmentation.models import get_model

    get_model(model)
    check_place(bids_dir, out_dir)
    scans = find_scans(bids_dir, participant_label or (), session_label or (), b0_below)
    keep_mni = Kept.mni in (keep or ())
    jobs = jobs_of(scans, bids_dir, out_dir, keep_mni=keep_mni)
    group = level is Level.group
    entire_dataset = not participant_label and not session_label
    for gap in gaps(scans, bids_dir, b0_below, table=group) if entire_dataset else ():
        typer.echo(gap, err=True)
    if group:
        write_group_report(jobs, out_dir, join_participants(scans, bids_dir))
        return
    describe(bids_dir, out_dir)
    command = tuple(sys.argv[1:])
    settings = Settings(model, command, overwrite_corrected=overwrite_corrected, keep_mni=keep_mni)
    pool = Pool(workers, scheduler, unencrypted)
    outcomes = run_cases(jobs, Request(out_dir, settings, pool, retry_failed))
    if follow:
        follow_patients(patients_of(scans, jobs), out_dir, typer.echo)
    check_outcomes(outcomes)
