"""What became of every case of a cohort: a record per case, and `cases.tsv` made of them.

Several runs may work into one folder at once, also from several computers that share it over NFS,
where appending to one file is not atomic: lines of two computers overwrite each other. So each case
has a file of its own, written beside its place and renamed, which is atomic there as well; two runs
never lose each other's records. `cases.tsv` is a copy of all records for people. It is rewritten
whole as cases end, and only read to know what earlier versions, which appended to it, wrote there.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from infarct.cohort.jobs import Outcome, Settings
from infarct.core.errors import OutputError
from infarct.core.serialization import as_json, write_tsv

NAME = "cases.tsv"
RECORDS = ".cases"
"""Folder of the records, a file per case named by its id."""

COLUMNS = (
    *("id", "status", "code", "reason", "volume_ml", "lesions", "warnings", "seconds"),
    *("infarct", "model", "ended"),
)

_SHARE_OF_TIME = 0.05
"""Of a run, spent at most on rewriting the table while cases end: thousands of records take time on
a network."""


class Ledger:
    """The records of a cohort; the newest about a case counts."""

    def __init__(self, out: Path) -> None:
        """Keep the records of the cohort in folder `out`."""
        self.path = out / NAME
        self.records = out / RECORDS
        self._read: dict[str, tuple[tuple[int, ...], dict[str, str]]] = {}
        self._quiet_until = 0.0

    def refuse_foreign(self) -> None:
        """Refuse to replace a table of that name that is not ours, such as a list of cases.

        Raises:
            OutputError: If the first line is not ours.
        """
        if not self.path.exists():
            return
        try:
            with self.path.open("rb") as stream:
                line = stream.readline(1000)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be read: {error}") from error
        # Earlier versions appended to it, and a full disk may have cut their line off.
        if not "\t".join(COLUMNS).encode().startswith(line.rstrip(b"\n")):
            raise OutputError(
                f"{self.path} exists and is not a table of results written by infarct; nothing was "
                "written: give another folder for the results"
            )

    def add(self, outcome: Outcome, settings: Settings) -> None:
        """Record what became of a case, in place of an earlier record.

        Raises:
            OutputError: If the disk is full, say; the results on it are not touched.
        """
        row = {
            **{name: _cell(getattr(outcome, name)) for name in COLUMNS[:8]},
            "infarct": settings.infarct,
            "model": settings.model,
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        # Short, for the name of a case may be as long as a name can be.
        draft = self.records / f".{uuid4().hex}"
        try:
            self.records.mkdir(parents=True, exist_ok=True)
            try:
                with draft.open("w", encoding="utf-8") as stream:
                    # A reason may name a file whose name is not UTF-8.
                    stream.write(as_json(row))
                    stream.flush()
                    os.fsync(stream.fileno())
                draft.replace(self.records / outcome.id)
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            raise self._full(error) from error
        if time.monotonic() >= self._quiet_until:
            self.publish()

    def publish(self) -> None:
        """Rewrite the table from all records; nothing if there are none.

        Raises:
            OutputError: If it cannot be written.
        """
        if not self.records.is_dir():
            return
        start = time.monotonic()
        draft = self.path.with_name(f".{NAME}.{uuid4().hex}")
        try:
            written = None
            # Another run may have added a record after this one read them all, and have rewritten
            # the table before it. Whoever renames last looks again, and so has them all.
            while (rows := self.read()) != written:
                lines = sorted(rows.values(), key=lambda row: (row["ended"], row["id"]))
                write_tsv(draft, COLUMNS, [[row[name] for name in COLUMNS] for row in lines])
                draft.replace(self.path)
                written = rows
        except OSError as error:
            raise self._full(error) from error
        finally:
            draft.unlink(missing_ok=True)
        now = time.monotonic()
        self._quiet_until = now + (now - start) / _SHARE_OF_TIME

    def read(self) -> dict[str, dict[str, str]]:
        """Return what is known of each case, as text by column; damaged records are left out."""
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
        """Return the last line about each case in the table; lines cut off are left out."""
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
    """Tell whether a record has the status and the numbers of an outcome, as it was read back."""
    told = ("status", "volume_ml", "lesions", "warnings")
    return all(row.get(name) == _cell(getattr(outcome, name)) for name in told)


def _cell(value: float | str | None) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join(str(value).split()) or "n/a"
