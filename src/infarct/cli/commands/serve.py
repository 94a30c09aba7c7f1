"""`infarct serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infarct.cli.options import DEFAULT_MODEL, Model


def serve(
    results: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of the results; it is created.")
    ] = Path("infarct-results"),
    demo: Annotated[
        bool, typer.Option("--demo", help="Start with the bundled synthetic scan, processed.")
    ] = False,
    model: Model = DEFAULT_MODEL,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free one.")] = 8321,
    host: Annotated[
        str, typer.Option(help="Address to listen on; other than this computer requires --token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None, typer.Option(help="Secret in the link; random if not given.")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, max=64, help="Number of scans processed at the same time.")
    ] = 1,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Open a page in the browser to segment, review, correct and read scans."""
    from infarct.cli.serve_page import prepare_demo, serve_page
    from infarct.segmentation.models import get_model

    get_model(model)
    if demo:
        prepare_demo(results, model)
    settings = {"root": results, "at_once": jobs, "model": model}
    serve_page(settings, host, port, token, browser=browser)
