"""Terminal output: progress while a command runs, and a summary at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from infarct.core.step_timer import Listener, StepProgress
from infarct.core.units import format_duration, format_volume
from infarct.reporting.narrative import describe_confidence, side_first, verdict
from infarct.reporting.writer import summarise
from infarct.segmentation.models import DEFAULT
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
    "refine registration": "refining the registration for the atlases",
    "measure": "measuring lesions",
    "second method": "comparing with the c-fuzzy map",
    "compare hemispheres": "comparing the hemispheres",
    "convert": "converting the DICOM folder",
    "locate": "assigning territories and regions",
    "write": "writing the results",
}


@contextmanager
def live_progress() -> Iterator[Listener]:
    """Provide a listener that prints each finished step, and shows the running one on a terminal.

    Without a terminal, as in a log, there is one line per finished step.
    """
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    running: list[tuple[str, float]] = []

    def finish() -> None:
        for text, since in running:
            seconds = time.monotonic() - since
            console.print(f"{text}: {seconds:.1f} s", style="dim", markup=False, highlight=False)
        running.clear()

    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("starting")

        def show(progress: StepProgress) -> None:
            finish()
            name = _PLAIN.get(progress.step, progress.step)
            text = f"step {progress.number} of {progress.total}, {name}"
            running.append((text, time.monotonic()))
            bar.update(task, description=text)

        yield show
    finish()


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Say what a command without steps is doing; on a terminal, with the elapsed time."""
    console = Console(stderr=True)
    start = time.monotonic()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    if not console.is_terminal:
        console.print(f"{text} ...", markup=False, highlight=False)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        bar.add_task(text)
        yield
    seconds = time.monotonic() - start
    console.print(f"{text}: {seconds:.1f} s", style="dim", markup=False, highlight=False)


def show_result(result: Segmentation, out: Path, seconds: float) -> None:
    """Print the verdict, the lesions, the findings, where the report is, and what to do next.

    Args:
        result: The result.
        out: Its folder.
        seconds: Wall-clock time of the run, seconds.
    """
    console = Console()
    summary = summarise(result)
    lesions = summary["lesions"]
    console.print(verdict(summary), style="bold", markup=False, highlight=False)
    console.print(describe_confidence(summary), markup=False, highlight=False)
    if lesions:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("lesion", "ml", "region", "MNI x, y, z", "DWI ratio", "ADC ratio", ""):
            table.add_column(name, justify="left" if name in {"region", ""} else "right")
        for row in lesions[:10]:
            place = ", ".join(f"{c:.0f}" for c in row["centroid_mni_mm"])
            ratios = (_ratio(row["dwi_ratio"]), _ratio(row["adc_ratio"]))
            volume = format_volume(row["volume_ml"]).removesuffix(" ml")
            region = row["side"] if row["region"] == "unknown" else side_first(row["region"])
            doubtful = "doubtful" if row["doubtful"] else ""
            table.add_row(str(row["label"]), volume, region, place, *ratios, doubtful)
        console.print(table)
        if len(lesions) > 10:
            console.print(f"{len(lesions) - 10} smaller lesions: see lesions.tsv", style="dim")
    for finding in result.findings:
        style, lead = ("yellow", "check") if finding.level == "warning" else ("dim", "note")
        console.print(f"{lead}: {finding.message}", style=style, markup=False, highlight=False)
    console.print(
        f"report: {out / 'report.html'} ({format_duration(seconds)})",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    show_next(
        f"review the report; to correct the mask: infarct recompute {out} --mask EDITED --by NAME"
    )


def show_follow_up(results: Sequence[str], remarks: Sequence[str], page: Path) -> None:
    """Print the growth between the scans, what to check, and where the report is.

    Args:
        results: One sentence per comparison.
        remarks: What a reader must know before using the numbers.
        page: The report.
    """
    console = Console()
    for result in results:
        console.print(result, markup=False, highlight=False)
    for remark in remarks:
        console.print(f"check: {remark}", style="yellow", markup=False, highlight=False)
    console.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)


