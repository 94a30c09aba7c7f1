"""`infarct demo`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from infarct.cli.options import DEFAULT_MODEL, Model, Overwrite, OverwriteCorrected


def demo(
    out: Annotated[Path, typer.Option(help="Output folder; it is created.")] = Path("infarct-demo"),
    model: Model = DEFAULT_MODEL,
    overwrite: Overwrite = False,
    overwrite_corrected: OverwriteCorrected = False,
) -> None:
    """Segment the bundled synthetic scan and compare the result with its true lesion mask."""
    from infarct.cli.demo_scan import demo_files, score
    from infarct.cli.run_scan import run_and_show
    from infarct.pipeline import RunRequest

    request = RunRequest(
        demo_files(),
        out,
        model,
        overwrite=overwrite,
        overwrite_corrected=overwrite_corrected,
        command=sys.argv[1:],
    )
    typer.echo(score(run_and_show(request)))
