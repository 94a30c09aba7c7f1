"""The story of a cohort: what is to do, what became of it, what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

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
from infarct.core.errors import MemoryShortageError, OutputError
from infarct.segmentation.models import get_model


@dataclass(frozen=True)
class Request:
    """How a cohort is to be run.

    Attributes:
        out: Folder of all results.
        settings: What decides a result.
        pool: Who works.
        retry_failed: Try again what failed in an earlier run.
        work: What is done with one case; replaced only to test the scheduling.
    """

    out: Path
    settings: Settings
    pool: Pool = field(default_factory=Pool)
    retry_failed: bool = False
    work: Work = process


@dataclass(frozen=True)
class Watcher:
    """Who is told how a run goes.

    Attributes:
        starts: Called with a sentence about the workers.
        ends: Called with every outcome and the number of cases there are.
    """

    starts: Callable[[str], None] = lambda _: None
    ends: Callable[[Outcome, int], None] = lambda _, __: None


def run_cohort(
    jobs: Sequence[Job], request: Request, watcher: Watcher | None = None
) -> list[Outcome]:
    """Run every case that is not done.

    Args:
        jobs: The cases.
        request: How.
        watcher: Is told.

    Returns:
        One outcome per case, in the order of `jobs`.

    Raises:
        OutputError: If the destination holds inputs, a foreign folder `group` or a foreign
            `cases.tsv`, or not even the ledger can be written.
        CohortError: If the scheduler cannot be reached.
        AssetError: If there is no such model.
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
    clean(todo)
    try:
        work, settings, pool = request.work, request.settings, request.pool
        # Closed, so that no worker is left when an error of ours ends the loop.
        with closing(compute(todo, work, settings, pool, watcher.starts)) as outcomes:
            for outcome in outcomes:
                if earlier.get(outcome.id, {}).get("status") != "done":
                    # Also what a worker completed and did not live to tell.
                    outcome = replace(outcome, fresh=True)  # noqa: PLW2901
                # One that was corrected by hand is not fresh, but has other numbers.
                if outcome.fresh or not tells(earlier[outcome.id], outcome):
                    ledger.add(outcome, settings)
                end(outcome)
    finally:
        clean(todo)
        ledger.publish()
    return [ended[job.id] for job in jobs]


def _failed_for_good(row: dict[str, str], settings: Settings) -> bool:
    """Tell whether a case failed through its own fault, under the same version and method."""
    # A full disk or too little memory says nothing about the scan: it is tried again unasked.
    blameless = {str(error.exit_code) for error in (OutputError, MemoryShortageError)}
    same = (row["infarct"], row["model"]) == (settings.infarct, settings.model)
    return row["status"] == "failed" and same and row["code"] not in blameless
