"""What a person sees on the terminal: progress while it runs, a summary at the end."""

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

from infarct.core.step_timer import StepTimer
from infarct.core.units import format_volume
from infarct.reporting.narrative import certainty, verdict
from infarct.reporting.writer import summarise
from infarct.segmentation.result import Segmentation

if TYPE_CHECKING:
    from infarct.cohort.jobs import Outcome
    from infarct.cohort.run import Watcher
    from infarct.evaluation import Evaluation
    from infarct.segmentation.models import Model

_PLAIN = {
    "read and check": "reading and checking the images",
    "register": "placing the head on the template",
    "resample": "resampling to 1 mm",
    "brain": "finding the brain",
    "normalise": "making intensities comparable",
    "is map": "mapping ischemic tissue",
    "outline": "outlining lesions",
    "measure": "measuring",
    "second reader": "asking a second reader",
    "locate": "finding territories and regions",
    "write": "writing the results",
}


@contextmanager
def live_timer() -> Iterator[StepTimer]:
    """Give a journal whose steps appear on the terminal as they start."""
    console = Console(stderr=True)
    with console.status("starting") as status:
        yield StepTimer(lambda step: status.update(_PLAIN.get(step, step)))


def show_result(result: Segmentation, out: Path) -> None:
    """Print what was found, what to check, and where the results are."""
    console = Console()
    m = result.measurements
    summary = summarise(result)
    console.print(verdict(summary), style="bold", markup=False, highlight=False)
    console.print(certainty(summary), markup=False, highlight=False)
    if m.lesions:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("lesion", "ml", "side", "MNI x, y, z", "DWI ratio", "ADC ratio"):
            table.add_column(name, justify="left" if name == "side" else "right")
        for lesion in m.lesions[:10]:
            place = ", ".join(f"{c:.0f}" for c in lesion.centroid_mni_mm)
            ratios = (f"{lesion.kappa_dwi:.2f}", f"{lesion.kappa_adc:.2f}")
            table.add_row(str(lesion.label), f"{lesion.volume_ml:.2f}", lesion.side, place, *ratios)
        console.print(table)
        if len(m.lesions) > 10:
            console.print(f"and {len(m.lesions) - 10} smaller ones in lesions.tsv", style="dim")
    for finding in result.findings:
        style, lead = ("yellow", "check") if finding.level == "warning" else ("dim", "note")
        console.print(f"{lead}: {finding.message}", style=style, markup=False, highlight=False)
    total = sum(result.seconds.values())
    console.print(f"look at {out / 'report.html'} ({total:.0f} s)", markup=False, highlight=False)


def show_methods(methods: Sequence[Model]) -> None:
    """Print a table of methods."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("--model", "what it is", "MB", "calibrated on"):
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
    """Give a callback that shows how far an evaluation is."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}

        def update(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=total)
            bar.update(tasks[step], completed=done)

        yield update


def show_evaluation(result: Evaluation) -> None:
    """Print the outcome, what was missing or skipped, and where the page is."""
    console = Console()
    console.print(result.verdict, style="bold", markup=False, highlight=False)
    for note in result.notes:
        console.print(f"note: {note}", style="dim", markup=False, highlight=False)
    console.print(f"look at {result.report}", markup=False, highlight=False)


@contextmanager
def live_cohort() -> Iterator[Watcher]:
    """Give a watcher that prints a line as each case ends, above a bar of how far the cohort is."""
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
    """Say in one line what became of a case."""
    if outcome.status == "failed":
        again = "" if outcome.fresh else " (earlier; --retry-failed tries again)"
        return f"{outcome.id}: failed, {outcome.reason}{again}"
    assert outcome.volume_ml is not None
    parts = [format_volume(outcome.volume_ml), _counted(outcome.lesions, "lesion")]
    parts += [_counted(outcome.warnings, "warning")] if outcome.warnings else []
    parts += [f"{outcome.seconds:.0f} s"] if outcome.seconds is not None else []
    return f"{outcome.id}: {', '.join(parts)}"


def _counted(count: int | None, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def show_cohort(outcomes: Sequence[Outcome], out: Path) -> None:
    """Print how many cases are done, were done before, and failed, and where to look."""
    console = Console()
    done = [outcome for outcome in outcomes if outcome.status == "done"]
    before = sum(not outcome.fresh for outcome in done)
    text = f"{len(done)} of {len(outcomes)} cases done"
    text += f" ({before} of them before)" if before else ""
    console.print(text, style="bold", markup=False, highlight=False)
    console.print(f"every case: {out / 'cases.tsv'}", markup=False, highlight=False)


def show_page(page: Path) -> None:
    """Print where the page about all cases is."""
    Console().print(f"look at {page}", markup=False, highlight=False)
