"""Runs independent cases in parallel local processes, connected by pipes.

No network port is opened, so other users of a shared computer cannot reach the workers.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import cast

from infarct.cohort.jobs import Job, Outcome, Settings, Work
from infarct.core.errors import CohortError, InfarctError, MemoryShortageError
from infarct.core.machine import memory_bytes, resident_bytes
from infarct.core.process_setup import quiet_for_good

DEATHS = 3
"""Number of worker deaths after which a case is marked as failed."""

THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
"""Variables that set the number of threads of libraries and of `infarct.inference.network`."""

_LOOK_SECONDS = 0.25
"""Interval for checking the memory of the workers."""

_PATIENCE_SECONDS = 600.0
"""Time without any running worker before giving up; a loaded machine is slow to start one."""

_FULL = 0.95
"""Fraction of its memory share at which a worker is killed, to protect the machine."""

# Forking a process that has threads can deadlock, and copies open files.
_SPAWN = multiprocessing.get_context("spawn")


class _Worker:
    """A worker process and its current case.

    Attributes:
        process: The process; it always ends together with the parent process.
        pipe: Sends jobs and receives outcomes.
        ready: Whether its libraries are loaded.
        job: Current case; None while idle.
        oversized: Whether it was killed because of its memory use.
    """

    def __init__(self, work: Work, settings: Settings, threads: int) -> None:
        self.pipe, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_serve, args=(theirs, work, settings), daemon=True)
        self.ready = False
        self.job: Job | None = None
        self.oversized = False
        try:
            with _limited_threads(threads), _without_interrupts():
                self.process.start()
        except BaseException:
            self.pipe.close()
            raise
        finally:
            # Close our copy, so that the pipe closes when the worker ends.
            theirs.close()

    def take(self, job: Job) -> None:
        """Start a case."""
        self.job = job
        with suppress(OSError):  # the worker just died; `listen` handles this
            self.pipe.send(job)

    def stop(self) -> None:
        """Stop the process; kill it if it is busy."""
        if self.job is not None:
            self.process.kill()
        self.pipe.close()
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def run_locally(
    jobs: Sequence[Job], work: Work, settings: Settings, workers: int, threads: int
) -> Generator[Outcome]:
    """Run every job, and yield its outcome as it ends.

    Args:
        jobs: The cases.
        work: Function that processes one case; must not raise if a case fails.
        settings: Settings of the run.
        workers: Number of processes; they share the memory equally.
        threads: Number of threads per process.

    Raises:
        CohortError: If no process can be started.
    """
    crew = _Crew(deque(jobs), work, settings, workers, threads)
    try:
        while crew.unfinished:
            crew.refill()
            for worker in crew.heard():
                outcome = crew.listen(worker)
                if outcome is not None:
                    yield outcome
            crew.end_oversized()
            crew.check_patience()
    finally:
        crew.stop()


@dataclass(eq=False)
class _Crew:
    """The workers of a run, and the waiting cases."""

    waiting: deque[Job]
    work: Work
    settings: Settings
    count: int
    threads: int
    members: list[_Worker] = field(default_factory=list)
    deaths: Counter[str] = field(default_factory=Counter)
    last_up: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.share = memory_bytes() // self.count

    @property
    def busy(self) -> list[_Worker]:
        return [worker for worker in self.members if worker.job is not None]

    @property
    def unfinished(self) -> bool:
        return bool(self.waiting or self.busy)

    def refill(self) -> None:
        """Start missing workers, and assign a case to each idle worker."""
        wanted = min(self.count, len(self.waiting) + len(self.busy))
        with suppress(OSError):  # no process or memory available: try again later
            while len(self.members) < wanted:
                self.members.append(_Worker(self.work, self.settings, self.threads))
        for worker in self.members:
            if worker.ready and worker.job is None and self.waiting:
                worker.take(self.waiting.popleft())

    def heard(self) -> list[_Worker]:
        """Wait briefly, and return the workers that sent a message or died."""
        if not self.members:
            time.sleep(_LOOK_SECONDS)
            return []
        ready = wait([worker.pipe for worker in self.members], timeout=_LOOK_SECONDS)
        return [worker for worker in self.members if worker.pipe in ready]

    def listen(self, worker: _Worker) -> Outcome | None:
        """Read a message of a worker; return the outcome if its case ended."""
        try:
            outcome: Outcome | None = worker.pipe.recv()
        except (EOFError, OSError):
            return self._bury(worker)
        worker.ready, worker.job = True, None
        return outcome

    def _bury(self, worker: _Worker) -> Outcome | None:
        """Remove a dead worker; queue its case again unless the case caused the death."""
        job = worker.job
        self.members.remove(worker)
        worker.stop()
        if job is None:
            time.sleep(_LOOK_SECONDS)  # it failed to start: do not retry immediately
            return None
        self.deaths[job.id] += 1
        if worker.oversized:
            return _outgrown(job, self.share)
        if self.deaths[job.id] >= DEATHS:
            return _given_up(job)
        self.waiting.append(job)
        return None

    def end_oversized(self) -> None:
        """Kill workers that exceed their share of the memory."""
        for worker in self.busy if self.share else []:
            if (resident_bytes(worker.process.pid or 0) or 0) > _FULL * self.share:
                worker.oversized = True
                worker.process.kill()

    def check_patience(self) -> None:
        """Give up if no worker has started for a long time.

        Raises:
            CohortError: If no worker has been running for ten minutes.
        """
        if any(worker.ready for worker in self.members):
            self.last_up = time.monotonic()
        if time.monotonic() - self.last_up > _PATIENCE_SECONDS:
            raise CohortError(
                "no worker process could be started for ten minutes; finished cases are kept: run "
                "the same command again with fewer --workers"
            )

    def stop(self) -> None:
        """Stop all workers."""
        for worker in self.busy:
            worker.process.kill()  # kill all first, then wait for each
        for worker in self.members:
            worker.stop()


def _given_up(job: Job) -> Outcome:
    text = (
        "its worker process died on every attempt, most likely out of memory; try again with fewer "
        "--workers"
    )
    return Outcome(job.id, "failed", InfarctError.exit_code, text)


def _outgrown(job: Job, share: int) -> Outcome:
    text = (
        f"its worker process exceeded its share of the memory ({share / 1e9:.1f} GB) and was "
        "stopped; try again with fewer --workers, or with --model fcn-ch2-slices"
    )
    return Outcome(job.id, "failed", MemoryShortageError.exit_code, text)


def failed_by(job: Job, error: Exception) -> Outcome:
    """Return the outcome of a case that failed with an unexpected error."""
    text = f"{type(error).__name__}: {error}"
    return Outcome(job.id, "failed", InfarctError.exit_code, job.without_folders(text))


def _serve(pipe: Connection, work: Work, settings: Settings) -> None:
    """Process the jobs received through the pipe until it closes (main loop of a worker)."""
    # Ctrl-C reaches every process of the terminal; only the parent process handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _set_interrupts_blocked(False)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    quiet_for_good()
    pipe.send(None)
    while True:
        try:
            job = cast(Job, pipe.recv())
        except EOFError:
            return
        try:
            outcome = work(job, settings)
        except Exception as error:  # must not stop the other cases
            outcome = failed_by(job, error)
        pipe.send(outcome)


def _end_with_parent() -> None:
    """End this process as soon as its parent has ended, even if it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _limited_threads(threads: int) -> Iterator[None]:
    """Limit the threads of a new process; libraries read these variables at start-up."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block Ctrl-C in a new process until it has set its own signal handling."""
    _set_interrupts_blocked(True)
    try:
        yield
    finally:
        _set_interrupts_blocked(False)


def _set_interrupts_blocked(blocked: bool) -> None:
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        how = signal.SIG_BLOCK if blocked else signal.SIG_UNBLOCK
        signal.pthread_sigmask(how, {signal.SIGINT})
