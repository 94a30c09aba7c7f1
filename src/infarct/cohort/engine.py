"""Runs independent cases side by side on Dask; the only room that imports it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import dask
from dask.system import CPU_COUNT
from dask.utils import format_bytes
from distributed import Client, Future, KilledWorker, LocalCluster, wait
from distributed.client import FuturesCancelledError
from distributed.comm.addressing import resolve_address
from distributed.system import MEMORY_LIMIT

from infarct.cohort.jobs import Job, Outcome, Settings, Work
from infarct.errors import CohortError, InfarctError

CASE_BYTES = 2_500_000_000
"""What a case is given when workers are counted: 2.1 GB is usual, large matrices take more."""

DEATHS = 3
"""A case that took so many worker processes down with it is given up."""

_LOOK_SECONDS = 5.0
"""How often workers are counted; those of a cluster come and go."""

_PATIENCE_SECONDS = 600.0

_DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
"""What a worker runs first: Ctrl-C goes to every process of the terminal, and it is ours to say."""

_LOST = (
    "the connection to the Dask scheduler was lost; the cases that are complete stay: "
    "run the same command again"
)

THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
"""What the libraries below us, and `infarct.inference`, ask for their number of threads."""


@dataclass(frozen=True)
class Pool:
    """Who works.

    Attributes:
        workers: Local processes; as many as cores and memory allow if None.
        scheduler: Address of a running Dask scheduler, whose workers are used instead.
    """

    workers: int | None = None
    scheduler: str | None = None


def compute(
    jobs: Sequence[Job],
    work: Work,
    settings: Settings,
    pool: Pool,
    starts: Callable[[str], None],
) -> Iterator[Outcome]:
    """Run every job, and yield what became of each as it ends.

    Args:
        jobs: The cases; all paths are seen by the workers under the same names.
        work: What is done with one; does not raise for what is wrong with a case.
        settings: Of the run.
        pool: Who works.
        starts: Told in a sentence who works, and where to watch.

    Raises:
        CohortError: If the scheduler cannot be reached, or goes away.
    """
    if not jobs:
        return
    with _client(pool, len(jobs), starts) as client:
        waiting = list(reversed(jobs))
        running: dict[Future[Outcome], Job] = {}
        last_seen = time.monotonic()
        while waiting or running:
            threads = _threads(client)
            # One case per thread and no more: Dask blames a dead worker on all that it had queued.
            while waiting and len(running) < max(1, threads):
                job = waiting.pop()
                running[client.submit(work, job, settings, pure=False)] = job
            # Cancelled is what has lost its scheduler; the cases themselves say so below.
            with suppress(TimeoutError, FuturesCancelledError):
                wait(list(running), timeout=_LOOK_SECONDS, return_when="FIRST_COMPLETED")
            for future in [future for future in running if future.done()]:
                outcome = _outcome(running[future], future)
                if outcome is not None:
                    del running[future]
                    yield outcome
            last_seen = time.monotonic() if threads else last_seen
            if pool.scheduler is None and time.monotonic() - last_seen > _PATIENCE_SECONDS:
                raise CohortError(
                    "no worker process could be started for ten minutes; the cases that are "
                    "complete stay: run the same command again, with fewer --workers"
                )


def workers_that_fit(cores: int, memory_bytes: int, cases: int) -> int:
    """Return how many local processes a machine carries, at least one."""
    return max(1, min(cores, memory_bytes // CASE_BYTES, cases))


def _threads(client: Client) -> int:
    """Return how many threads work now; a scheduler that went away is noticed here or later."""
    try:
        return sum(client.nthreads().values())
    except OSError as error:
        raise CohortError(_LOST) from error


def _outcome(job: Job, future: Future[Outcome]) -> Outcome | None:
    """Return what became of a case, or None if its answer was lost with the worker that had it."""
    if future.cancelled():
        raise CohortError(_LOST)
    try:
        return future.result(timeout=_LOOK_SECONDS)
    except TimeoutError:
        # Dask runs the case again, which will find itself done.
        return None
    except KilledWorker:
        text = (
            "its worker process died each time it was tried; most likely the memory did not "
            "suffice: try again with fewer --workers"
        )
    except Exception as error:  # a fault in what surrounds the work must not stop the other cases
        text = f"{type(error).__name__}: {error}"
    return Outcome(job.id, "failed", InfarctError.exit_code, job.without_folders(text))


@contextmanager
def _client(pool: Pool, cases: int, starts: Callable[[str], None]) -> Iterator[Client]:
    with ExitStack() as stack:
        if pool.scheduler is None:
            count = pool.workers or workers_that_fit(CPU_COUNT, MEMORY_LIMIT, cases)
            threads = max(1, CPU_COUNT // count)
            stack.enter_context(dask.config.set(_local_settings(threads)))
            cluster = stack.enter_context(_local_cluster(count))
            client = stack.enter_context(Client(cluster))
            who = (
                f"{count} local worker{'s' * (count > 1)} of {threads} thread{'s' * (threads > 1)}"
            )
            who += f" and {format_bytes(MEMORY_LIMIT // count)} each"
        else:
            try:
                # What is no address would leave a client half made, with a thread of its own.
                resolve_address(pool.scheduler)
                client = stack.enter_context(Client(pool.scheduler, timeout=20))
            except (OSError, ValueError) as error:
                raise CohortError(
                    f"no Dask scheduler answers at {pool.scheduler} ({error}); start one with "
                    "'dask scheduler', or leave --scheduler out"
                ) from error
            who = f"{len(client.nthreads())} workers at {pool.scheduler}"
        # Without bokeh the dashboard is a page that says that bokeh is missing.
        shown = bool(client.dashboard_link) and find_spec("bokeh") is not None
        starts(f"{who}; dashboard: {client.dashboard_link}" if shown else who)
        yield client


def _local_cluster(workers: int) -> LocalCluster:
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        memory_limit=MEMORY_LIMIT // workers,
        silence_logs=logging.CRITICAL,
    )


def _local_settings(threads: int) -> dict[str, Any]:
    return {
        "distributed.scheduler.allowed-failures": DEATHS - 1,
        "distributed.scheduler.worker-saturation": 1.0,
        "distributed.worker.preload": [_DEAF],
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(THREAD_VARIABLES, threads),
        # A machine at its limits, or a slow file system, takes minutes to start a process again;
        # Dask would close for good one that is not back within 15 s.
        "distributed.deploy.lost-worker-timeout": "24h",
        "distributed.comm.timeouts.connect": "600s",
        "distributed.comm.timeouts.tcp": "600s",
        # A case holds its memory itself: there is nothing to spill, and to pause would be for ever.
        # What outgrows its share is ended at 95%, before it takes the machine down.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": 0.95,
    }
