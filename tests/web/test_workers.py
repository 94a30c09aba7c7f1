from __future__ import annotations

import asyncio
import os
import signal

import pytest

from infarct.web.workers import TaskError, Workers


def test_answers_and_errors_come_back_and_a_dead_process_is_replaced(tmp_path) -> None:
    async def main() -> None:
        workers = Workers(count=1)
        try:
            summary = await workers.run("summarise_readings", pairs=[], known=[])
            assert summary["summary"]["scans"] == 0
            with pytest.raises(TaskError, match="no such file") as raised:
                await workers.run("read_mask", path=str(tmp_path / "missing.nii"))
            assert raised.value.kind == "input"
            async with workers._process() as process:
                os.kill(process.pid, signal.SIGKILL)
                await process.wait()
            assert await workers.run("summarise_readings", pairs=[], known=[]) == summary
            # Given up: the process is replaced, so that no answer meets the next question.
            workers._seconds = 0.0
            with pytest.raises(TaskError, match="gave up"):
                await workers.run("summarise_readings", pairs=[], known=[])
            assert workers._slots.get_nowait() is None
        finally:
            await workers.close()

    asyncio.run(main())
