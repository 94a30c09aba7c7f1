"""Arguments in, exit codes out, nothing else.

Exit codes: 0 done, 1 unexpected fault, 2 wrong usage, 3 to 12 see `infarct.core.errors`,
130 interrupted, 128 + number stopped by a signal.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from infarct.cli.lab import app as lab
from infarct.cli.signals import clean_stops
from infarct.core.errors import InfarctError, MemoryShortageError, is_shortage
from infarct.core.process_setup import check_printed, prepared_process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

    from infarct.cohort.jobs import Job, Outcome
    from infarct.cohort.runner import Pool
    from infarct.measurement.atlas import Atlas
    from infarct.preprocessing.case import CaseFiles
    from infarct.segmentation.result import Segmentation

app = typer.Typer(
    help="Find, outline and measure acute ischemic stroke lesions on diffusion MRI.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(lab, name="lab")
models = typer.Typer(help="The methods there are, and whether their files are whole.")
app.add_typer(models, name="models")

DEFAULT_MODEL = "ensemble"
"""That of `infarct.segmentation.models`, which takes too long to import for a page of help."""

Model = Annotated[
    str,
    typer.Option(
        help="Method, see `infarct models list`; several networks with commas are averaged. An "
        "operating point may follow, :sensitive, :balanced (the usual) or :specific; "
        "and :fast, to read a quarter of the scan."
    ),
]
OwnAtlas = Annotated[
    Path | None, typer.Option(help="Your own atlas of territories in MNI space, with --labels.")
]
OwnLabels = Annotated[
    Path | None, typer.Option(help="Its names: a TSV with columns index, name, maybe side.")
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Local processes; as many as cores and memory allow if not given."),
]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of a running Dask scheduler, tls://HOST:PORT.")
]
Unencrypted = Annotated[
    bool,
    typer.Option("--unencrypted", help="Allow a scheduler without TLS; others could use it too."),
]
Overwrite = Annotated[
    bool,
    typer.Option(help="Replace an earlier result in OUT, unless it holds manual work."),
]
OverwriteCorrected = Annotated[
    bool,
    typer.Option(
        help="Replace results even if they were corrected by hand or hold files of your own."
    ),
]
RetryFailed = Annotated[bool, typer.Option(help="Try again what failed in an earlier run.")]


class BidsAppCommand(TyperCommand):
    """Takes several values behind one `--participant_label`, as other BIDS Apps do.

    Click knows no options of any number of values, so each gets its option before click reads them.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat an option before each of its values, and leave the three arguments alone."""
        return super().parse_args(ctx, _repeat_options(args, _LISTS, self._with_value()))

    def _with_value(self) -> set[str]:
        options = (param for param in self.params if not getattr(param, "is_flag", True))
        return {name for option in options for name in option.opts}


_LISTS = {"--participant-label", "--participant_label", "--session-label", "--session_label"}


def _repeat_options(args: Sequence[str], lists: Set[str], with_value: Set[str]) -> list[str]:
    """Write `--label 01 02` as `--label 01 --label 02`.

    The values end at the next option. Those that stand before the level, where BIDSDIR and OUTDIR
    are still missing, are these arguments: `--label 01 02 BIDSDIR OUTDIR participant`.

    Args:
        args: Of the command line.
        lists: Options of any number of values.
        with_value: Options of one value.
    """
    runs: list[tuple[str, list[str]]] = []
    for word in args:
        option = runs[-1][0] if runs else ""
        if word.startswith("-") and word != "-":
            runs.append((word, []))
        elif option in lists or (option in with_value and not runs[-1][1]):
            runs[-1][1].append(word)
        else:
            # Behind the value of another option, or a flag: an argument.
            runs.append(("", [word]))
    missing = 3 - sum(len(words) for option, words in runs if not option)
    expanded: list[str] = []
    for option, words in runs:
        kept = words
        if option in lists:
            ends = words[-1:] and words[-1] in set(Level)
            taken = min(missing, len(words) - 1) if ends else 0
            kept, missing = words[: len(words) - taken], missing - taken
            labels = [label for word in kept for label in word.split()]
            expanded += [part for label in labels for part in (option, label)] or [option]
            expanded += words[len(kept) :]
        else:
            expanded += [option, *words] if option else words
    return expanded


class Level(StrEnum):
    """What a BIDS App is asked for."""

    participant = "participant"
    group = "group"


@app.command()
def segment(
    out: Annotated[Path, typer.Option(help="Folder to make for the results.")],
    dwi: Annotated[
        Path | None,
        typer.Option(help="Diffusion-weighted image, or a 4D series with its .bval file beside."),
    ] = None,
    b0: Annotated[Path | None, typer.Option(help="Image without diffusion weighting.")] = None,
    adc: Annotated[Path | None, typer.Option(help="ADC map, any usual unit.")] = None,
    bvalue: Annotated[
        float | None,
        typer.Option(help="s/mm^2, 1000 if not given; of a series, the nearest shell is taken."),
    ] = None,
    b0_below: Annotated[float, typer.Option(help="s/mm^2; b0 of a series lies below.")] = 50.0,
    brain: Annotated[Path | None, typer.Option(help="Brain mask, if you have one.")] = None,
    model: Model = DEFAULT_MODEL,
    atlas: OwnAtlas = None,
    labels: OwnLabels = None,
    overwrite: Overwrite = False,
    overwrite_corrected: OverwriteCorrected = False,
    dicom: Annotated[
        Path | None, typer.Option(help="Folder of DICOM files, instead of --dwi, --b0, --adc.")
    ] = None,
    series: Annotated[str | None, typer.Option(help="With --dicom: series number or UID.")] = None,
    dicom_out: Annotated[
        bool, typer.Option("--dicom-out", help="With --dicom: write DICOM SEG and SR too.")
    ] = False,
    keep_identity: Annotated[
        bool,
        typer.Option("--keep-identity", help="Leave the patient's name and number in SEG and SR."),
    ] = False,
) -> None:
    """Outline and measure the lesions of one scan (NIfTI: --dwi with --b0, --adc; or --dicom)."""
    from infarct.preprocessing.case import CaseFiles
    from infarct.reporting.writer import check_place

    territories = _read_atlas(atlas, labels)
    if atlas and labels:
        check_place(out, (atlas, labels))
    if dicom is not None:
        if dwi or b0 or adc or bvalue is not None or b0_below != 50:
            raise typer.BadParameter("--dicom replaces --dwi, --b0, --adc, --bvalue and --b0-below")
        if keep_identity and not dicom_out:
            raise typer.BadParameter("--keep-identity goes with --dicom-out")
        from infarct.cli.segment_dicom import DicomRequest, segment_folder

        request = DicomRequest(
            dicom,
            out,
            series=series,
            brain=brain,
            model=model,
            territories=territories,
            overwrite=overwrite,
            overwrite_corrected=overwrite_corrected,
            dicom_out=dicom_out,
            keep_identity=keep_identity,
        )
        segment_folder(request)
        return
    if dwi is None:
        raise typer.BadParameter("give a scan: --dwi (with --b0 or --adc), or --dicom")
    if series is not None or dicom_out or keep_identity:
        raise typer.BadParameter("--series, --dicom-out and --keep-identity go with --dicom")
    files = CaseFiles(dwi, b0, adc, bvalue, brain, b0_below=b0_below)
    may = (overwrite, overwrite_corrected)
    _segment_into(files, out, model, may, territories)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to make for the results.")] = Path(
        "infarct-demo"
    ),
    model: Model = DEFAULT_MODEL,
    overwrite: Overwrite = False,
    overwrite_corrected: OverwriteCorrected = False,
) -> None:
    """Run the main job on a synthetic scan that ships with the package, and score it."""
    from infarct.cli.demo import demo_files, score

    may = (overwrite, overwrite_corrected)
    result = _segment_into(demo_files(), out, model, may)
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
    rater: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DIR",
            help="A human rater and the masks; may be repeated. The same name twice: two readings.",
        ),
    ] = None,
    focus: Annotated[str | None, typer.Option(help="Cohort that strata are about.")] = None,
    label: Annotated[
        str | None,
        typer.Option(help="Lesion masks to use where a subject has several, as lesionAcute."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one per core if not given.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier evaluation in OUT.")] = False,
) -> None:
    """Score the masks of any tools against a reference, with the paper's whole battery."""
    from infarct.cli.console import live_evaluation, show_evaluation
    from infarct.evaluation import EvaluationRequest
    from infarct.evaluation import evaluate as evaluate_masks

    named = _named_folders(prediction, "tool", "cfuzzy=results")
    predictions = dict(named)
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
        raters=tuple(_named_folders(rater or [], "rater", "anna=masks-anna")),
        focus=focus,
        label=label,
        seed=seed,
        workers=workers,
        overwrite=overwrite,
    )
    with live_evaluation() as progress:
        result = evaluate_masks(request, progress)
    show_evaluation(result)


