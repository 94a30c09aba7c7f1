"""`infarct recompute`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infarct.cli.options import OwnAtlas, OwnLabels, read_own_atlas


def recompute(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Result folder of infarct segment.")
    ],
    mask: Annotated[Path, typer.Option(help="Corrected lesion mask, on the grid of the DWI.")],
    by: Annotated[str, typer.Option(help="Your name or initials, for the audit trail.")],
    reason: Annotated[
        str, typer.Option(help="Reason for the correction, for the audit trail.")
    ] = "",
    atlas: OwnAtlas = None,
    labels: OwnLabels = None,
) -> None:
    """Measure a manually corrected mask. Keeps the old mask and records the change in audit.tsv."""
    from infarct.cli.console import busy
    from infarct.core.units import format_volume
    from infarct.reporting.recompute import recompute as remeasure

    territories = read_own_atlas(atlas, labels)
    with busy("measuring the corrected mask"):
        done = remeasure(folder, mask, by=by, reason=reason, territories=territories)
    typer.echo(
        f"lesion volume: {format_volume(done.ml_before)} before, {format_volume(done.ml_after)} "
        f"after; old mask: {done.previous_mask}"
    )
    typer.echo(f"report: {folder / 'report.html'}")
    typer.echo("next: open the report; in a cohort, repeat its command to update the group page")
