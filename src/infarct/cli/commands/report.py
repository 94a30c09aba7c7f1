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
    from infarct.reporting.writer import rebuild_page

    rebuild_page(folder)
    typer.echo(f"report: {folder / 'report.html'}")
