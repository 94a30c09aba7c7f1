"""Data types of a cohort: jobs, settings and outcomes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from infarct.core.errors import CohortError, OutputError
from infarct.core.units import format_names
from infarct.preprocessing.case import CaseFiles
from infarct.reporting.case_label import CaseLabel

GROUP = "group"
"""Folder of the group results; reserved, so no case may use it as id."""

NUMBERS = "numbers.tsv"
"""Table in the group folder; marks the folder as written by infarct."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class Export:
    """An output file that is stored outside the folder of its case.

    Attributes:
        name: Name in the output of `infarct segment`, e.g. `mni/lesion_mask.nii.gz`.
        path: Destination.
        sidecar: Content of the JSON sidecar next to it.
    """

    name: str
    path: Path
    sidecar: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """One case of a cohort.

    Attributes:
        id: Unique within the cohort; a valid folder name.
        files: Input files, with absolute paths.
        folder: Output folder (absolute path); complete or absent.
        exports: Output files stored outside `folder`.
        problem: Why the case cannot be run, or empty.
        scan_date: Date of the scan, only if it may be shown.
        previous: Id of the case before it; empty for the first.
        next: Id of the case after it; empty for the last.
    """

    id: str
    files: CaseFiles
    folder: Path
    exports: tuple[Export, ...] = ()
    problem: str = ""
    scan_date: str = ""
    previous: str = ""
    next: str = ""

    @property
    def label(self) -> CaseLabel:
        """What identifies the case in its report, with links to the other pages."""
        # In a BIDS dataset, the folders of the scans lie one level deeper.
        group = "../../group" if self.exports else "../group"
        links = {"group": f"{group}/report.html"}
        for name, other in (("previous", self.previous), ("next", self.next)):
            if other:
                links[name] = f"../{other}/report.html"
        return CaseLabel(self.id, self.scan_date, links)

    def output(self, name: str) -> Path:
        """Return the path of an output file, given its name in the output of `infarct segment`."""
        moved = {export.name: export.path for export in self.exports}
        return moved.get(name, self.folder / name)

    def without_folders(self, text: str) -> str:
        """Remove the folders of this case from a text: they may identify a patient or a site."""
        outputs = [self.folder, *(export.path for export in self.exports)]
        bvalues = [path for path in (self.files.bval_path(),) if path is not None]
        paths = [*self.files.paths().values(), *bvalues, *outputs]
        # Deepest first; otherwise the last part of a nested path would remain.
        parents = sorted({path.parent for path in paths}, key=lambda p: len(p.parts), reverse=True)
        for parent in parents:
            if parent.name:
                text = text.replace(f"{parent}{os.sep}", "").replace(str(parent), "FOLDER")
        return " ".join(text.split())


@dataclass(frozen=True)
class Settings:
    """Settings that determine a result in addition to its inputs.

    Attributes:
        model: Name of the model.
        command: Command line, recorded in the manifests.
        infarct: Version; workers with another version refuse to run.
        overwrite_corrected: Replace outdated results even if they contain manual corrections or
            the user's own files.
        keep_mni: Write the scan and the maps of each case in MNI space.
    """

    model: str
    command: tuple[str, ...] = ()
    infarct: str = field(default_factory=lambda: version("infarct"))
    overwrite_corrected: bool = False
    keep_mni: bool = True


@dataclass(frozen=True)
class Outcome:
    """Outcome of a case.

    Attributes:
        id: Case id.
        status: Whether the output folder is complete.
        code: 0, or the exit code with which `infarct segment` would have ended.
        reason: Why the case failed, without folder names.
        volume_ml: Total lesion volume, ml.
        lesions: Number of lesions.
        warnings: Number of warnings.
        seconds: Run time, s.
        fresh: Whether it was run now rather than taken from an earlier run.
    """

    id: str
    status: Literal["done", "failed"]
    code: int = 0
    reason: str = ""
    volume_ml: float | None = None
    lesions: int | None = None
    warnings: int | None = None
    seconds: float | None = None
    fresh: bool = True


Work = Callable[[Job, Settings], Outcome]
"""Function that processes one case."""


def in_order(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs of a cohort, each with the ids of its neighbours."""
    ids = ["", *(job.id for job in jobs), ""]
    return [
        replace(job, previous=before, next=after)
        for job, before, after in zip(jobs, ids, ids[2:], strict=False)
    ]


def id_problem(name: str) -> str:
    """Return why a name is not a valid case id, or an empty string."""
    if not _ID.fullmatch(name) or name.endswith("."):
        return (
            f"{name!r} is not a valid id; expected letters, digits and . _ + -, starting with a "
            "letter or digit"
        )
    if name.lower() == GROUP:
        return f"{name!r} is reserved for the group results; expected another id"
    return ""


def refuse_inputs_inside(out: Path, jobs: Sequence[Job]) -> None:
    """Refuse an output folder that contains an input file at any depth.

    Raises:
        OutputError: If it contains an input, or is a file.
    """
    out = out.resolve()
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give the name of an output folder")
    for job in jobs:
        for path in job.files.paths().values():
            if out in path.parents or out in path.resolve().parents:
                raise OutputError(
                    f"{out} contains the input {path.name} of {job.id}; results are never written "
                    "to an input folder: choose another output folder"
                )


def refuse_foreign_group(out: Path) -> None:
    """Refuse an output folder whose `group` subfolder was not written by infarct.

    Raises:
        OutputError: If so; otherwise the subfolder may be replaced.
    """
    group = out.resolve() / GROUP
    if group.exists() and not group.is_dir():
        raise OutputError(
            f"{group} is a file, but a folder of this name is needed for the group results; move "
            "it, or choose another output folder"
        )
    if group.is_dir() and any(group.iterdir()) and not (group / NUMBERS).is_file():
        raise OutputError(
            f"{group} already exists and does not contain group results (no {NUMBERS}); nothing "
            "was replaced: move it, or choose another output folder"
        )


def check_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Raise an error if any case failed, so that scripts do not mistake the cohort for complete.

    Raises:
        CohortError: If any case failed.
    """
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed:
        names = format_names([outcome.id for outcome in failed], most=5)
        raise CohortError(
            f"{len(failed)} of {len(outcomes)} cases failed ({names}); all others are "
            "complete. See cases.tsv for the reasons; use --retry-failed to run them again"
        )
