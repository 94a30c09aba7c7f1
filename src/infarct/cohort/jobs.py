"""The nouns of a cohort: what is to be done, how, and what became of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from infarct.core.errors import CohortError, OutputError
from infarct.preprocessing.case import CaseFiles

GROUP = "group"
"""Folder of the results about all cases; no case may have its name."""

NUMBERS = "numbers.tsv"
"""The table in it, by which it is known as ours."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class Export:
    """A file of a result that goes elsewhere than into the folder of its case.

    Attributes:
        name: As `infarct segment` names it, e.g. `mni/lesion_mask.nii.gz`.
        path: Where it goes.
        sidecar: Written beside it as JSON.
    """

    name: str
    path: Path
    sidecar: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """One case of a cohort.

    Attributes:
        id: Unique in the cohort; good as the name of a folder.
        files: What comes in; absolute paths.
        folder: What comes out; absolute. Complete or absent.
        exports: Files that go elsewhere.
        problem: Why it cannot even be tried, or empty.
    """

    id: str
    files: CaseFiles
    folder: Path
    exports: tuple[Export, ...] = ()
    problem: str = ""

    def output(self, name: str) -> Path:
        """Return where a file of the result is, by its name in the folder of `infarct segment`."""
        moved = {export.name: export.path for export in self.exports}
        return moved.get(name, self.folder / name)

    def without_folders(self, text: str) -> str:
        """Leave the folders of this case out of a text: they may name a patient or a site."""
        outputs = [self.folder, *(export.path for export in self.exports)]
        bvalues = [path for path in (self.files.bval_path(),) if path is not None]
        paths = [*self.files.paths().values(), *bvalues, *outputs]
        # The deepest first, or its last part would be left.
        parents = sorted({path.parent for path in paths}, key=lambda p: len(p.parts), reverse=True)
        for parent in parents:
            if parent.name:
                text = text.replace(f"{parent}{os.sep}", "").replace(str(parent), "FOLDER")
        return " ".join(text.split())


@dataclass(frozen=True)
class Settings:
    """What decides a result besides its inputs, and what it may replace.

    Attributes:
        model: Name of the method.
        command: The command line, for the manifests.
        infarct: Version; a worker that has another one refuses to work.
        overwrite_corrected: Results that must be made again are replaced even if they were
            corrected by hand or hold the user's own files.
    """

    model: str
    command: tuple[str, ...] = ()
    infarct: str = field(default_factory=lambda: version("infarct"))
    overwrite_corrected: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        id: Of the case.
        status: Whether its folder is complete.
        code: 0, or the exit code `infarct segment` would have ended with.
        reason: Why it failed, in a sentence without folders.
        volume_ml: Of all lesions.
        lesions: How many.
        warnings: How many.
        seconds: It took.
        fresh: It was run now, not found complete or failed from an earlier run.
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
"""What is done with one case."""


def id_problem(name: str) -> str:
    """Say why a name cannot be the id of a case, or return an empty string."""
    if not _ID.fullmatch(name) or name.endswith("."):
        return (
            f"{name!r} is no id; letters, digits and . _ + - are expected, a letter or digit first"
        )
    if name.lower() == GROUP:
        return f"{name!r} is the folder of the group results; another id is expected"
    return ""


def refuse_inputs_inside(out: Path, jobs: Sequence[Job]) -> None:
    """Refuse a destination that holds an input, directly or further down.

    Raises:
        OutputError: If so.
    """
    out = out.resolve()
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give the name of a folder to make")
    for job in jobs:
        for path in job.files.paths().values():
            if out in path.parents or out in path.resolve().parents:
                raise OutputError(
                    f"{out} holds the input {path.name} of {job.id}; folders of inputs are never "
                    "written to: give a folder of its own"
                )


def refuse_foreign_group(out: Path) -> None:
    """Refuse a destination where the folder of the group results is somebody else's.

    Raises:
        OutputError: If so; else it may be replaced.
    """
    group = out.resolve() / GROUP
    if group.exists() and not group.is_dir():
        raise OutputError(f"{group} is a file; the results about all cases go into such a folder")
    if group.is_dir() and any(group.iterdir()) and not (group / NUMBERS).is_file():
        raise OutputError(
            f"{group} is there already and holds no results of a cohort (it has no {NUMBERS}); "
            "nothing replaced: move it, or give another folder for the results"
        )


def check_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Say at the end that cases failed, so that no script takes the cohort for complete.

    Raises:
        CohortError: If any did.
    """
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed:
        names = ", ".join(outcome.id for outcome in failed[:5])
        more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
        raise CohortError(
            f"{len(failed)} of {len(outcomes)} cases failed ({names}{more}); cases.tsv says why; "
            "all others are complete; --retry-failed tries them again"
        )
