"""`infarct export`: lesion masks for lesion-symptom and disconnection tools."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Target(StrEnum):
    """Same as `infarct.reporting.lesion_export.Tool`, which is too slow to import for `--help`."""

    niistat = "niistat"
    lesymap = "lesymap"
    bcb = "bcb"
    nemo = "nemo"


def export(
    results: Annotated[
        Path,
        typer.Argument(metavar="RESULTS", help="Output folder of infarct segment, cohort or bids."),
    ],
    target: Annotated[Target, typer.Option("--for", help="The program that will read the files.")],
    out: Annotated[Path, typer.Option(help="Output folder; it is created.")],
) -> None:
    """Write lesion masks in MNI space and tables for a lesion-symptom or disconnection tool."""
    from infarct.reporting.lesion_export import SPACE, Tool, export_lesions

    written, empty = export_lesions(results, Tool(target.value), out)
    typer.echo(f"{written} lesion masks in {SPACE}: {out}")
    if empty:
        typer.echo(f"{empty} results without lesion were left out; see participants.tsv")
