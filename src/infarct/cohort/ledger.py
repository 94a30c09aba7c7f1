"""`cases.tsv`: one line for every case as it ends; what a later run knows of an earlier one."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from infarct.cohort.jobs import Outcome, Settings
from infarct.errors import OutputError

NAME = "cases.tsv"
COLUMNS = (
    *("id", "status", "code", "reason", "volume_ml", "lesions", "warnings", "seconds"),
    *("infarct", "model", "ended"),
)


class Ledger:
    """A table that only grows, a whole line at a time; the last line about a case counts."""

    def __init__(self, out: Path) -> None:
        """Keep the ledger of the cohort in folder `out`."""
        self.path = out / NAME

    def refuse_foreign(self) -> None:
        """Refuse to add to a table of that name that is somebody else's: their list of cases, say.

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
        # Our own may have been cut off, by a full disk.
        if not "\t".join(COLUMNS).encode().startswith(line.rstrip(b"\n")):
            raise OutputError(
                f"{self.path} is there already and is not the table of results that infarct adds "
                "to; nothing was written: give another folder for the results"
            )

    def append(self, outcome: Outcome, settings: Settings) -> None:
        """Add a line.

        Raises:
            OutputError: If the disk is full, say; the results on it are not touched.
        """
        cells = {
            **{name: _cell(getattr(outcome, name)) for name in COLUMNS[:8]},
            "infarct": settings.infarct,
            "model": settings.model,
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        line = "\t".join(cells[name] for name in COLUMNS) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Several runs may add to one ledger: one write in append mode is never interleaved.
            stream = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                # A reason may name a file whose name is not UTF-8.
                text = (self._lead(stream) + line).encode("utf-8", "replace")
                if os.write(stream, text) < len(text):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(stream)
            finally:
                os.close(stream)
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot be written ({error}); the cases that are complete stay: "
                "make room and run the same command again"
            ) from error

    def _lead(self, stream: int) -> str:
        """Return what must come before a line: the header, or the end of a line cut off."""
        size = os.fstat(stream).st_size
        if size == 0:
            return "\t".join(COLUMNS) + "\n"
        os.lseek(stream, size - 1, os.SEEK_SET)
        return "" if os.read(stream, 1) == b"\n" else "\n"

    def read(self) -> dict[str, dict[str, str]]:
        """Return the last line about each case, as text by column; lines cut off are left out."""
        if not self.path.is_file():
            return {}
        rows: dict[str, dict[str, str]] = {}
        text = self.path.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines(keepends=True):
            cells = line.rstrip("\n").split("\t")
            if line.endswith("\n") and len(cells) == len(COLUMNS) and cells[0] != COLUMNS[0]:
                rows[cells[0]] = dict(zip(COLUMNS, cells, strict=True))
        return rows


def tells(row: Mapping[str, str], outcome: Outcome) -> bool:
    """Tell whether a line has the status and the numbers of an outcome, as it was read back."""
    told = ("status", "volume_ml", "lesions", "warnings")
    return all(row.get(name) == _cell(getattr(outcome, name)) for name in told)


def _cell(value: float | str | None) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join(str(value).split()) or "n/a"
