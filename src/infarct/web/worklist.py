"""The worklist: one row per result folder and per job, sorted by what needs attention.

The result folders are the database. Results of `infarct segment`, `cohort` and `bids` appear as
they are, wherever they lie below the folder of the server.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infarct.core.errors import InputFileError
from infarct.core.units import format_probability, format_volume
from infarct.reporting import result_schema
from infarct.reporting.narrative import describe_confidence, impression, verdict
from infarct.reporting.reader import OUTLINE, find_file
from infarct.web.jobs import Jobs
from infarct.web.readings import DoubleReading, Readings
from infarct.web.store import Store, scan_id

HIDDEN = "hidden until both readings are submitted"
_UNDECIDED = (0.2, 0.8)
"""Probabilities of a visible lesion between which a scan is listed before clear ones."""


@dataclass(frozen=True)
class Result:
    """A result folder, as the worklist knows it.

    Attributes:
        id: Identifier of the scan.
        name: Folder relative to the results.
        folder: Result folder.
        version: SHA-256 of the lesion mask.
        summary: Content of `summary.json`.
        created: Date and time of the result.
        damage: Why the result cannot be used; empty if it can.
    """

    id: str
    name: str
    folder: Path
    version: str
    summary: dict[str, Any]
    created: str
    damage: str = ""


class Worklist:
    """Finds the results below the folder of the server.

    Args:
        store: Where the results are.
        jobs: Jobs of the server.
        readings: Double readings.
    """

    def __init__(self, store: Store, jobs: Jobs, readings: Readings) -> None:
        self._store = store
        self._jobs = jobs
        self._readings = readings
        self._known: dict[Path, tuple[tuple[int, ...], Result]] = {}
        self._ids: dict[str, Path] = {}

    def refresh(self) -> bool:
        """Look for new, changed and removed results; return whether there are any.

        Unchanged results are not read again.
        """
        found: dict[Path, tuple[tuple[int, ...], Result]] = {}
        for folder in self._store.result_folders():
            stamp = _stamp(folder)
            before = self._known.get(folder)
            if before and before[0] == stamp:
                found[folder] = before
            elif (result := self._read(folder)) is not None:
                found[folder] = (stamp, result)
        changed = {path: stamp for path, (stamp, _) in found.items()} != {
            path: stamp for path, (stamp, _) in self._known.items()
        }
        self._known = found
        self._ids = {result.id: folder for folder, (_, result) in found.items()}
        return changed

    def find(self, scan: str) -> Result | None:
        """Return the result of a scan by its identifier, as it is on the disk now."""
        folder = self._ids.get(scan)
        if folder is None or not folder.is_dir():
            self.refresh()
            folder = self._ids.get(scan)
        if folder is None:
            return None
        stamp, result = self._known[folder]
        if _stamp(folder) != stamp:
            self.refresh()
            folder = self._ids.get(scan)
            result = self._known[folder][1] if folder else result
        return result

    def _read(self, folder: Path) -> Result | None:
        name = folder.relative_to(self._store.root).as_posix()
        try:
            manifest = result_schema.parse((folder / "manifest.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        if not {"infarct", "model"} <= manifest.keys():
            return None
        try:
            result_schema.check(manifest, result_schema.MANIFEST)
            text = find_file(folder, "summary.json", manifest).read_text("utf-8")
            summary = result_schema.parse(text)
            result_schema.check(summary, result_schema.SUMMARY)
            damage = ""
        except (OSError, ValueError, InputFileError) as error:
            summary, damage = {}, f"this result is damaged ({error}); segment the scan again"
        version = (manifest.get("outputs") or {}).get(OUTLINE, "")
        created = str(manifest.get("created", ""))
        return Result(scan_id(name), name, folder, version, summary, created, damage)

    def rows(self) -> list[dict[str, Any]]:
        """Return all scans, those that need attention first."""
        rows = [self._row(result) for _, result in self._known.values()]
        done = {row["id"] for row in rows}
        rows += [self._job_row(job.name) for job in self._jobs.all() if job.id not in done]
        return sorted(rows, key=lambda row: (row["attention"], _natural(row["name"])))

    def _job_row(self, name: str) -> dict[str, Any]:
        job = next(job for job in self._jobs.all() if job.name == name)
        progress = self._jobs.progress.get(name)
        state = job.state if job.state != "done" else "removed"
        order = {"failed": 0, "running": 5, "checking": 6, "queued": 6}
        return {
            "id": job.id,
            "name": job.name,
            "state": state,
            "error": job.error,
            "model": job.model,
            "step": progress.step if progress else "",
            "progress": progress.done if progress else None,
            "findings": job.findings,
            "attention": order.get(state, 7),
        }

    def _row(self, result: Result) -> dict[str, Any]:
        reading = self._readings.get(result.id)
        row: dict[str, Any] = {
            "id": result.id,
            "name": result.name,
            "state": "damaged" if result.damage else "done",
            "error": result.damage,
            "created": result.created,
            "reading": reading.status,
            "blinded": reading.blinds,
        }
        if result.damage:
            return {**row, "attention": 0}
        summary = result.summary
        row["model"] = summary["model"]
        if reading.blinds:
            return {**row, "attention": 1}
        confidence = summary.get("confidence") or {}
        probability = confidence.get("infarct_probability")
        interval = confidence.get("volume_interval_ml")
        corrections = summary.get("corrections") or []
        return {
            **row,
            "version": result.version,
            "volume_ml": summary["lesion_volume_ml"],
            "volume": format_volume(summary["lesion_volume_ml"]),
            "lesions": summary["lesion_count"],
            "probability": format_probability(probability),
            "interval": f"{format_volume(interval[0])} to {format_volume(interval[1])}"
            if interval
            else "",
            "warnings": [each["message"] for each in summary["warnings"]],
            "corrected_by": corrections[-1]["by"] if corrections else "",
            "corrected": bool(corrections),
            "attention": attention(summary, reading),
        }

    def details(self, result: Result) -> dict[str, Any]:
        """Return everything that the viewer shows next to the images."""
        row = self._row(result)
        reading = self._readings.get(result.id)
        row["double_reading"] = reading.public()
        if result.damage or reading.blinds:
            return row
        summary = result.summary
        return {
            **row,
            "verdict": verdict(summary),
            "confidence": describe_confidence(summary),
            "impression": impression(summary),
            "notes": [each["message"] for each in summary["notes"]],
            "lesion_list": summary["lesions"],
            "corrections": summary.get("corrections") or [],
            "files": self.files(result),
        }

    def files(self, result: Result) -> list[str]:
        """Return which of the files offered for download a result has."""
        return [name for name in DOWNLOADS if self.file(result, name) is not None]

    def file(self, result: Result, name: str) -> Path | None:
        """Return the path of a file of a result.

        Returns:
            None if it does not exist, or is a link that leads out of the folder of the server.
        """
        try:
            path = find_file(result.folder, name, _manifest(result.folder)).resolve()
        except (InputFileError, OSError, ValueError):
            return None
        return path if self._store.root in path.parents else None


DOWNLOADS = (
    "lesion_mask.nii.gz",
    "lesion_mask_automatic.nii.gz",
    "lesion_probability.nii.gz",
    "brain_mask.nii.gz",
    "summary.json",
    "lesions.tsv",
    "regions.tsv",
    "audit.tsv",
    "figure.png",
    "report.html",
    "dicom/segmentation.dcm",
    "dicom/measurements.dcm",
    "dicom_automatic/segmentation.dcm",
    "dicom_automatic/measurements.dcm",
)
"""Files of a result that can be downloaded one by one."""

IMAGES = {
    "dwi": "scan/dwi.nii.gz",
    "b0": "scan/b0.nii.gz",
    "adc": "scan/adc.nii.gz",
    "probability": "lesion_probability.nii.gz",
}
"""Images of the viewer."""


def attention(summary: dict[str, Any], reading: DoubleReading) -> int:
    """Return the rank of a finished scan in the worklist; lower ranks come first.

    1 for scans to be adjudicated or with warnings, 2 for undecided probabilities, 3 for other
    scans, 4 for scans that were corrected or adjudicated and have no warnings.
    """
    decided = bool(summary.get("corrections")) or bool(reading.adjudicated_by)
    if (reading.complete and not reading.adjudicated_by) or summary["warnings"]:
        return 1
    probability = (summary.get("confidence") or {}).get("infarct_probability")
    if not decided and probability is not None and _UNDECIDED[0] < probability < _UNDECIDED[1]:
        return 2
    return 4 if decided else 3


def _stamp(folder: Path) -> tuple[int, ...]:
    """Return size and modification time of the files that the worklist reads."""
    found: list[int] = []
    for name in ("manifest.json", "summary.json"):
        try:
            status = (folder / name).stat()
            found += [status.st_size, status.st_mtime_ns, status.st_ino]
        except OSError:
            found += [0, 0, 0]
    return tuple(found)


def _manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
    return content


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Sort `scan-10` after `scan-9`."""
    parts = "".join(char if char.isdecimal() else f"\0{char}\0" for char in name).split("\0")
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts if part)
