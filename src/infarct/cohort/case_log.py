"""Records the outcome of each case of a cohort, and writes them to `cases.tsv`.

Several runs may write to one folder at once, also from several computers over NFS, where appending
to a shared file is not atomic and lines can overwrite each other. Each case therefore has its own
record file, written under a temporary name and renamed, which is atomic on NFS too. `cases.tsv` is
a readable copy of all records. It is rewritten completely as cases end, and read only to import
records of earlier versions, which appended to it.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from infarct.cohort.jobs import Outcome, Settings
from infarct.core.atomic_write import atomic_file
from infarct.core.errors import OutputError
from infarct.core.serialization import as_json, table_cell, write_tsv

NAME = "cases.tsv"
RECORDS = ".cases"
"""Folder of the records; one file per case, named after its id."""

COLUMNS = (
    *("id", "status", "code", "reason", "volume_ml", "lesions", "warnings", "seconds"),
    *("infarct", "model", "ended"),
)

_SHARE_OF_TIME = 0.05
"""Maximum fraction of the run time spent on rewriting the table: reading thousands of records is
slow on a network file system."""


class Ledger:
    """The records of a cohort; the newest record of a case is valid."""

    def __init__(self, out: Path) -> None:
        """Open the records of the cohort in folder `out`."""
        self.path = out / NAME
        self.records = out / RECORDS
        self._read: dict[str, tuple[tuple[int, ...], dict[str, str]]] = {}
        self._quiet_until = 0.0

    def refuse_foreign(self) -> None:
        """Refuse to replace a `cases.tsv` not written by infarct, such as a list of cases.

        Raises:
            OutputError: If the table has a different header or cannot be read.
        """
        if not self.path.exists():
            return
        try:
            with self.path.open("rb") as stream:
                line = stream.readline(1000)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be read: {error}") from error
        # Earlier versions appended to the table; a full disk may have truncated a line.
        if not "\t".join(COLUMNS).encode().startswith(line.rstrip(b"\n")):
            raise OutputError(
                f"{self.path} exists and is not a table of results written by infarct; nothing was "
                "written: choose another output folder"
            )

    def add(self, outcome: Outcome, settings: Settings) -> None:
        """Record the outcome of a case, replacing its earlier record.

        Raises:
            OutputError: If it cannot be written, e.g. because the disk is full; results are kept.
        """
        row = {
            **{name: table_cell(getattr(outcome, name)) for name in COLUMNS[:8]},
            "infarct": settings.infarct,
            "model": settings.model,
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            self.records.mkdir(parents=True, exist_ok=True)
            with (
                atomic_file(self.records / outcome.id, shared=True) as draft,
                draft.open("w", encoding="utf-8") as stream,
            ):
                # The reason may contain a file name that is not valid UTF-8.
                stream.write(as_json(row))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise self._full(error) from error
        if time.monotonic() >= self._quiet_until:
            self.publish()

    def publish(self) -> None:
        """Rewrite the table from all records, if there are any.

        Raises:
            OutputError: If it cannot be written.
        """
        if not self.records.is_dir():
            return
        start = time.monotonic()
        try:
            written = None
            # Another run may add a record after this one has read them, and rewrite the table
            # first. Reading again after the rename ensures that the last writer has all records.
            while (rows := self.read()) != written:
                lines = sorted(rows.values(), key=lambda row: (row["ended"], row["id"]))
                with atomic_file(self.path, shared=True) as draft:
                    write_tsv(draft, COLUMNS, [[row[name] for name in COLUMNS] for row in lines])
                written = rows
        except OSError as error:
            raise self._full(error) from error
        now = time.monotonic()
        self._quiet_until = now + (now - start) / _SHARE_OF_TIME

    def read(self) -> dict[str, dict[str, str]]:
        """Return the record of each case as text by column; damaged records are skipped."""
        rows = self._table()
        try:
            entries = [entry for entry in os.scandir(self.records) if entry.name[0] != "."]
        except FileNotFoundError:
            return rows
        for entry in entries:
            try:
                stat = entry.stat()
                seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
                if self._read.get(entry.name, ((), {}))[0] != seen:
                    row = json.loads(Path(entry.path).read_text(encoding="utf-8"))
                    self._read[entry.name] = seen, {name: str(row[name]) for name in COLUMNS}
            except (OSError, ValueError, KeyError, TypeError):
                continue
            rows[entry.name] = self._read[entry.name][1]
        return rows

    def _table(self) -> dict[str, dict[str, str]]:
        """Return the last line of each case in the table; truncated lines are skipped."""
        if not self.path.is_file():
            return {}
        with self.path.open(encoding="utf-8", errors="replace", newline="") as stream:
            lines = [line for line in stream if line.endswith("\n")]
        rows = csv.reader(lines, delimiter="\t")
        return {
            cells[0]: dict(zip(COLUMNS, cells, strict=True))
            for cells in rows
            if len(cells) == len(COLUMNS) and cells[0] != COLUMNS[0]
        }

    def _full(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self.path} cannot be written ({error}); completed cases are kept: make room and run "
            "the same command again"
        )


def tells(row: Mapping[str, str], outcome: Outcome) -> bool:
    """Return whether a stored record has the same status and numbers as an outcome."""
    told = ("status", "volume_ml", "lesions", "warnings")
    return all(row.get(name) == table_cell(getattr(outcome, name)) for name in told)
