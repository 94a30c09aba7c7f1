"""`infarct report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Result folder of infarct segment.")
    ],
) -> None:
    """Rebuild the HTML report and the figure of an existing result."""
    from infarct.cli.console import busy
    from infarct.reporting.writer import rebuild_page

    with busy("drawing the figure and the report"):
        rebuild_page(folder)
    typer.echo(f"report: {folder / 'report.html'}")
    typer.echo(
        f"next: review it; to correct the mask: infarct recompute {folder} --mask EDITED --by NAME"
    )
