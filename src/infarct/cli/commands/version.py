"""`infarct version`, the same as `infarct --version`."""

from __future__ import annotations

import typer

from infarct.core.process_setup import check_printed


def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    typer.echo(installed("infarct"))
    check_printed()
