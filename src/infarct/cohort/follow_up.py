"""Follow-up of the patients of a cohort who were scanned several times."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from infarct.cohort.jobs import Job, id_problem
from infarct.core.errors import CohortError, InfarctError, InputFileError
from infarct.core.serialization import table_cell, write_json, write_tsv
from infarct.core.units import format_names
from infarct.followup.run import FollowRequest, follow
from infarct.followup.tables import COLUMNS, row

FOLLOW = "follow"
"""Folder of the follow-ups, and stem of the table that joins them."""

_PATIENT = {"patient": {"Description": "Identifies the patient; the name of the folder in follow/"}}


@dataclass(frozen=True)
class Patient:
    """A patient with several scans.

    Attributes:
        id: A valid folder name.
        scans: The cases, first scan first; at least two.
    """

    id: str
    scans: tuple[Job, ...]


def read_patients(table: Path, jobs: Sequence[Job]) -> list[Patient]:
    """Read a table of patients.

    Args:
        table: CSV or TSV with a column `patient`, followed by columns of case ids, first scan
            first. Later columns may be empty.
        jobs: Cases of the cohort.

    Raises:
        InputFileError: If the table cannot be read, or a row is invalid; lists all problems.
    """
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(f"{table}: cannot be read as a table ({error})") from error
    delimiter = max("\t;,", key=(lines[0] if lines else "").count)
    rows = [[cell.strip() for cell in cells] for cells in csv.reader(lines, delimiter=delimiter)]
    if len(rows) < 2 or rows[0][0].lower() != "patient":
        raise InputFileError(
            f"{table}: expected a header, patient followed by columns of case ids (such as first "
            "and second), and one row per patient"
        )
    by_id = {job.id: job for job in jobs}
    problems: list[str] = []
    patients: list[Patient] = []
    for number, (name, *cells) in enumerate(rows[1:], start=2):
        ids = [cell for cell in cells if cell]
        unknown = [each for each in ids if each not in by_id]
        if problem := id_problem(name):
            problems.append(f"row {number}: patient {problem}")
        elif unknown:
            problems.append(f"row {number}: {format_names(unknown)} are not cases of the cohort")
        elif len(ids) < 2:
            problems.append(f"row {number}: expected at least two scans, found {len(ids)}")
        elif name.lower() in (patient.id.lower() for patient in patients):
            problems.append(f"row {number}: {name} is listed twice")
        else:
            patients.append(Patient(name, tuple(by_id[each] for each in ids)))
    if problems:
        raise InputFileError(f"{table} cannot be used:\n  " + "\n  ".join(problems))
    return patients


def follow_patients(
    patients: Sequence[Patient], out: Path, tell: Callable[[str], None] = lambda _: None
) -> None:
    """Compare the scans of every patient and join the results in `follow.tsv`.

    Args:
        patients: The patients; their scans have been segmented.
        out: Output folder of the cohort; writes `follow/PATIENT/`, `follow.tsv` and its data
            dictionary `follow.json`.
        tell: Called with a line for each patient.

    Raises:
        CohortError: If a patient could not be followed up. All others are complete.
    """
    rows, failed = [], []
    for patient in patients:
        folders = tuple(job.folder for job in patient.scans)
        request = FollowRequest(folders, out / FOLLOW / patient.id, overwrite=True)
        try:
            comparisons = follow(request)
        except InfarctError as error:
            failed.append(patient.id)
            tell(f"{patient.id}: {error}")
            continue
        for values in map(row, comparisons):
            rows.append([patient.id, *(table_cell(values[name]) for name in COLUMNS)])
        tell(f"{patient.id}: {len(comparisons)} comparisons")
    columns = {**_PATIENT, **COLUMNS}
    write_tsv(out / f"{FOLLOW}.tsv", list(columns), rows)
    write_json(columns, out / f"{FOLLOW}.json")
    if failed:
        raise CohortError(
            f"{len(failed)} of {len(patients)} patients could not be followed up "
            f"({format_names(failed, most=5)}); all others are complete"
        )
