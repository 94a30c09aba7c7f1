"""What all routes share: results, jobs, workers, readings, and the stream of events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from infarct.core.errors import InfarctError
from infarct.web.jobs import Jobs
from infarct.web.readings import Readings
from infarct.web.security import Access
from infarct.web.store import Store
from infarct.web.uploads import Limits
from infarct.web.workers import Workers
from infarct.web.worklist import HIDDEN, Result, Worklist

_LOOK_SECONDS = 5.0
"""Time between two looks for results that were made on the command line."""

_BEAT_SECONDS = 15.0
"""Time between two signs of life on a quiet stream."""

LARGEST_BODY = 256 * 2**20
"""Largest body of a request other than an upload: a compressed mask."""


@dataclass(frozen=True)
class Settings:
    """Settings of the server.

    Attributes:
        root: Folder of the results.
        access: Who may use the server.
        limits: Limits of uploads.
        at_once: Number of jobs that run at the same time.
        model: Method that the page suggests.
    """

    root: Path
    access: Access
    limits: Limits = field(default_factory=Limits)
    at_once: int = 1
    model: str = "ensemble"


class Site:
    """State of a running server.

    Args:
        settings: Settings of the server.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.root)
        self.workers = Workers()
        self.jobs = Jobs(self.store, self.workers, settings.at_once, self.announce)
        self.readings = Readings(self.store.own / "readings")
        self.worklist = Worklist(self.store, self.jobs, self.readings)
        self.saving = asyncio.Lock()
        # One at a time, so that a long worklist does not keep uploads waiting.
        self.drawing = asyncio.Lock()
        self._version = 0
        self._condition = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Resume jobs, and start to look for new results."""
        self.worklist.refresh()
        self.jobs.start()
        await self.workers.warm_up()
        self._looking = asyncio.get_running_loop().create_task(self._look())

    async def close(self) -> None:
        """Stop jobs and workers."""
        if self._looking is not None:
            self._looking.cancel()
        self.announce()
        await self.jobs.close()
        await self.workers.close()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            with suppress(OSError):
                if self.worklist.refresh():
                    self.announce()

    def announce(self) -> None:
        """Tell all open pages that something has changed."""
        self._version += 1
        self._condition.set()
        self._condition = asyncio.Event()

    async def events(self) -> AsyncIterator[str]:
        """Yield server-sent events: the rows of the worklist, now and after every change."""
        seen = -1
        while True:
            if seen != self._version:
                seen = self._version
                self.worklist.refresh()
                yield f"event: worklist\ndata: {json.dumps(self.rows())}\n\n"
                # Steps may follow each other quickly.
                await asyncio.sleep(0.25)
                continue
            try:
                async with asyncio.timeout(_BEAT_SECONDS):
                    await self._condition.wait()
            except TimeoutError:
                yield ": still there\n\n"

    def rows(self) -> list[dict[str, Any]]:
        """Return the worklist, with the running time of each job."""
        rows = self.worklist.rows()
        now = time.monotonic()
        for row in rows:
            progress = self.jobs.progress.get(row["name"])
            if progress is not None:
                row["running_seconds"] = round(now - progress.started)
        return rows

    def result(self, request: Request, *, blinded: bool = False) -> Result:
        """Return the result that a request is about.

        Args:
            request: Request with `scan` in its path.
            blinded: Whether the request may be answered while a double reading is open.

        Raises:
            HTTPException: 404 if there is no such result, 423 if it must not be shown now.
        """
        found = self.worklist.find(request.path_params["scan"])
        if found is None:
            raise HTTPException(404, "there is no result with this identifier")
        if found.damage:
            raise HTTPException(409, found.damage)
        if not blinded and self.readings.get(found.id).blinds:
            raise HTTPException(423, f"{HIDDEN}: this scan is being read twice")
        return found


async def json_body(request: Request, **expected: type) -> dict[str, Any]:
    """Return the JSON object in the body of a request.

    Args:
        request: The request.
        **expected: Type of each key that must be present.

    Raises:
        HTTPException: 400 if it is not such an object, 413 if it is too large.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise HTTPException(413, f"the request is larger than {LARGEST_BODY / 2**20:.0f} MiB")
    try:
        content = json.loads(bytes(body))
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "expected a JSON object") from error
    if not isinstance(content, dict):
        raise HTTPException(400, "expected a JSON object")
    for name, kind in expected.items():
        if not isinstance(content.get(name), kind):
            raise HTTPException(400, f"expected {name!r} in the JSON object ({kind.__name__})")
    return content


def status_of(error: InfarctError) -> int:
    """Return the HTTP status of an expected error."""
    kind = getattr(error, "kind", "input")
    return {"conflict": 409, "internal": 500}.get(kind, 507 if _is_full(error) else 422)


def _is_full(error: InfarctError) -> bool:
    return "disk is full" in str(error) or "No space left" in str(error)
