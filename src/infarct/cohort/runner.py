"""Runs independent cases in parallel, on this computer or on the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from infarct.cohort.dask_runner import run_on_cluster, secure_address
from infarct.cohort.jobs import Job, Outcome, Settings, Work
from infarct.cohort.local_runner import DEATHS, run_locally
from infarct.core import machine

__all__ = ["CASE_BYTES", "DEATHS", "Pool", "compute", "workers_that_fit"]

CASE_BYTES = 2_500_000_000
"""Memory budget per worker: 2.1 GB is typical, large matrices need more."""


@dataclass(frozen=True)
class Pool:
    """Workers of a run.

    Attributes:
        workers: Number of local processes; None for as many as cores and memory allow.
        scheduler: Address of a running Dask scheduler, whose workers are used instead.
        unencrypted: Whether to accept a scheduler without TLS.
    """

    workers: int | None = None
    scheduler: str | None = None
    unencrypted: bool = False


def compute(
    jobs: Sequence[Job],
    work: Work,
    settings: Settings,
    pool: Pool,
    starts: Callable[[str], None],
) -> Generator[Outcome]:
    """Run every job, and yield its outcome as it ends.

    Args:
        jobs: The cases; all paths must be valid on the workers.
        work: Function that processes one case; must not raise if a case fails.
        settings: Settings of the run.
        pool: Workers to use.
        starts: Called with a description of the workers and the address of the dashboard.

    Raises:
        CohortError: If the scheduler cannot be reached, is not encrypted, or disconnects; or if no
            local process can be started.
    """
    if pool.scheduler is not None:
        address = secure_address(pool.scheduler, unencrypted=pool.unencrypted)
        if jobs:
            yield from run_on_cluster(jobs, work, settings, address, starts)
        return
    if not jobs:
        return
    total, memory = machine.cores(), machine.memory_bytes()
    count = pool.workers or workers_that_fit(total, memory, len(jobs))
    threads = max(1, total // count)
    who = f"{count} local worker{'s' * (count > 1)} of {threads} thread{'s' * (threads > 1)}"
    starts(f"{who} and {memory / count / 1e9:.1f} GB each" if memory else who)
    yield from run_locally(jobs, work, settings, count, threads)


def workers_that_fit(cores: int, memory_bytes: int, cases: int) -> int:
    """Return how many local processes fit into cores and memory, at least one."""
    return max(1, min(cores, memory_bytes // CASE_BYTES, cases))
