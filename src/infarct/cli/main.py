"""Command-line interface: parses arguments, calls the library, and sets the exit code.

Exit codes: 0 success, 1 internal error, 2 usage error, 3 to 12 see `infarct.core.errors`,
130 interrupted, 128 + N terminated by signal N.
"""

from __future__ import annotations

import os
import sys
import time
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
    from infarct.pipeline import RunRequest
    from infarct.segmentation.result import Segmentation

app = typer.Typer(
    help="Detect, segment and measure acute ischemic stroke lesions on diffusion MRI.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(lab, name="lab")
models = typer.Typer(help="List the available models and verify their files.")
app.add_typer(models, name="models")

DEFAULT_MODEL = "ensemble"
"""Same as `infarct.segmentation.models.DEFAULT`, which is too slow to import for `--help`."""


class Kept(StrEnum):
    """Outputs that a cohort writes only on request."""

    mni = "mni"


Model = Annotated[
    str,
    typer.Option(
        help="Model to use (see `infarct models list`). Separate several networks with commas to "
        "average them. Append :sensitive, :balanced (default) or :specific to set the operating "
        "point."
    ),
]
OwnAtlas = Annotated[
    Path | None,
    typer.Option(help="Custom territory atlas in MNI space (NIfTI); requires --labels."),
]
OwnLabels = Annotated[
    Path | None,
    typer.Option(
        help="Region names for --atlas: a TSV with columns index, name and optional side."
    ),
]
B0Below = Annotated[
    float, typer.Option(help="Volumes of a series with a lower b-value (s/mm^2) are b0.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help="Number of local processes. Default: as many as cores and memory allow."
    ),
]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of a running Dask scheduler, e.g. tls://HOST:PORT.")
]
Unencrypted = Annotated[
    bool,
    typer.Option(
        "--unencrypted",
        help="Allow a scheduler without TLS. Anyone who can reach its port can run code as you.",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(help="Replace an existing result in OUT, unless it contains manual edits."),
]
OverwriteCorrected = Annotated[
    bool,
    typer.Option(
        help="Replace existing results even if they contain manual corrections or your own files."
    ),
]
Keep = Annotated[
    list[Kept] | None,
    typer.Option(help="mni: also keep scan and maps in MNI space (about 25 MB per case)."),
]
RetryFailed = Annotated[bool, typer.Option(help="Retry cases that failed in an earlier run.")]


class BidsAppCommand(TyperCommand):
    """Accepts several values after one `--participant_label`, as other BIDS Apps do.

    Click does not support options with a variable number of values, so the option is repeated
    before each value.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat a list option before each of its values; keep the positional arguments."""
        return super().parse_args(ctx, _repeat_options(args, _LISTS, self._with_value()))

    def _with_value(self) -> set[str]:
        options = (param for param in self.params if not getattr(param, "is_flag", True))
        return {name for option in options for name in option.opts}


_LISTS = {"--participant-label", "--participant_label", "--session-label", "--session_label"}


def _repeat_options(args: Sequence[str], lists: Set[str], with_value: Set[str]) -> list[str]:
    """Rewrite `--label 01 02` as `--label 01 --label 02`.

    A list of values ends at the next option. If BIDS_DIR and OUT_DIR are still missing, the last
    words before the level are these arguments: `--label 01 02 BIDS_DIR OUT_DIR participant`.

    Args:
        args: Command-line arguments.
        lists: Options with any number of values.
        with_value: Options with one value.
    """
    runs: list[tuple[str, list[str]]] = []
    for word in args:
        option = runs[-1][0] if runs else ""
        if word.startswith("-") and word != "-":
            runs.append((word, []))
        elif option in lists or (option in with_value and not runs[-1][1]):
            runs[-1][1].append(word)
        else:
            # After a flag or the value of another option: a positional argument.
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
    """Analysis level of a BIDS App."""

    participant = "participant"
    group = "group"


@app.command()
def segment(
    out: Annotated[Path, typer.Option(help="Output folder; it is created.")],
    dwi: Annotated[
        Path | None,
        typer.Option(
            help="Diffusion-weighted image (NIfTI), or a 4D series with a .bval file next to it."
        ),
    ] = None,
    b0: Annotated[Path | None, typer.Option(help="b0 image (no diffusion weighting).")] = None,
    adc: Annotated[Path | None, typer.Option(help="ADC map, in any common unit.")] = None,
    bvalue: Annotated[
        float | None,
        typer.Option(
            help="b-value of the DWI in s/mm^2 (default 1000). For a 4D series, the nearest shell "
            "is used."
        ),
    ] = None,
    b0_below: B0Below = 50.0,
    brain: Annotated[Path | None, typer.Option(help="Brain mask; computed if not given.")] = None,
    model: Model = DEFAULT_MODEL,
    atlas: OwnAtlas = None,
    labels: OwnLabels = None,
    overwrite: Overwrite = False,
    overwrite_corrected: OverwriteCorrected = False,
    dicom: Annotated[
        Path | None, typer.Option(help="Folder of DICOM files; replaces --dwi, --b0 and --adc.")
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="With --dicom: number or UID of the series to use.")
    ] = None,
    dicom_out: Annotated[
        bool, typer.Option("--dicom-out", help="With --dicom: also write DICOM SEG and SR.")
    ] = False,
    keep_identity: Annotated[
        bool,
        typer.Option(
            "--keep-identity", help="With --dicom-out: keep patient name and ID in SEG and SR."
        ),
    ] = False,
    case_id: Annotated[
        str,
        typer.Option(
            "--id",
            help="Id or pseudonym of the case in the report. Default: the name of OUT; with "
            "--dicom, a pseudonym made from the image.",
        ),
    ] = "",
    scan_date: Annotated[
        str, typer.Option(help="Date of the scan in the report, if it may be shown.")
    ] = "",
) -> None:
    """Segment and measure the lesions of one scan (--dwi with --b0 and/or --adc, or --dicom)."""
    from infarct.pipeline import RunRequest
    from infarct.preprocessing.case import CaseFiles
    from infarct.reporting.case_label import CaseLabel
    from infarct.reporting.writer import check_place

    territories = _read_atlas(atlas, labels)
    if atlas and labels:
        check_place(out, (atlas, labels))
    if dicom is not None:
        if dwi or b0 or adc or bvalue is not None:
            raise typer.BadParameter(
                "--dicom cannot be combined with --dwi, --b0, --adc or --bvalue"
            )
        if keep_identity and not dicom_out:
            raise typer.BadParameter("--keep-identity requires --dicom-out")
        from infarct.cli.segment_dicom import DicomRequest, segment_folder

        request = DicomRequest(
            dicom,
            out,
            series=series,
            b0_below=b0_below,
            brain=brain,
            model=model,
            territories=territories,
            overwrite=overwrite,
            overwrite_corrected=overwrite_corrected,
            dicom_out=dicom_out,
            keep_identity=keep_identity,
            label=CaseLabel(case_id, scan_date),
        )
        segment_folder(request)
        return
    if dwi is None:
        raise typer.BadParameter("no scan given; use --dwi (with --b0 or --adc), or --dicom")
    if series is not None or dicom_out or keep_identity:
        raise typer.BadParameter("--series, --dicom-out and --keep-identity require --dicom")
    files = CaseFiles(dwi, b0, adc, bvalue, brain, b0_below=b0_below)
    scan = RunRequest(
        files,
        out,
        model,
        territories,
        overwrite=overwrite,
        overwrite_corrected=overwrite_corrected,
        command=sys.argv[1:],
        label=CaseLabel(case_id, scan_date),
    )
    _run_and_show(scan)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Output folder; it is created.")] = Path("infarct-demo"),
    model: Model = DEFAULT_MODEL,
    overwrite: Overwrite = False,
    overwrite_corrected: OverwriteCorrected = False,
) -> None:
    """Segment the bundled synthetic scan and compare the result with its true lesion mask."""
    from infarct.cli.demo import demo_files, score
    from infarct.pipeline import RunRequest

    request = RunRequest(
        demo_files(),
        out,
        model,
        overwrite=overwrite,
        overwrite_corrected=overwrite_corrected,
        command=sys.argv[1:],
    )
    typer.echo(score(_run_and_show(request)))


