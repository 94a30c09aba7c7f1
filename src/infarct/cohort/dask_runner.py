"""Runs independent cases on a running Dask scheduler; the only module that imports Dask."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from infarct.cohort.jobs import Job, Outcome, Settings, Work
from infarct.cohort.local_runner import failed_by
from infarct.core.errors import CohortError, InfarctError

if TYPE_CHECKING:
    from distributed import Client, Future

_LOOK_SECONDS = 5.0
"""Interval for counting the workers; those of a cluster come and go."""

_LOST = (
    "the connection to the Dask scheduler was lost; finished cases are kept: run the same command "
    "again"
)


def run_on_cluster(
    jobs: Sequence[Job],
    work: Work,
    settings: Settings,
    address: str,
    starts: Callable[[str], None],
) -> Generator[Outcome]:
    """Run every job, and yield its outcome as it ends.

    Args:
        jobs: The cases; all paths must be valid on the workers.
        work: Function that processes one case; must not raise if a case fails.
        settings: Settings of the run.
        address: Address of the scheduler, with its protocol.
        starts: Called with a description of the workers and the address of the dashboard.

    Raises:
        CohortError: If the scheduler cannot be reached, or disconnects.
    """
    from distributed import wait  # noqa: PLC0415 - Dask is an extra
    from distributed.client import FuturesCancelledError  # noqa: PLC0415

    with _client(address, starts) as client:
        waiting = list(reversed(jobs))
        running: dict[Future[Outcome], Job] = {}
        while waiting or running:
            threads = _threads(client)
            # At most one case per thread: when a worker dies, Dask blames all cases it had queued.
            while waiting and len(running) < max(1, threads):
                job = waiting.pop()
                running[client.submit(work, job, settings, pure=False)] = job
            # Futures are cancelled when the scheduler is lost; `_outcome` reports this below.
            with suppress(TimeoutError, FuturesCancelledError):
                wait(list(running), timeout=_LOOK_SECONDS, return_when="FIRST_COMPLETED")
            for future in [future for future in running if future.done()]:
                outcome = _outcome(running[future], future)
                if outcome is not None:
                    del running[future]
                    yield outcome


def secure_address(address: str, *, unencrypted: bool) -> str:
    """Complete and check the address of a scheduler.

    Args:
        address: HOST:PORT, with or without a protocol; TLS is used without one.
        unencrypted: Whether to accept a protocol without encryption and authentication.

    Raises:
        CohortError: If the protocol has neither and `unencrypted` is False.
    """
    if "://" not in address:
        return f"{'tcp' if unencrypted else 'tls'}://{address}"
    if address.startswith("tcp://") and not unencrypted:
        raise CohortError(
            f"{address} has no TLS: anyone who can reach this port can run programs as you and "
            "read the scans. Start the scheduler with certificates and use tls://... (see "
            "docs/how-to/clusters.md), or add --unencrypted if only you can reach it"
        )
    return address


@contextmanager
def _client(address: str, starts: Callable[[str], None]) -> Iterator[Client]:
    try:
        from distributed import Client  # noqa: PLC0415 - Dask is an extra
        from distributed.comm.addressing import resolve_address  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise CohortError(
            f"--scheduler needs Dask ({error}): pip install '.[cluster]' in your clone"
        ) from error
    try:
        # An invalid address would leave an incomplete client with a running thread.
        resolve_address(address)
        client = Client(address, timeout=20)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise CohortError(
            f"no Dask scheduler answers at {address} ({error}); start one with 'dask scheduler' "
            "and check its certificates, or omit --scheduler"
        ) from error
    with client:
        who = f"{len(client.nthreads())} workers at {address}"
        # Without bokeh, the dashboard only reports that bokeh is missing.
        shown = bool(client.dashboard_link) and find_spec("bokeh") is not None
        starts(f"{who}; dashboard: {client.dashboard_link}" if shown else who)
        yield client


def _threads(client: Client) -> int:
    """Return the current number of worker threads; raise if the scheduler is lost."""
    try:
        return sum(client.nthreads().values())
    except OSError as error:
        raise CohortError(_LOST) from error


def _outcome(job: Job, future: Future[Any]) -> Outcome | None:
    """Return the outcome of a case, or None if it was lost together with its worker."""
    from distributed import KilledWorker  # noqa: PLC0415 - Dask is an extra

    if future.cancelled():
        raise CohortError(_LOST)
    try:
        outcome: Outcome = future.result(timeout=_LOOK_SECONDS)
    except TimeoutError:
        # Dask runs the case again, and finds it complete.
        return None
    except KilledWorker:
        text = "its worker process died on every attempt, most likely out of memory"
        return Outcome(job.id, "failed", InfarctError.exit_code, text)
    except Exception as error:  # an error outside the work itself must not stop the other cases
        return failed_by(job, error)
    return outcome