@app.command()
def cohort(
    cases: Annotated[
        str,
        typer.Argument(help="Table (dwi, b0, adc, brain, bvalue, id), or 'DATA/*/dwi.nii.gz'."),
    ],
    out: Annotated[Path, typer.Argument(help="Folder of the results; a folder below per case.")],
    model: Model = DEFAULT_MODEL,
    workers: Workers = None,
    scheduler: Scheduler = None,
    unencrypted: Unencrypted = False,
    retry_failed: RetryFailed = False,
    overwrite_corrected: OverwriteCorrected = False,
) -> None:
    """Outline and measure many scans, side by side; run it again to go on where it stopped."""
    from infarct.cohort.case_list import find_jobs
    from infarct.cohort.jobs import check_outcomes
    from infarct.cohort.runner import Pool

    may = {"retry_failed": retry_failed, "overwrite_corrected": overwrite_corrected}
    jobs = find_jobs(cases, out)
    pool = Pool(workers, scheduler, unencrypted)
    outcomes = _run_jobs(jobs, out, model, pool, **may)
    _sum_up(jobs, out)
    check_outcomes(outcomes)


@app.command(cls=BidsAppCommand)
def bids(
    bids_dir: Annotated[Path, typer.Argument(help="Root of the BIDS dataset.")],
    out_dir: Annotated[Path, typer.Argument(help="Folder of the derivatives.")],
    level: Annotated[Level, typer.Argument(help="participant: every scan; group: sum them up.")],
    participant_label: Annotated[
        list[str] | None,
        typer.Option("--participant-label", "--participant_label", help="Only these, as 01 02."),
    ] = None,
    session_label: Annotated[
        list[str] | None,
        typer.Option("--session-label", "--session_label", help="Only these, as 01 02."),
    ] = None,
    model: Model = DEFAULT_MODEL,
    workers: Workers = None,
    scheduler: Scheduler = None,
    unencrypted: Unencrypted = False,
    retry_failed: RetryFailed = False,
    overwrite_corrected: OverwriteCorrected = False,
) -> None:
    """Outline and measure the diffusion scans of a BIDS dataset, as a BIDS App."""
    from infarct.bids.dataset import find_scans
    from infarct.bids.derivatives import check_place, describe, jobs_of
    from infarct.bids.gaps import gaps
    from infarct.bids.participants import join_participants
    from infarct.cohort.jobs import check_outcomes
    from infarct.cohort.runner import Pool
    from infarct.segmentation.models import get_model

    get_model(model)
    check_place(bids_dir, out_dir)
    scans = find_scans(bids_dir, participant_label or (), session_label or ())
    jobs = jobs_of(scans, bids_dir, out_dir)
    whole = not participant_label and not session_label
    for gap in gaps(scans, bids_dir, table=level is Level.group) if whole else ():
        typer.echo(gap, err=True)
    if level is Level.group:
        _sum_up(jobs, out_dir, join_participants(scans, bids_dir))
        return
    describe(bids_dir, out_dir)
    may = {"retry_failed": retry_failed, "overwrite_corrected": overwrite_corrected}
    pool = Pool(workers, scheduler, unencrypted)
    outcomes = _run_jobs(jobs, out_dir, model, pool, **may)
    check_outcomes(outcomes)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A result of infarct segment.")],
) -> None:
    """Rebuild the page and the figure of a result from its folder alone."""
    from infarct.reporting.writer import rebuild_page

    rebuild_page(folder)
    typer.echo(f"look at {folder / 'report.html'}")


