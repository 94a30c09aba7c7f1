"""Terminal output: progress while a command runs, and a summary at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from infarct.core.step_timer import Listener, StepProgress
from infarct.core.units import format_volume
from infarct.reporting.narrative import describe_confidence, verdict
from infarct.reporting.writer import summarise
from infarct.segmentation.result import Segmentation

if TYPE_CHECKING:
    from infarct.cohort.jobs import Outcome
    from infarct.cohort.run import Watcher
    from infarct.evaluation import Evaluation
    from infarct.segmentation.models import Model

_PLAIN = {
    "read and check": "reading and checking the images",
    "register": "registering to the template",
    "resample": "resampling to 1 mm",
    "brain mask": "skull-stripping",
    "normalise": "normalising intensities",
    "cfuzzy map": "computing the c-fuzzy map",
    "segment": "segmenting lesions",
    "second method": "comparing with the c-fuzzy map",
    "refine registration": "refining the registration for the atlases",
    "measure": "measuring lesions",
    "locate": "assigning territories and regions",
    "compare hemispheres": "comparing the hemispheres",
    "write": "writing the results",
}


@contextmanager
def live_progress() -> Iterator[Listener]:
    """Provide a listener that shows each step on the terminal as it starts."""
    console = Console(stderr=True)
    with console.status("starting") as status:

        def show(progress: StepProgress) -> None:
            text = _PLAIN.get(progress.step, progress.step)
            line = f"{text} (step {progress.number} of {progress.total})"
            if console.is_terminal:
                status.update(line)
            else:
                console.print(line, markup=False, highlight=False, soft_wrap=True)

        yield show


def show_result(result: Segmentation, out: Path) -> None:
    """Print the findings, the warnings and the location of the report."""
    console = Console()
    m = result.measurements
    summary = summarise(result)
    console.print(verdict(summary), style="bold", markup=False, highlight=False)
    console.print(describe_confidence(summary), markup=False, highlight=False)
    if m.lesions:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("lesion", "ml", "side", "MNI x, y, z", "DWI ratio", "ADC ratio"):
            table.add_column(name, justify="left" if name == "side" else "right")
        for lesion in m.lesions[:10]:
            place = ", ".join(f"{c:.0f}" for c in lesion.centroid_mni_mm)
            ratios = (f"{lesion.dwi_ratio:.2f}", f"{lesion.adc_ratio:.2f}")
            table.add_row(str(lesion.label), f"{lesion.volume_ml:.2f}", lesion.side, place, *ratios)
        console.print(table)
        if len(m.lesions) > 10:
            console.print(f"{len(m.lesions) - 10} smaller lesions: see lesions.tsv", style="dim")
    for finding in result.findings:
        style, lead = ("yellow", "check") if finding.level == "warning" else ("dim", "note")
        console.print(f"{lead}: {finding.message}", style=style, markup=False, highlight=False)
    total = sum(result.seconds.values())
    console.print(f"report: {out / 'report.html'} ({total:.0f} s)", markup=False, highlight=False)


def show_methods(methods: Sequence[Model]) -> None:
    """Print a table of models."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("--model", "description", "MB", "calibrated on"):
        table.add_column(name, justify="right" if name == "MB" else "left")
    for method in methods:
        size = sum(file.stat().st_size for file in method.networks) / 1e6
        scans = (
            f"{method.candidate_filter.calibration.scans} scans"
            if method.candidate_filter
            else "no"
        )
        table.add_row(method.name, method.title, f"{size:.1f}" if size else "", scans)
    Console().print(table)


@contextmanager
def live_evaluation() -> Iterator[Callable[[str, int, int], None]]:
    """Provide a callback that shows a progress bar for each step."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}

        def update(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=total)
            bar.update(tasks[step], completed=done)

        yield update


def show_evaluation(result: Evaluation) -> None:
    """Print the outcome, notes on missing or skipped data, and the location of the report."""
    console = Console()
    console.print(result.verdict, style="bold", markup=False, highlight=False)
    for note in result.notes:
        console.print(f"note: {note}", style="dim", markup=False, highlight=False)
    console.print(f"report: {result.report}", markup=False, highlight=False)


@contextmanager
def live_cohort() -> Iterator[Watcher]:
    """Provide a watcher that prints a line for each finished case above a progress bar."""
    from infarct.cohort.run import Watcher  # noqa: PLC0415 - Dask is loaded only for cohorts

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("cases", total=None)
        failed = 0

        def starts(text: str) -> None:
            bar.console.print(text, style="dim", markup=False, highlight=False)

        def ends(outcome: Outcome, total: int) -> None:
            nonlocal failed
            failed += outcome.status == "failed"
            text = f"cases, {failed} failed" if failed else "cases"
            bar.update(task, total=total, advance=1, description=text)
            if outcome.fresh or outcome.status == "failed":
                style = "red" if outcome.status == "failed" else None
                line = describe_outcome(outcome)
                bar.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)

        yield Watcher(starts, ends)


def describe_outcome(outcome: Outcome) -> str:
    """Describe the outcome of a case in one line."""
    if outcome.status == "failed":
        again = "" if outcome.fresh else " (in an earlier run; use --retry-failed to run it again)"
        return f"{outcome.id}: failed, {outcome.reason}{again}"
    assert outcome.volume_ml is not None
    parts = [format_volume(outcome.volume_ml), _counted(outcome.lesions, "lesion")]
    parts += [_counted(outcome.warnings, "warning")] if outcome.warnings else []
    parts += [f"{outcome.seconds:.0f} s"] if outcome.seconds is not None else []
    return f"{outcome.id}: {', '.join(parts)}"


def _counted(count: int | None, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def show_cohort(outcomes: Sequence[Outcome], out: Path) -> None:
    """Print how many cases are done, including earlier runs, and the path of the case table."""
    console = Console()
    done = [outcome for outcome in outcomes if outcome.status == "done"]
    before = sum(not outcome.fresh for outcome in done)
    text = f"{len(done)} of {len(outcomes)} cases done"
    text += f" ({before} in earlier runs)" if before else ""
    console.print(text, style="bold", markup=False, highlight=False)
    console.print(f"status of each case: {out / 'cases.tsv'}", markup=False, highlight=False)


def show_page(page: Path) -> None:
    """Print the location of the group report."""
    Console().print(f"report: {page}", markup=False, highlight=False)