@app.command()
def evaluate(
    reference: Annotated[Path, typer.Option(help="Folder of reference masks.")],
    prediction: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=DIR", help="Name of a tool and folder of its masks; repeatable."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Output folder; it is created.")],
    dwi: Annotated[
        Path | None, typer.Option(help="Folder of DWI, for lesion contrast and the gallery.")
    ] = None,
    adc: Annotated[
        Path | None, typer.Option(help="Folder of ADC maps, for lesion contrast.")
    ] = None,
    brain: Annotated[Path | None, typer.Option(help="Folder of brain masks.")] = None,
    subjects: Annotated[
        Path | None,
        typer.Option(help="Table of subjects (TSV): cohort, territory, sex, scanner, ..."),
    ] = None,
    costs: Annotated[
        Path | None,
        typer.Option(help="Table of computing costs: tool, parameters, seconds, memory_gb."),
    ] = None,
    rater: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DIR",
            help="Name of a human rater and folder of their masks; repeatable. Repeat a name for a "
            "second reading.",
        ),
    ] = None,
    focus: Annotated[
        str | None, typer.Option(help="Restrict the stratified analyses to this cohort.")
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(help="Which mask to use if a subject has several, e.g. lesionAcute."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the bootstrap.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes. Default: one per core.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing evaluation in OUT.")] = False,
) -> None:
    """Score the masks of any tool against reference masks, with all metrics of the paper."""
    from infarct.cli.console import live_evaluation, show_evaluation
    from infarct.evaluation import EvaluationRequest
    from infarct.evaluation import evaluate as evaluate_masks

    named = _named_folders(prediction, "tool", "cfuzzy=results")
    predictions = dict(named)
    if len(predictions) < len(named):
        raise typer.BadParameter("each --prediction needs a unique name")
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
        typer.Argument(
            help="Table with columns id, dwi and optional b0, adc, brain, bvalue; or a quoted file "
            "pattern such as 'DATA/*/dwi.nii.gz'."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Output folder, with one subfolder per case.")],
    model: Model = DEFAULT_MODEL,
    b0_below: B0Below = 50.0,
    workers: Workers = None,
    scheduler: Scheduler = None,
    unencrypted: Unencrypted = False,
    retry_failed: RetryFailed = False,
    overwrite_corrected: OverwriteCorrected = False,
    keep: Keep = None,
) -> None:
    """Segment and measure many scans in parallel. Run it again to resume."""
    from infarct.cohort.case_list import find_jobs
    from infarct.cohort.jobs import check_outcomes
    from infarct.cohort.runner import Pool

    options = {
        "retry_failed": retry_failed,
        "overwrite_corrected": overwrite_corrected,
        "keep_mni": Kept.mni in (keep or ()),
    }
    jobs = find_jobs(cases, out, b0_below)
    pool = Pool(workers, scheduler, unencrypted)
    outcomes = _run_jobs(jobs, out, model, pool, **options)
    _write_group_report(jobs, out)
    check_outcomes(outcomes)


@app.command(cls=BidsAppCommand)
def bids(
    bids_dir: Annotated[Path, typer.Argument(help="Root of the BIDS dataset.")],
    out_dir: Annotated[Path, typer.Argument(help="Output folder for the derivatives.")],
    level: Annotated[
        Level,
        typer.Argument(
            help="participant: process each scan; group: summarise all scans in one report."
        ),
    ],
    participant_label: Annotated[
        list[str] | None,
        typer.Option(
            "--participant-label",
            "--participant_label",
            help="Process only these participants, e.g. 01 02.",
        ),
    ] = None,
    session_label: Annotated[
        list[str] | None,
        typer.Option(
            "--session-label", "--session_label", help="Process only these sessions, e.g. 01 02."
        ),
    ] = None,
    model: Model = DEFAULT_MODEL,
    b0_below: B0Below = 50.0,
    workers: Workers = None,
    scheduler: Scheduler = None,
    unencrypted: Unencrypted = False,
    retry_failed: RetryFailed = False,
    overwrite_corrected: OverwriteCorrected = False,
    keep: Keep = None,
) -> None:
    """Segment and measure the diffusion scans of a BIDS dataset (BIDS App)."""
    from infarct.bids.dataset import find_scans
    from infarct.bids.derivatives import check_place, describe, jobs_of
    from infarct.bids.gaps import gaps
    from infarct.bids.participants import join_participants
    from infarct.cohort.jobs import check_outcomes
    from infarct.cohort.runner import Pool
    from infarct.segmentation.models import get_model

    get_model(model)
    check_place(bids_dir, out_dir)
    scans = find_scans(bids_dir, participant_label or (), session_label or (), b0_below)
    jobs = jobs_of(scans, bids_dir, out_dir, keep_mni=Kept.mni in (keep or ()))
    group = level is Level.group
    entire_dataset = not participant_label and not session_label
    for gap in gaps(scans, bids_dir, b0_below, table=group) if entire_dataset else ():
        typer.echo(gap, err=True)
    if group:
        _write_group_report(jobs, out_dir, join_participants(scans, bids_dir))
        return
    describe(bids_dir, out_dir)
    options = {
        "retry_failed": retry_failed,
        "overwrite_corrected": overwrite_corrected,
        "keep_mni": Kept.mni in (keep or ()),
    }
    pool = Pool(workers, scheduler, unencrypted)
    outcomes = _run_jobs(jobs, out_dir, model, pool, **options)
    check_outcomes(outcomes)


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Result folder of infarct segment.")
    ],
) -> None:
    """Rebuild the HTML report and the figure of an existing result."""
    from infarct.reporting.writer import rebuild_page

    rebuild_page(folder)
    typer.echo(f"report: {folder / 'report.html'}")


