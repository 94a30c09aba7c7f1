"""`infarct models`: list the models and verify their files."""

from __future__ import annotations

from typing import Annotated

import typer

from infarct.core.process_setup import check_printed

app = typer.Typer(help="List the available models and verify their files.", no_args_is_help=True)


@app.command("list")
def list_models(
    every: Annotated[
        bool, typer.Option("--all", help="Also list networks that only compare designs.")
    ] = False,
) -> None:
    """List the models, their size, calibration and use."""
    from infarct.cli.console import show_methods
    from infarct.segmentation.models import (
        BRIEF,
        DEFAULT,
        get_model,
        left_out_networks,
        model_names,
    )

    names = sorted(model_names(), key=lambda name: name != DEFAULT)
    listed = [name for name in names if every or not name.endswith(BRIEF)]
    hidden = len(names) - len(listed)
    show_methods([get_model(name) for name in listed], hidden, left_out_networks())
    check_printed()


@app.command()
def verify() -> None:
    """Verify the SHA-256 checksums of all bundled files."""
    from infarct.core import assets
    from infarct.core.errors import AssetError

    found = assets.verify()
    if found.damaged:
        raise AssetError(f"{', '.join(found.damaged)}: missing or changed; reinstall")
    typer.echo(f"{found.intact} files verified")
    if found.left_out:
        typer.echo(f"{found.left_out} are not part of this installation, only of the repository")
    check_printed()
