"""The server's own files next to the results: uploads, job records and readings.

Results lie in the folder that the user named, exactly as the command line writes them. Everything
else is in its hidden subfolder `.infarct-web`:

- `jobs/NAME/input/` holds the uploaded files until the scan is processed,
- `jobs/NAME/job.json` is the record of the job; it is written once the upload is complete,
- `readings/NAME/` holds double readings, `thumbnails/` small pictures.

A folder in `jobs` without a record is an upload that was interrupted; it is deleted at the start.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Literal

from infarct.core.atomic_write import atomic_file
from infarct.core.errors import InputFileError, OutputError
from infarct.core.serialization import write_json

FOLDER = ".infarct-web"

State = Literal["checking", "queued", "running", "done", "failed", "cancelled"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Job:
    """The record of one job.

    Attributes:
        name: Name of the scan, and of its result folder.
        model: Method.
        files: Uploaded files by role, as names inside `input`; `{"dicom": "dicom"}` for a folder.
        state: What happens with the job.
        created: Date and time, ISO 8601.
        findings: Notes and warnings of the input checks, `{level, message}`.
        dicom_out: Write DICOM SEG and SR as well.
        error: Why the job failed.
        seconds: Duration of the finished job.
    """

    name: str
    model: str
    files: dict[str, str]
    state: State = "checking"
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    findings: list[dict[str, str]] = field(default_factory=list)
    dicom_out: bool = False
    error: str = ""
    seconds: float | None = None

    @property
    def id(self) -> str:
        """Identifier of the scan, see `scan_id`."""
        return scan_id(self.name)


def scan_id(path: str) -> str:
    """Return the identifier of a scan: a digest of its folder relative to the results.

    Names and folders never appear in addresses, so an address cannot contain a path.
    """
    return hashlib.blake2s(path.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


class Store:
    """Reads and writes the server's own files.

    Args:
        root: Folder of the results; it is created.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.own = self.root / FOLDER
        for name in ("jobs", "readings", "thumbnails"):
            (self.own / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def folder(self, name: str) -> Path:
        """Return the folder of a job."""
        return self.own / "jobs" / name

    def input(self, name: str) -> Path:
        """Return the folder of the uploaded files of a job."""
        return self.folder(name) / "input"

    def result(self, name: str) -> Path:
        """Return the result folder of a job."""
        return self.root / name

    def claim(self) -> str:
        """Reserve the next free name `scan-NNN` by creating its job folder.

        Raises:
            OutputError: If the folder cannot be created.
        """
        try:
            for number in count(1):
                name = f"scan-{number:03d}"
                if not self.result(name).exists():
                    with suppress(FileExistsError):
                        self.folder(name).mkdir(mode=0o700)
                        self.input(name).mkdir(mode=0o700)
                        break
        except OSError as error:
            raise OutputError(f"nothing can be stored in {self.root}: {error}") from error
        return name

    def rename(self, name: str, wanted: str) -> str:
        """Give a claimed job folder the name that the user chose.

        Raises:
            InputFileError: If the name is not allowed or taken.
        """
        if not _NAME.fullmatch(wanted):
            raise InputFileError(
                f"{wanted[:80]!r} cannot be the name of a scan: use up to 64 letters, digits, "
                "dots, hyphens and underscores, starting with a letter or digit"
            )
        if self.folder(wanted).exists() or self.result(wanted).exists():
            raise InputFileError(
                f"there is already a scan called {wanted}; choose another name, or leave it empty"
            )
        self.folder(name).rename(self.folder(wanted))
        return wanted

    def save(self, job: Job) -> Job:
        """Write the record of a job atomically."""
        with atomic_file(self.folder(job.name) / "job.json") as draft:
            write_json(asdict(job), draft)
        return job

    def jobs(self) -> list[Job]:
        """Read all records, oldest first, and remove uploads that were interrupted."""
        found = []
        for folder in sorted(self.own.joinpath("jobs").iterdir()):
            record = _read(folder / "job.json")
            if record is None:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                found.append(record)
        return sorted(found, key=lambda job: (job.created, job.name))

    def discard_input(self, name: str) -> None:
        """Delete the uploaded files of a job."""
        shutil.rmtree(self.input(name), ignore_errors=True)

    def discard(self, name: str) -> None:
        """Delete the record and the uploaded files of a job; its result is kept."""
        # The record goes first: what is left without it is deleted at the next start.
        with suppress(OSError):
            (self.folder(name) / "job.json").unlink()
        shutil.rmtree(self.folder(name), ignore_errors=True)

    def result_folders(self) -> Iterator[Path]:
        """Yield every folder below the results that has a manifest; links are not followed."""
        for parent, folders, files in os.walk(self.root):
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            if "manifest.json" in files and Path(parent) != self.root:
                yield Path(parent)
                # A result contains images and tables, but no other results.
                folders.clear()


def _read(path: Path) -> Job | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = {each.name for each in fields(Job)}
        return replace(
            Job(content["name"], content["model"], content["files"]),
            **{name: value for name, value in content.items() if name in known},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
