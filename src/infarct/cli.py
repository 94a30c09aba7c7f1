"""Arguments in, exit codes out, nothing else.

Exit codes: 0 done, 1 unexpected fault, 2 wrong usage, 3 to 8 see `infarct.errors`, 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infarct.errors import InfarctError
from infarct.lab.commands import app as lab

if TYPE_CHECKING:
    from infarct.case import CaseFiles
    from infarct.pipeline import Segmentation

app = typer.Typer(
    help="Find, outline and measure acute ischemic stroke lesions on diffusion MRI.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(lab, name="lab")


@app.command()
def segment(
    dwi: Annotated[
        Path,
        typer.Option(help="Diffusion-weighted image, or a 4D series with its .bval file beside."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to make for the results.")],
    b0: Annotated[Path | None, typer.Option(help="Image without diffusion weighting.")] = None,
    adc: Annotated[Path | None, typer.Option(help="ADC map, any usual unit.")] = None,
    bvalue: Annotated[
        float | None, typer.Option(help="s/mm^2; 1000 if not given, or what the series says.")
    ] = None,
    brain: Annotated[Path | None, typer.Option(help="Brain mask, if you have one.")] = None,
    model: Annotated[str, typer.Option(help="Method: cfuzzy or tscore.")] = "cfuzzy",
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier result in OUT.")] = False,
) -> None:
    """Outline and measure the lesions of one scan (NIfTI; give --b0, --adc or both)."""
    from infarct.case import CaseFiles

    _segment_into(CaseFiles(dwi, b0, adc, bvalue, brain), out, model, overwrite=overwrite)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to make for the results.")] = Path(
        "infarct-demo"
    ),
    model: Annotated[str, typer.Option(help="Method: cfuzzy or tscore.")] = "cfuzzy",
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier result in OUT.")] = False,
) -> None:
    """Run the main job on a synthetic scan that ships with the package, and score it."""
    from infarct.demo import demo_files, score

    result = _segment_into(demo_files(), out, model, overwrite=overwrite)
    typer.echo(score(result))


@app.command()
def evaluate(
    reference: Annotated[Path, typer.Option(help="Folder of reference masks.")],
    prediction: Annotated[
        list[str], typer.Option(metavar="NAME=DIR", help="A tool and its masks; may be repeated.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to make for the results.")],
    dwi: Annotated[Path | None, typer.Option(help="Folder of DWI: contrast, gallery.")] = None,
    adc: Annotated[Path | None, typer.Option(help="Folder of ADC: contrast.")] = None,
    brain: Annotated[Path | None, typer.Option(help="Folder of brain masks.")] = None,
    subjects: Annotated[
        Path | None, typer.Option(help="subjects.tsv: cohort, territory, sex, scanner ...")
    ] = None,
    costs: Annotated[
        Path | None, typer.Option(help="Table: tool, parameters, seconds, memory_gb.")
    ] = None,
    focus: Annotated[str | None, typer.Option(help="Cohort that strata are about.")] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    workers: Annotated[
        int | None, typer.Option(help="Processes; one per core if not given.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier evaluation in OUT.")] = False,
) -> None:
    """Score the masks of any tools against a reference, with the paper's whole battery."""
    from infarct.console import live_evaluation, show_evaluation
    from infarct.evaluation import EvaluationRequest
    from infarct.evaluation import evaluate as evaluate_masks

    named = [pair.split("=", 1) for pair in prediction]
    if any(len(pair) != 2 or not all(pair) for pair in named):
        raise typer.BadParameter("give each tool as NAME=DIR, for example cfuzzy=results")
    predictions = {name: Path(folder) for name, folder in named}
    if len(predictions) < len(named):
        raise typer.BadParameter("give each tool a name of its own")
    request = EvaluationRequest(
        reference,
        predictions,
        out,
        dwi=dwi,
        adc=adc,
        brain=brain,
        subjects=subjects,
        costs=costs,
        focus=focus,
        seed=seed,
        workers=workers,
        overwrite=overwrite,
    )
    with live_evaluation() as progress:
        result = evaluate_masks(request, progress)
    show_evaluation(result)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A result of infarct segment.")],
) -> None:
    """Rebuild the page and the figure of a result from its folder alone."""
    from infarct.report import rebuild_page

    rebuild_page(folder)
    typer.echo(f"look at {folder / 'report.html'}")


@app.command()
def recompute(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A result of infarct segment.")],
    mask: Annotated[Path, typer.Option(help="The corrected mask, on the grid of the DWI.")],
    by: Annotated[str, typer.Option(help="Who corrected it, for the audit.")] = "",
    reason: Annotated[str, typer.Option(help="Why, for the audit.")] = "",
) -> None:
    """Measure a mask corrected by hand; the old one is kept, with a line in audit.tsv."""
    from infarct.correction import recompute as remeasure
    from infarct.wording import ml

    done = remeasure(folder, mask, by=by, reason=reason)
    typer.echo(f"{ml(done.ml_before)} before, {ml(done.ml_after)} now; old mask: {done.kept_as}")
    typer.echo(f"look at {folder / 'report.html'}")


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    typer.echo(installed("infarct"))


def _segment_into(files: CaseFiles, out: Path, model: str, *, overwrite: bool) -> Segmentation:
    from infarct.case import open_case
    from infarct.console import live_journal, show_result
    from infarct.pipeline import segment_case
    from infarct.report import check_destination, write_results
    from infarct.segmenters import get_segmenter

    get_segmenter(model)
    check_destination(out, files.paths().values(), overwrite=overwrite)
    with live_journal() as journal:
        with journal.step("read and check"):
            case = open_case(files)
        result = segment_case(case, model, journal)
        with journal.step("write"):
            write_results(result, out, overwrite=overwrite, command=sys.argv[1:])
    show_result(result, out)
    return result


def main() -> None:
    """Run the command line; every deliberate error ends it with its own exit code."""
    try:
        app()
    except InfarctError as error:
        typer.secho(f"infarct: {error}", fg="red", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.secho("infarct: interrupted; nothing half-written was left", fg="red", err=True)
        sys.exit(130)
