"""Who the subjects are: a BIDS participants table, and the strata the paper compares.

`subjects.tsv` has a column `participant_id` and any of the columns below, in any order, under any
of the names given; `n/a` or an empty cell is unknown. Repeated scans of one person have a column
`session_id` beside. Columns that are not there are skipped, and named in the report. Where no
cohort is given and subjects lie in folders, the outermost folder is their cohort.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infarct.errors import InputFileError

SMALL_ML = 1.7
"""Lesions below are small (S), ml. Liu et al. 2021, Results, "Performance ... lesion volume"."""

LARGE_ML = 14.0
"""Lesions from here on are large (L), ml; those between are medium (M)."""

_COLUMNS = {
    "cohort": ("cohort", "dataset", "group", "split"),
    "territory": ("territory", "vascular_territory", "arterial_territory"),
    "hemisphere": ("hemisphere", "lesion_hemisphere", "lesioned_hemisphere", "side"),
    "manufacturer": ("manufacturer", "vendor"),
    "field_strength": ("field_strength", "magnetic_field_strength", "magneticfieldstrength"),
    "race": ("race", "ethnicity", "race_ethnicity"),
    "sex": ("sex", "gender"),
    "onset": ("onset_to_scan", "onset_to_scan_h", "onset_to_mri", "onset_to_mri_h", "onset"),
    "age": ("age", "age_years"),
    "nihss": ("nihss",),
}

TITLES = {
    "cohort": "Cohort",
    "territory": "Vascular territory",
    "volume": "Lesion volume",
    "hemisphere": "Lesioned hemisphere",
    "manufacturer": "Scanner manufacturer",
    "field_strength": "Magnetic field",
    "race": "Race or ethnicity",
    "sex": "Sex",
    "onset": "Symptom onset to MRI",
    "age": "Age, years",
    "nihss": "NIHSS",
}

_ONSET_HOURS = (2.0, 6.0, 12.0, 24.0)
_ONSET_LEVELS = ("<2 h", "2-6 h", "6-12 h", "12-24 h", ">24 h")
_FIELDS_T = (0.55, 1.0, 1.5, 3.0, 7.0)
_ORDER = {
    "territory": ("MCA", "PCA", "VB", "ACA"),
    "volume": (
        f"S (<{SMALL_ML:g} ml)",
        f"M ({SMALL_ML:g}-{LARGE_ML:g} ml)",
        f"L (≥{LARGE_ML:g} ml)",
    ),
    "hemisphere": ("left", "right", "bilateral"),
    "sex": ("male", "female"),
    "onset": _ONSET_LEVELS,
}
_WORDS = {
    "hemisphere": {"l": "left", "r": "right", "b": "bilateral", "both": "bilateral"},
    "sex": {"m": "male", "f": "female", "o": "other"},
}
_MOST_LEVELS = 6
_OTHER = "other"


@dataclass(frozen=True)
class Subjects:
    """What is known about each subject.

    Attributes:
        values: By subject, then by our name of the column (keys of `TITLES`); unknowns left out.
        missing: Our names of the columns that the table does not have.
    """

    values: Mapping[str, Mapping[str, str]]
    missing: tuple[str, ...]

    def value(self, subject: str, column: str) -> str | None:
        """Return one cell, or None where it is unknown."""
        return self.values.get(subject, {}).get(column)

    def number(self, subject: str, column: str) -> float:
        """Return one cell as a number, NaN where it is unknown or no number."""
        try:
            return float(self.values.get(subject, {})[column])
        except (KeyError, ValueError):
            return math.nan


def read_subjects(path: Path | None, subjects: Iterable[str]) -> Subjects:
    """Read the table and find the row of each subject that was measured.

    A row is that of a subject with the same name, with or without `sub-`, with `_<session_id>`
    behind it where there is one, or of the same last folder where subjects lie in folders.

    Args:
        path: `subjects.tsv`, or None when there is no table.
        subjects: Those that were measured.

    Raises:
        InputFileError: If it cannot be read, or has no column `participant_id`.
    """
    subjects = list(subjects)
    values, missing = ({}, tuple(_COLUMNS)) if path is None else _read_rows(path, subjects)
    in_folders = bool(subjects) and all("/" in subject for subject in subjects)
    if "cohort" in missing and in_folders:
        missing = tuple(column for column in missing if column != "cohort")
        values = {s: {**values.get(s, {}), "cohort": s.split("/")[0]} for s in subjects}
    return Subjects(values, missing)


def _read_rows(
    path: Path, subjects: Sequence[str]
) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """Return the known cells by subject, and our names of the columns that are not there."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, delimiter="\t")
            header = {_plain(name): name for name in reader.fieldnames or ()}
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputFileError(f"{path}: cannot be read as a table ({error})") from error
    if "participant_id" not in header:
        raise InputFileError(
            f"{path}: has columns {', '.join(header.values()) or 'none'}; a tab-separated table "
            "with a column participant_id is needed"
        )
    columns = {
        ours: next((header[name] for name in names if name in header), None)
        for ours, names in _COLUMNS.items()
    }
    known: dict[str, dict[str, str]] = {}
    for row in rows:
        session = (row.get(header.get("session_id", ""), "") or "").strip()
        name = (row[header["participant_id"]] or "").strip() + (f"_{session}" if session else "")
        cells = {ours: (row[theirs] or "").strip() for ours, theirs in columns.items() if theirs}
        known[_bare(name)] = {
            ours: cell for ours, cell in cells.items() if cell.lower() not in ("", "n/a", "nan")
        }
    values: dict[str, dict[str, str]] = {}
    for subject in subjects:
        folder = subject.rsplit("/", 1)[-1]
        names = (_bare(name) for name in (subject, folder, folder.split("_")[0]))
        values[subject] = next((known[name] for name in names if name in known), {})
    return values, tuple(ours for ours, theirs in columns.items() if theirs is None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def _bare(name: str) -> str:
    return name.removeprefix("sub-")


@dataclass(frozen=True)
class Stratum:
    """A way to divide the subjects.

    Attributes:
        key: Our name of the column.
        title: As written above a figure.
        levels: The groups, in the order they are shown.
        level_of: Group by subject; subjects of unknown group are left out.
    """

    key: str
    title: str
    levels: tuple[str, ...]
    level_of: Mapping[str, str]

    def members(self, level: str, among: Iterable[str]) -> list[str]:
        """Return those among the subjects who belong to a group."""
        return [subject for subject in among if self.level_of.get(subject) == level]


def stratify(
    key: str, subjects: Subjects, names: Sequence[str], reference_ml: Mapping[str, float]
) -> Stratum:
    """Divide subjects by one property.

    Args:
        key: One of `TITLES`, not age or NIHSS.
        subjects: The table.
        names: Who is to be divided.
        reference_ml: Lesion volume by subject, for the key "volume".
    """
    if key == "volume":
        found = {name: volume_level(reference_ml[name]) for name in names if reference_ml[name]}
    else:
        cells = {name: subjects.value(name, key) for name in names}
        found = {name: _level(key, cell) for name, cell in cells.items() if cell is not None}
    counts = Counter(found.values())
    expected = [level for level in _ORDER.get(key, ()) if level in counts]
    rest = [level for level in counts if level not in expected]
    # Groups without an order of their own: the largest first, numbers by size.
    rest.sort(key=lambda level: (_leading_number(level), -counts[level], level))
    levels = expected + rest
    if len(levels) > _MOST_LEVELS and key != "cohort":
        kept = set(sorted(levels, key=lambda level: -counts[level])[: _MOST_LEVELS - 1])
        levels = [level for level in levels if level in kept] + [_OTHER]
        found = {name: level if level in kept else _OTHER for name, level in found.items()}
    return Stratum(key, TITLES[key], tuple(levels), found)


def volume_level(ml: float) -> str:
    """Name the size of a lesion: S, M or L."""
    small, medium, large = _ORDER["volume"]
    if ml < SMALL_ML:
        return small
    return medium if ml < LARGE_ML else large


def _level(key: str, cell: str) -> str:
    if key == "field_strength":
        number = _leading_number(cell)
        if math.isinf(number):
            return cell
        # Scanners report the true field, 2.89 T or 1.494 T.
        return f"{min(_FIELDS_T, key=lambda nominal: abs(nominal - number)):g} T"
    if key == "onset":
        try:
            hours = float(cell)
        except ValueError:
            return cell
        return _ONSET_LEVELS[sum(hours >= edge for edge in _ONSET_HOURS)]
    if key in _WORDS:
        return _WORDS[key].get(cell.lower(), cell.lower())
    return cell


def _leading_number(text: str) -> float:
    number = re.match(r"\d+(\.\d+)?", text)
    return float(number.group()) if number else math.inf
