"""Run many scans with progress on the terminal, and write their group report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from infarct.cli.console import live_cohort, live_evaluation, show_cohort, show_page
from infarct.cohort.group_report import write_group
from infarct.cohort.jobs import Job, Outcome
from infarct.cohort.run import Request, run_cohort


def run_cases(jobs: Sequence[Job], request: Request) -> Sequence[Outcome]:
    """Run all cases that are not done, and print how many are."""
    with live_cohort() as watcher:
        outcomes = run_cohort(jobs, request, watcher)
    show_cohort(outcomes, request.out)
    return outcomes


def write_group_report(
    jobs: Sequence[Job], out: Path, about: Mapping[str, Mapping[str, str]] | None = None
) -> None:
    """Write the group report, and print its location.

    Args:
        jobs: The cases.
        out: Output folder of the cohort.
        about: Further columns of the table, by case and name.
    """
    with live_evaluation() as progress:
        page = write_group(jobs, out, about, progress)
    show_page(page)
