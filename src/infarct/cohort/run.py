"""Runs a cohort: finds unfinished cases, processes them and records their outcomes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from infarct.cohort.case_log import Ledger, tells
from infarct.cohort.jobs import (
    Job,
    Outcome,
    Settings,
    Work,
    refuse_foreign_group,
    refuse_inputs_inside,
)
from infarct.cohort.runner import Pool, compute
from infarct.cohort.worker import clean, process
from infarct.core import machine
from infarct.core.errors import MemoryShortageError, OutputError
from infarct.core.units import format_duration
from infarct.segmentation.models import get_model

_CASE_BYTES, _MNI_BYTES = 8_000_000, 25_000_000
"""Typical size of the result of a case, and of its images in MNI space."""

_MOST_TOLD = 20
"""Maximum number of missing files that are listed."""


@dataclass(frozen=True)
class Request:
    """How to run a cohort.

    Attributes:
        out: Output folder.
        settings: Settings that determine a result.
        pool: Workers to use.
        retry_failed: Run cases again that failed in an earlier run.
        work: Function that processes one case; replaced only in tests of the scheduling.
    """

    out: Path
    settings: Settings
    pool: Pool = field(default_factory=Pool)
    retry_failed: bool = False
    work: Work = process


@dataclass(frozen=True)
class Watcher:
    """Callbacks that report the progress of a run.

    Attributes:
        starts: Called with a description of the workers.
        ends: Called with each outcome and the total number of cases.
        plans: Called with the number of cases, those done before, the expected time, and the cases
            whose files are missing.
    """

    starts: Callable[[str], None] = lambda _: None
    ends: Callable[[Outcome, int], None] = lambda _, __: None
    plans: Callable[[str], None] = lambda _: None


def run_cohort(
    jobs: Sequence[Job], request: Request, watcher: Watcher | None = None
) -> list[Outcome]:
    """Run every case that is not done.

    Args:
        jobs: The cases.
        request: How to run them.
        watcher: Callbacks for progress.

    Returns:
        One outcome per case, in the order of `jobs`.

    Raises:
        OutputError: If the output folder contains inputs, or a `group` folder or `cases.tsv` not
            written by infarct, or the case log cannot be written.
        CohortError: If the scheduler cannot be reached.
        AssetError: If the model does not exist.
    """
    watcher = watcher or Watcher()
    get_model(request.settings.model)
    refuse_inputs_inside(request.out, jobs)
    refuse_foreign_group(request.out)
    ledger = Ledger(request.out)
    ledger.refuse_foreign()
    earlier = ledger.read()
    ended: dict[str, Outcome] = {}

    def end(outcome: Outcome) -> None:
        ended[outcome.id] = outcome
        watcher.ends(outcome, len(jobs))

    todo = []
    for job in jobs:
        row = earlier.get(job.id)
        if row and not request.retry_failed and _failed_for_good(row, request.settings):
            code, reason = int(row["code"]), row["reason"]
            end(Outcome(job.id, "failed", code, reason, fresh=False))
        else:
            todo.append(job)
    plan(todo, earlier, request, watcher.plans)
    clean(todo)
    try:
        work, settings, pool = request.work, request.settings, request.pool
        # Closing the generator stops the workers if an error ends the loop.
        with closing(compute(todo, work, settings, pool, watcher.starts)) as outcomes:
            for outcome in outcomes:
                if earlier.get(outcome.id, {}).get("status") != "done":
                    # Includes cases that a worker completed but died before reporting.
                    outcome = replace(outcome, fresh=True)  # noqa: PLW2901
                # A manually corrected case is not fresh, but its numbers have changed.
                if outcome.fresh or not tells(earlier[outcome.id], outcome):
                    ledger.add(outcome, settings)
                end(outcome)
    finally:
        clean(todo)
        ledger.publish()
    return [ended[job.id] for job in jobs]


def plan(
    todo: Sequence[Job],
    earlier: Mapping[str, Mapping[str, str]],
    request: Request,
    tell: Callable[[str], None],
) -> None:
    """Tell what there is to do, the space it needs, and which files are missing.

    Args:
        todo: Cases that are checked or run.
        earlier: Record of each case, from `Ledger.read`.
        request: How they are run.
        tell: Called with each line.
    """
    done = sum(earlier.get(job.id, {}).get("status") == "done" for job in todo)
    seconds = [float(row["seconds"]) for row in earlier.values() if row["seconds"] != "n/a"]
    text = f"{len(todo):,} cases, {done:,} done before"
    if done < len(todo):
        text += ", the remaining time is known after the first case"
        if seconds:
            workers = min(request.pool.workers or machine.cores(), len(todo) - done)
            left = median(seconds) * (len(todo) - done) / workers
            text = f"{len(todo):,} cases, {done:,} done before, about {format_duration(left)} left"
    tell(text)
    needed = (len(todo) - done) * (_CASE_BYTES + request.settings.keep_mni * _MNI_BYTES)
    there = next(path for path in (request.out, *request.out.resolve().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed:
        short = "; make room, or use another output folder" if needed > free else ""
        tell(f"about {_size(needed)} of disk space needed, {_size(free)} free{short}")
    missing = [
        f"{job.id}: {role} {path} not found"
        for job in todo
        for role, path in job.files.paths().items()
        if not path.is_file()
    ]
    if missing:
        more = len(missing) - _MOST_TOLD
        told = missing[:_MOST_TOLD] + ([f"and {more} more"] if more > 0 else [])
        tell("these cases will fail, because files are missing:\n  " + "\n  ".join(told))


def _size(count: float) -> str:
    """Format a number of bytes."""
    return f"{count / 1e9:,.0f} GB" if count >= 1e10 else f"{max(count / 1e9, 0.1):.1f} GB"


def _failed_for_good(row: dict[str, str], settings: Settings) -> bool:
    """Return whether a case failed because of its input, with the same version and model."""
    # A full disk or a lack of memory is unrelated to the scan: such cases are always run again.
    external = {str(error.exit_code) for error in (OutputError, MemoryShortageError)}
    same = (row["infarct"], row["model"]) == (settings.infarct, settings.model)
    return row["status"] == "failed" and same and row["code"] not in external