def show_next(text: str) -> None:
    """Print what to do next."""
    Console().print(f"next: {text}", style="dim", markup=False, highlight=False, soft_wrap=True)


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def show_methods(methods: Sequence[Model], hidden: int = 0, left_out: Sequence[str] = ()) -> None:
    """Print a table of models with the default first, and how many are not listed.

    Args:
        methods: Models to list.
        hidden: Number of models that are not listed.
        left_out: Names of the networks that are not part of this installation.
    """
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("--model", "description", "MB", "calibrated on", "use"):
        table.add_column(name, justify="right" if name == "MB" else "left")
    for method in methods:
        size = sum(file.stat().st_size for file in method.networks) / 1e6
        scans = (
            f"{method.candidate_filter.calibration.scans} scans"
            if method.candidate_filter
            else "no"
        )
        use = _use(method)
        table.add_row(method.name, method.title, f"{size:.1f}" if size else "", scans, use)
    console = Console()
    console.print(table)
    if hidden:
        text = f"{hidden} networks that only compare designs are not listed; list them with --all"
        console.print(text, style="dim", markup=False, highlight=False)
    if left_out:
        text = (
            f"not part of this installation: {', '.join(left_out)}. They compare methods only; "
            "--model NAME says how to get one"
        )
        console.print(text, style="dim", markup=False, highlight=False)


def _use(method: Model) -> str:
    """Say what a model is good for."""
    if method.name == DEFAULT:
        return "default; start here"
    if method.candidate_filter:
        return "faster than the default"
    return "not calibrated" if method.networks else "comparison with the paper"


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
    console.print(f"report: {result.report}", markup=False, highlight=False, soft_wrap=True)
    show_next(f"review the report; all tables: {result.report.parent}")


@contextmanager
def live_cohort() -> Iterator[Watcher]:
    """Provide a watcher that prints the plan, and a line for each finished case."""
    from infarct.cohort.run import Watcher  # noqa: PLC0415 - Dask is loaded only for cohorts

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("cases", total=None)
        pace = Pace()
        failed = 0

        def starts(text: str) -> None:
            bar.console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)

        def ends(outcome: Outcome, total: int) -> None:
            nonlocal failed
            failed += outcome.status == "failed"
            left = pace.left(outcome, total)
            parts = ["cases", *([f"{failed} failed"] if failed else []), *([left] if left else [])]
            bar.update(task, total=total, advance=1, description=", ".join(parts))
            if outcome.fresh or outcome.status == "failed":
                style = "red" if outcome.status == "failed" else None
                line = f"{pace.done} of {total}: {describe_outcome(outcome)}"
                line += f" ({left})" if left else ""
                bar.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)

        yield Watcher(starts, ends, starts)


@dataclass
class Pace:
    """Estimates the remaining time of a cohort from the cases that were run now.

    Attributes:
        start: Clock at the start of the run, seconds.
        done: Number of finished cases, including those of earlier runs.
        fresh: Number of cases that were run now.
    """

    start: float = field(default_factory=time.monotonic)
    done: int = 0
    fresh: int = 0

    def left(self, outcome: Outcome, total: int) -> str:
        """Count a finished case and return the remaining time; empty if unknown or none."""
        self.done += 1
        self.fresh += outcome.fresh
        if not self.fresh or self.done >= total:
            return ""
        seconds = (time.monotonic() - self.start) / self.fresh * (total - self.done)
        return f"about {format_duration(seconds)} left"


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
    table = out / "cases.tsv"
    console.print(f"status of each case: {table}", markup=False, highlight=False, soft_wrap=True)


def show_page(page: Path) -> None:
    """Print the location of the group report, and what to do next."""
    Console().print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)
    show_next(f"review the cases from the top; all measurements: {page.with_name('numbers.tsv')}")
