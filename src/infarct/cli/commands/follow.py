"""`infarct follow`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infarct.cli.options import DEFAULT_MODEL, Model


def follow(
    scans: Annotated[
        list[Path],
        typer.Argument(
            metavar="FIRST SECOND [THIRD ...]",
            help="Scans of one patient, first scan first: result folders of `infarct segment`, or "
            "DWI series (NIfTI with a .bval file).",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Output folder; it is created.")],
    times: Annotated[
        str,
        typer.Option(
            help="Date of each scan, separated by commas, e.g. 2026-03-01T14:30,2026-03-02. "
            "Default: the dates in the results."
        ),
    ] = "",
    model: Model = DEFAULT_MODEL,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing follow-up in OUT.")] = False,
) -> None:
    """Measure growth, reversal and new lesions between the scans of one patient."""
    from infarct.cli.console import live_progress, show_follow_up
    from infarct.followup.page import headline
    from infarct.followup.run import PAGE, FollowRequest
    from infarct.followup.run import follow as compare_scans

    dates = tuple(date.strip() for date in times.split(",")) if times else ()
    request = FollowRequest(tuple(scans), out, dates, model, overwrite)
    with live_progress() as listener:
        comparisons = compare_scans(request, listener)
    show_follow_up(
        [f"{c.first.name} to {c.second.name}: {headline(c)}" for c in comparisons],
        [remark for c in comparisons for remark in c.remarks],
        out / PAGE,
    )
