"""Runs tasks in worker processes, a few at a time; see `worker.py` for the tasks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from infarct.core.errors import InfarctError

_LONGEST_LINE = 512 * 2**20
"""Largest answer of a worker, bytes: a mask of the finest scan takes a few MB."""


class TaskError(InfarctError):
    """A task was rejected or failed.

    Attributes:
        kind: `input`, `conflict` or `internal`, see `worker.answer`.
    """

    def __init__(self, message: str, kind: str = "internal") -> None:
        super().__init__(message)
        self.kind = kind


class Workers:
    """Worker processes that are started when needed and replaced when they die.

    Args:
        count: Number of processes.
        seconds: Time after which a task is given up and its process replaced.
    """

    def __init__(self, count: int = 2, seconds: float = 600.0) -> None:
        self._slots: asyncio.Queue[asyncio.subprocess.Process | None] = asyncio.Queue()
        for _ in range(count):
            self._slots.put_nowait(None)
        self._seconds = seconds

    async def run(self, task: str, **arguments: Any) -> Any:
        """Run a task and return its result.

        Raises:
            TaskError: If it was rejected, failed or took too long.
        """
        async with self._process() as process:
            assert process.stdin is not None
            assert process.stdout is not None
            request = json.dumps({"task": task, "arguments": arguments})
            try:
                process.stdin.write(request.encode() + b"\n")
                await process.stdin.drain()
                async with asyncio.timeout(self._seconds):
                    line = await process.stdout.readline()
            except TimeoutError as error:
                raise TaskError(f"gave up after {self._seconds:.0f} s; try again") from error
            except (BrokenPipeError, ConnectionResetError, ValueError) as error:
                raise TaskError("the process that reads images ended; try again") from error
        if not line.endswith(b"\n"):
            raise TaskError(
                "the process that reads images ended, probably for lack of memory; close other "
                "programs or use a smaller scan"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise TaskError(answer["error"], answer["kind"])
        return answer["result"]

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await self._slots.get()
        try:
            if process is None or process.returncode is not None:
                process = await _start()
            yield process
        except BaseException:
            # Its next answer would be that to this task.
            if process is not None:
                await end(process)
            process = None
            raise
        finally:
            self._slots.put_nowait(process)

    async def warm_up(self) -> None:
        """Start one process in advance, so that the first upload does not wait for it."""
        with suppress(OSError):
            async with self._process():
                pass

    async def close(self) -> None:
        """End the processes that are idle; the others end with this process."""
        while not self._slots.empty():
            process = self._slots.get_nowait()
            if process is not None:
                await end(process)


async def _start() -> asyncio.subprocess.Process:
    return await start_process(
        *(sys.executable, "-m", "infarct.web.worker"),
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
        cwd=Path(sys.executable).anchor,
    )


async def start_process(*command: str, **options: Any) -> asyncio.subprocess.Process:
    """Start a process that ends when its input closes, in a group of its own.

    Args:
        *command: Program and arguments.
        **options: As for `asyncio.create_subprocess_exec`.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, start_new_session=True, **options
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # A process that is just being started must not be left behind.
        await end(await starting)
        raise


async def end(process: asyncio.subprocess.Process, patience: float = 0.0) -> None:
    """End a process and wait for it: by SIGTERM if there is time, otherwise by SIGKILL."""
    if process.returncode is None and patience > 0:
        kill(process, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await process.wait()
    if process.returncode is None:
        kill(process)
        await process.wait()


def kill(process: asyncio.subprocess.Process, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process and all processes that it started."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        else:
            process.kill()
