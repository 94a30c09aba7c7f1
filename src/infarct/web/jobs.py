"""The queue of jobs: one process per job, which runs the command line that a user would type."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from infarct.core.errors import InputFileError
from infarct.reporting.reader import is_result
from infarct.web.store import Job, Store
from infarct.web.workers import TaskError, Workers, end, start_process

MOST_WAITING = 1000
"""Jobs that may wait; more uploads are refused until some are done."""

_GRACE_SECONDS = 10.0
_STEP = re.compile(r"\s*\(step (\d+) of (\d+)\)")


@dataclass
class Progress:
    """What a running job is doing.

    Attributes:
        step: Description of the current step.
        done: Share of the steps that are finished, 0 - 1; None if unknown.
        started: Time of the start, from `time.monotonic`.
    """

    step: str = "starting"
    done: float | None = None
    started: float = 0.0


def command_of(job: Job, store: Store) -> list[str]:
    """Return the arguments of `infarct` that process a job."""
    home = store.input(job.name)
    command = ["segment"]
    if "dicom" in job.files:
        command += ["--dicom", str(home / job.files["dicom"])]
        command += ["--dicom-out"] if job.dicom_out else []
    for role in ("dwi", "b0", "adc", "brain"):
        if role in job.files:
            command += [f"--{role}", str(home / job.files[role])]
    return [*command, "--out", str(store.result(job.name)), "--model", job.model]


class Jobs:
    """Checks uploads, and runs their jobs one after the other.

    Args:
        store: Where records and results are.
        workers: Processes for the input checks.
        at_once: Number of jobs that run at the same time.
        changed: Called whenever the state of a job changes.
    """

    def __init__(
        self,
        store: Store,
        workers: Workers,
        at_once: int = 1,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._workers = workers
        self._at_once = at_once
        self._changed = changed
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[str] = deque()
        self._wake = asyncio.Event()
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self.progress: dict[str, Progress] = {}

    def all(self) -> list[Job]:
        """Return all jobs, oldest first."""
        return list(self._jobs.values())

    def find(self, scan: str) -> Job | None:
        """Return the job of a scan by its identifier."""
        return next((job for job in self._jobs.values() if job.id == scan), None)

    def check_room(self) -> None:
        """Raise `InputFileError` if too many jobs are waiting."""
        if len(self._waiting) >= MOST_WAITING:
            raise InputFileError(
                f"{MOST_WAITING} scans are waiting already; upload more when some are done"
            )

    def start(self) -> None:
        """Resume what an earlier server left, and start to run jobs."""
        for job in self._store.jobs():
            if job.state in {"checking", "queued", "running"}:
                self._resume(job)
            else:
                self._jobs[job.name] = job
        for _ in range(self._at_once):
            self._spawn(self._run_forever())

    def _resume(self, job: Job) -> None:
        if is_result(self._store.result(job.name)):
            # The server was killed after the result and before the record was written.
            self._finish(replace(job, state="done"))
        elif job.state == "checking":
            self._jobs[job.name] = job
            self._spawn(self._check_later(job))
        else:
            self._enqueue(job)

    async def _check_later(self, job: Job) -> None:
        try:
            await self.check(job)
        except TaskError as error:
            self._finish(replace(job, state="failed", error=self._plain(job, str(error))))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def add(self, job: Job) -> None:
        """Add the job of a complete upload, which is to be checked."""
        self._jobs[job.name] = self._store.save(job)
        self._changed()

    async def check(self, job: Job) -> str:
        """Check the input of a job and queue it.

        Returns:
            A picture of the DWI, PNG in base64.

        Raises:
            TaskError: If the scan is rejected; the caller decides what happens with the job.
        """
        folder = str(self._store.input(job.name))
        try:
            found = await self._workers.run(
                "check_input", folder=folder, files=job.files, model=job.model
            )
        except TaskError as error:
            raise TaskError(self._plain(job, str(error)), error.kind) from error
        if self._jobs.get(job.name) is not job:
            raise TaskError("the scan was removed during the check", "input")
        self._enqueue(
            replace(job, findings=found["findings"], dicom_out=found["dicom_out"], state="queued")
        )
        preview: str = found["preview"]
        return preview

    def forget(self, job: Job) -> None:
        """Remove a job with its uploaded files; a result is kept."""
        self._jobs.pop(job.name, None)
        self._store.discard(job.name)
        self._changed()

    async def cancel(self, job: Job) -> None:
        """Stop a job that waits or runs, and delete its uploaded files."""
        process = self._processes.get(job.name)
        self._finish(replace(job, state="cancelled"))
        with suppress(ValueError):
            self._waiting.remove(job.name)
        if process is None:
            return
        await end(process, _GRACE_SECONDS)

    def _enqueue(self, job: Job) -> None:
        self._jobs[job.name] = self._store.save(replace(job, state="queued"))
        self._waiting.append(job.name)
        self._wake.set()
        self._changed()

    def _finish(self, job: Job) -> None:
        self._jobs[job.name] = self._store.save(job)
        # Uploads contain patient names; the result does not.
        self._store.discard_input(job.name)
        self._changed()

    async def _run_forever(self) -> None:
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            name = self._waiting.popleft()
            job = self._jobs.get(name)
            if job is not None and job.state == "queued":
                await self._run(job)

    async def _run(self, job: Job) -> None:
        job = self._jobs[job.name] = self._store.save(replace(job, state="running"))
        start = time.monotonic()
        self.progress[job.name] = Progress(started=start)
        self._changed()
        try:
            code, message = await self._call(job)
        except OSError as error:
            code, message = 1, f"the job could not be started ({error.strerror})"
        finally:
            self.progress.pop(job.name, None)
            self._processes.pop(job.name, None)
        if self._jobs.get(job.name) is not job:
            # It was cancelled, or forgotten.
            self._changed()
            return
        seconds = round(time.monotonic() - start, 1)
        if code == 0 and is_result(self._store.result(job.name)):
            self._finish(replace(job, state="done", seconds=seconds))
            return
        text = self._plain(job, message) or _ending(code)
        self._finish(replace(job, state="failed", error=text, seconds=seconds))

    async def _call(self, job: Job) -> tuple[int, str]:
        """Run the command line; return its exit code and error message."""
        process = await start_process(
            *(sys.executable, "-m", "infarct.web.child", *command_of(job, self._store)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            cwd=self._store.folder(job.name),
        )
        self._processes[job.name] = process
        try:
            message = await self._follow(job, process)
            return await process.wait(), message
        finally:
            await end(process, _GRACE_SECONDS)

    async def _follow(self, job: Job, process: asyncio.subprocess.Process) -> str:
        """Show the steps of a process; return its error message."""
        assert process.stderr is not None
        message = ""
        async for raw in process.stderr:
            line = raw.decode("utf-8", "replace").strip()
            if line.startswith("infarct: "):
                message = line.removeprefix("infarct: ")
            elif message:
                # The message goes on over several lines.
                message = f"{message} {line}"[:2000]
            elif line:
                self._show(job, line)
        return message

    def _show(self, job: Job, line: str) -> None:
        progress = self.progress.get(job.name)
        if progress is None:
            return
        progress.step = self._plain(job, line)[:200]
        if found := _STEP.search(line):
            progress.done = min(1.0, (int(found[1]) - 1) / max(int(found[2]), 1))
            progress.step = progress.step.replace(found[0], "")
        self._changed()

    def _plain(self, job: Job, text: str) -> str:
        """Remove the folders of the server from a message: users know their files by name only."""
        for folder in (self._store.input(job.name), self._store.root):
            text = text.replace(f"{folder}/", "").replace(str(folder), "the upload")
        return text

    async def close(self) -> None:
        """Stop all jobs; those that were running are resumed by the next server."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _ending(code: int) -> str:
    if code < 0:
        return (
            f"the process was ended by signal {-code}, probably for lack of memory; close other "
            "programs or choose the model fcn-ch2-slices"
        )
    return f"the run failed with exit code {code}; run infarct segment on the scan for details"