@app.command()
def recompute(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A result of infarct segment.")],
    mask: Annotated[Path, typer.Option(help="The corrected mask, on the grid of the DWI.")],
    by: Annotated[str, typer.Option(help="Who corrected it, for the audit.")] = "",
    reason: Annotated[str, typer.Option(help="Why, for the audit.")] = "",
    atlas: OwnAtlas = None,
    labels: OwnLabels = None,
) -> None:
    """Measure a mask corrected by hand; the old one is kept, with a line in audit.tsv."""
    from infarct.core.units import format_volume
    from infarct.reporting.recompute import recompute as remeasure

    territories = _read_atlas(atlas, labels)
    done = remeasure(folder, mask, by=by, reason=reason, territories=territories)
    typer.echo(
        f"{format_volume(done.ml_before)} before, {format_volume(done.ml_after)} now; old mask: "
        f"{done.kept_as}"
    )
    typer.echo(f"look at {folder / 'report.html'}")


@models.command("list")
def list_models() -> None:
    """List the methods `--model` takes, how large they are, and whether they are calibrated."""
    from infarct.cli.console import show_methods
    from infarct.segmentation.models import get_model, model_names

    show_methods([get_model(name) for name in model_names()])
    check_printed()


@models.command()
def verify() -> None:
    """Check every file that ships against the sha256 on record."""
    from infarct.core import assets

    for name in assets.index():
        assets.path(name)
    typer.echo(f"{len(assets.index())} files are whole")
    check_printed()


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    typer.echo(installed("infarct"))
    check_printed()


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


