"""Runs independent cases side by side in processes of this computer, over pipes.

Nothing listens on the network: on a computer that others use too, nobody else can reach a worker.
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
"""A case during which so many worker processes died is given up."""

THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
"""What the libraries below us, and `infarct.inference.network`, ask for their number of threads."""

_LOOK_SECONDS = 0.25
"""How often the memory of the workers is checked."""

_PATIENCE_SECONDS = 600.0
"""How long no process may come up: a machine at its limits takes minutes to start one."""

_FULL = 0.95
"""Share of its memory at which a worker is ended, before it takes the machine down."""

# Forking a process that has threads can deadlock, and copies open files.
_SPAWN = multiprocessing.get_context("spawn")


class _Worker:
    """One process, and the case it works on.

    Attributes:
        process: Ends with this process, whatever ends that.
        pipe: Jobs go in, outcomes come out.
        ready: Its libraries are loaded.
        job: At work; None while it waits.
        oversized: It was ended because of its memory.
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
            # So that the pipe ends when the worker does.
            theirs.close()

    def take(self, job: Job) -> None:
        """Start a case."""
        self.job = job
        with suppress(OSError):  # it just died, which is noticed at the other end
            self.pipe.send(job)

    def stop(self) -> None:
        """End the process: at once if it is at work."""
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
    """Run every job, and yield what became of each as it ends.

    Args:
        jobs: The cases.
        work: What is done with one; does not raise for what is wrong with a case.
        settings: Of the run.
        workers: Processes; they share the memory equally.
        threads: Of each.

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
    """The workers of a run, and the cases that wait for them."""

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
        """Start the workers that are missing, and give a case to each that has none."""
        wanted = min(self.count, len(self.waiting) + len(self.busy))
        with suppress(OSError):  # no process or memory left: later, perhaps
            while len(self.members) < wanted:
                self.members.append(_Worker(self.work, self.settings, self.threads))
        for worker in self.members:
            if worker.ready and worker.job is None and self.waiting:
                worker.take(self.waiting.popleft())

    def heard(self) -> list[_Worker]:
        """Wait a moment, and return the workers that sent something or died."""
        if not self.members:
            time.sleep(_LOOK_SECONDS)
            return []
        ready = wait([worker.pipe for worker in self.members], timeout=_LOOK_SECONDS)
        return [worker for worker in self.members if worker.pipe in ready]

    def listen(self, worker: _Worker) -> Outcome | None:
        """Return the outcome of a case that ended with this message, if one did."""
        try:
            outcome: Outcome | None = worker.pipe.recv()
        except (EOFError, OSError):
            return self._bury(worker)
        worker.ready, worker.job = True, None
        return outcome

    def _bury(self, worker: _Worker) -> Outcome | None:
        """Remove a worker that died; its case is tried again, unless it is to blame."""
        job = worker.job
        self.members.remove(worker)
        worker.stop()
        if job is None:
            time.sleep(_LOOK_SECONDS)  # it could not even start: not again at once
            return None
        self.deaths[job.id] += 1
        if worker.oversized:
            return _outgrown(job, self.share)
        if self.deaths[job.id] >= DEATHS:
            return _given_up(job)
        self.waiting.append(job)
        return None

    def end_oversized(self) -> None:
        """End workers that hold more than their share before they take the machine down."""
        for worker in self.busy if self.share else []:
            if (resident_bytes(worker.process.pid or 0) or 0) > _FULL * self.share:
                worker.oversized = True
                worker.process.kill()

    def check_patience(self) -> None:
        """Give up where no worker comes up any more.

        Raises:
            CohortError: If so.
        """
        if any(worker.ready for worker in self.members):
            self.last_up = time.monotonic()
        if time.monotonic() - self.last_up > _PATIENCE_SECONDS:
            raise CohortError(
                "no worker process could be started for ten minutes; the finished cases are "
                "complete: run the same command again, with fewer --workers"
            )

    def stop(self) -> None:
        """End every worker."""
        for worker in self.busy:
            worker.process.kill()  # all at once, then one after the other
        for worker in self.members:
            worker.stop()


def _given_up(job: Job) -> Outcome:
    text = (
        "its worker process died each time it was tried, most likely for want of memory; try again "
        "with fewer --workers"
    )
    return Outcome(job.id, "failed", InfarctError.exit_code, text)


def _outgrown(job: Job, share: int) -> Outcome:
    text = (
        f"its worker process outgrew its share of the memory ({share / 1e9:.1f} GB) and was ended; "
        "try again with fewer --workers, or with --model fcn-ch2"
    )
    return Outcome(job.id, "failed", MemoryShortageError.exit_code, text)


def failed_by(job: Job, error: Exception) -> Outcome:
    """Return the outcome of a case that something around the work itself failed."""
    text = f"{type(error).__name__}: {error}"
    return Outcome(job.id, "failed", InfarctError.exit_code, job.without_folders(text))


def _serve(pipe: Connection, work: Work, settings: Settings) -> None:
    """Work on what comes through the pipe until it ends: the life of a worker."""
    # Ctrl-C reaches every process of the terminal; what it means is for the first one to say.
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
    """End this process as soon as the one that started it is gone, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _limited_threads(threads: int) -> Iterator[None]:
    """Divide the cores: libraries read this while a process starts, before any code of ours."""
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
    """Start a process that holds Ctrl-C back until it has said what it does about it."""
    _set_interrupts_blocked(True)
    try:
        yield
    finally:
        _set_interrupts_blocked(False)


def _set_interrupts_blocked(blocked: bool) -> None:
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        how = signal.SIG_BLOCK if blocked else signal.SIG_UNBLOCK
        signal.pthread_sigmask(how, {signal.SIGINT})