@app.command()
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
    from infarct.core.units import format_volume
    from infarct.reporting.recompute import recompute as remeasure

    territories = _read_atlas(atlas, labels)
    done = remeasure(folder, mask, by=by, reason=reason, territories=territories)
    typer.echo(
        f"lesion volume: {format_volume(done.ml_before)} before, {format_volume(done.ml_after)} "
        f"after; old mask: {done.previous_mask}"
    )
    typer.echo(f"report: {folder / 'report.html'}")
    typer.echo("next: open the report; in a cohort, repeat its command to update the group page")


@app.command()
def serve(
    results: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder of the results; it is created.")
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
    from infarct.cli.serve import prepare_demo, serve_page
    from infarct.segmentation.models import get_model

    get_model(model)
    if demo:
        prepare_demo(results, model)
    settings = {"root": results, "at_once": jobs, "model": model}
    serve_page(settings, host, port, token, browser=browser)


@models.command("list")
def list_models(
    every: Annotated[
        bool, typer.Option("--all", help="Also list networks that only compare designs.")
    ] = False,
) -> None:
    """List the models accepted by `--model`, with their size, calibration and use."""
    from infarct.cli.console import show_methods
    from infarct.segmentation.models import BRIEF, DEFAULT, get_model, model_names

    names = sorted(model_names(), key=lambda name: name != DEFAULT)
    listed = [name for name in names if every or not name.endswith(BRIEF)]
    show_methods([get_model(name) for name in listed], len(names) - len(listed))
    check_printed()


@models.command()
def verify() -> None:
    """Verify the SHA-256 checksums of all bundled files."""
    from infarct.core import assets

    for name in assets.index():
        assets.path(name)
    typer.echo(f"{len(assets.index())} files verified")
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
        raise typer.BadParameter(f"expected each {what} as NAME=DIR, for example {example}")
    return [(name, Path(folder)) for name, folder in named]


def _read_atlas(atlas: Path | None, labels: Path | None) -> Atlas | None:
    from infarct.measurement.atlas import read_atlas

    if (atlas is None) != (labels is None):
        raise typer.BadParameter("--atlas and --labels must be given together")
    return read_atlas(atlas, labels) if atlas and labels else None


def _run_and_show(request: RunRequest) -> Segmentation:
    from infarct.cli.console import live_progress, show_result
    from infarct.pipeline import run

    assert request.out is not None
    start = time.monotonic()
    with live_progress() as listener:
        result = run(request, listener)
    show_result(result, request.out, time.monotonic() - start)
    return result


def _run_jobs(
    jobs: Sequence[Job],
    out: Path,
    model: str,
    pool: Pool,
    *,
    retry_failed: bool,
    overwrite_corrected: bool,
    keep_mni: bool,
) -> Sequence[Outcome]:
    from infarct.cli.console import live_cohort, show_cohort
    from infarct.cohort.jobs import Settings
    from infarct.cohort.run import Request, run_cohort

    command = tuple(sys.argv[1:])
    settings = Settings(model, command, overwrite_corrected=overwrite_corrected, keep_mni=keep_mni)
    request = Request(out, settings, pool, retry_failed)
    with live_cohort() as watcher:
        outcomes = run_cohort(jobs, request, watcher)
    show_cohort(outcomes, out)
    return outcomes


def _write_group_report(
    jobs: Sequence[Job], out: Path, about: Mapping[str, Mapping[str, str]] | None = None
) -> None:
    from infarct.cli.console import live_evaluation, show_page
    from infarct.cohort.group_report import write_group

    with live_evaluation() as progress:
        page = write_group(jobs, out, about, progress)
    show_page(page)


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