def _named_folders(pairs: list[str], what: str, example: str) -> list[tuple[str, Path]]:
    named = [pair.split("=", 1) for pair in pairs]
    if any(len(pair) != 2 or not all(pair) for pair in named):
        raise typer.BadParameter(f"give each {what} as NAME=DIR, for example {example}")
    return [(name, Path(folder)) for name, folder in named]


def _read_atlas(atlas: Path | None, labels: Path | None) -> Atlas | None:
    from infarct.measurement.atlas import read_atlas

    if (atlas is None) != (labels is None):
        raise typer.BadParameter("give --atlas and --labels together: the map and its names")
    return read_atlas(atlas, labels) if atlas and labels else None


def _segment_into(
    files: CaseFiles,
    out: Path,
    model: str,
    may: tuple[bool, bool],
    territories: Atlas | None = None,
) -> Segmentation:
    from infarct.cli.console import live_timer, show_result
    from infarct.pipeline import segment_case
    from infarct.preprocessing.load import open_case
    from infarct.reporting.writer import destination, write_results
    from infarct.segmentation.models import get_model

    get_model(model)
    results, corrected = may
    with (
        destination(out, files.paths().values(), overwrite=results, overwrite_corrected=corrected),
        live_timer() as timer,
    ):
        with timer.step("read and check"):
            case = open_case(files)
        result = segment_case(case, model, timer, territories)
        with timer.step("write"):
            write_results(
                result,
                out,
                overwrite=results,
                overwrite_corrected=corrected,
                command=sys.argv[1:],
            )
    show_result(result, out)
    return result


def _run_jobs(
    jobs: Sequence[Job],
    out: Path,
    model: str,
    pool: Pool,
    *,
    retry_failed: bool,
    overwrite_corrected: bool,
) -> Sequence[Outcome]:
    from infarct.cli.console import live_cohort, show_cohort
    from infarct.cohort.jobs import Settings
    from infarct.cohort.run import Request, run_cohort

    command = tuple(sys.argv[1:])
    settings = Settings(model, command, overwrite_corrected=overwrite_corrected)
    request = Request(out, settings, pool, retry_failed)
    with live_cohort() as watcher:
        outcomes = run_cohort(jobs, request, watcher)
    show_cohort(outcomes, out)
    return outcomes


def _sum_up(
    jobs: Sequence[Job], out: Path, about: Mapping[str, Mapping[str, str]] | None = None
) -> None:
    from infarct.cli.console import live_evaluation, show_page
    from infarct.cohort.group_report import write_group

    with live_evaluation() as progress:
        page = write_group(jobs, out, about, progress)
    show_page(page)


@clean_stops()
def main() -> None:
    """Run the command line; every deliberate error ends it with its own exit code."""
    try:
        with prepared_process():
            _run()
    except InfarctError as error:
        # From the preparation itself, or while it was undone.
        _complain(error)


def _run() -> None:
    try:
        app()
    except InfarctError as error:
        _complain(error)
    except Exception as error:
        if is_shortage(error):
            _complain(MemoryShortageError())
        raise
    except SystemExit as ended:
        # typer makes an exit of Ctrl-C, and says nothing.
        if ended.__context__ and isinstance(ended.__context__.__cause__, KeyboardInterrupt):
            _say("infarct: interrupted; nothing half-written was left")
        raise


def _complain(error: InfarctError) -> NoReturn:
    _say(f"infarct: {error}")
    sys.exit(error.exit_code)


def _say(text: str) -> None:
    # As the rest of the output does, click alone does not heed NO_COLOR and TERM=dumb.
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    typer.secho(text, fg=None if plain else "red", err=True)
