"""The program `infarct`: its commands, and the exit code of each error.

Each command is a module of `infarct.cli.commands` with the same name. Exit codes: 0 success,
1 internal error, 2 usage error, 3 to 14 see `infarct.core.errors`, 130 interrupted, 128 + N
terminated by signal N.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from infarct.cli.bids_arguments import BidsAppCommand
from infarct.cli.commands import lab, models
from infarct.cli.commands.bids import bids
from infarct.cli.commands.cohort import cohort
from infarct.cli.commands.demo import demo
from infarct.cli.commands.doctor import doctor
from infarct.cli.commands.evaluate import evaluate
from infarct.cli.commands.export import export
from infarct.cli.commands.follow import follow
from infarct.cli.commands.recompute import recompute
from infarct.cli.commands.report import report
from infarct.cli.commands.segment import segment
from infarct.cli.commands.serve import serve
from infarct.cli.commands.version import version
from infarct.cli.signals import clean_stops
from infarct.core.errors import InfarctError, MemoryShortageError, is_shortage
from infarct.core.process_setup import prepared_process

app = typer.Typer(
    help="Detect, segment and measure acute ischemic stroke lesions on diffusion MRI.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help: importing what rich needs to draw boxes takes as long as everything else.
    rich_markup_mode=None,
)
# `infarct --help` prints the short help in one line each, in this order.
app.command(short_help="Segment and measure the lesions of one scan.")(segment)
app.command(short_help="Segment a synthetic scan and compare it with the truth.")(demo)
app.command(short_help="Open a page in the browser to review and correct scans.")(serve)
app.command(short_help="Measure growth between scans of one patient.")(follow)
app.command(short_help="Segment and measure many scans; repeat to resume.")(cohort)
app.command(short_help="Segment and measure a BIDS dataset (BIDS App).", cls=BidsAppCommand)(bids)
app.command(short_help="Measure a manually corrected mask.")(recompute)
app.command(short_help="Rebuild the HTML report of a result.")(report)
app.command(short_help="Score the masks of any tool against reference masks.")(evaluate)
app.command(short_help="Write lesion masks for lesion-symptom and disconnection tools.")(export)
app.command(short_help="Check the installation and describe it for a bug report.")(doctor)
app.command(short_help="Print the version.")(version)
app.add_typer(models.app, name="models", short_help="List the models and verify their files.")
app.add_typer(lab.app, name="lab", short_help="Simulate scans; train and calibrate networks.")


def _print_version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


@clean_stops()
def main() -> None:
    """Run the command line; each expected error has its own exit code."""
    try:
        with prepared_process():
            _run()
    except InfarctError as error:
        # Raised while the process was being set up or restored.
        _exit_with(error)


def _run() -> None:
    try:
        app()
    except InfarctError as error:
        _exit_with(error)
    except Exception as error:
        if is_shortage(error):
            _exit_with(MemoryShortageError())
        raise
    except SystemExit as ended:
        # typer turns Ctrl-C into an exit without a message.
        if ended.__context__ and isinstance(ended.__context__.__cause__, KeyboardInterrupt):
            _print_error("infarct: interrupted; no incomplete files were left")
        raise


def _exit_with(error: InfarctError) -> NoReturn:
    _print_error(f"infarct: {error}")
    sys.exit(error.exit_code)


def _print_error(text: str) -> None:
    # click itself ignores NO_COLOR and TERM=dumb; the rest of the output respects them.
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    typer.secho(text, fg=None if plain else "red", err=True)
