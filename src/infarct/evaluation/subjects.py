"""Reads the table of subjects and divides subjects into the strata that the paper compares.

`subjects.tsv` has the format of a BIDS participants table: a column `participant_id` and any of the
columns below, in any order, under any of the listed names. `n/a` or an empty cell is unknown. A
column `session_id` distinguishes repeated scans of one person; duplicate rows are an error. Numbers
may have a decimal comma. Non-numeric cells in numeric columns count as unknown. These cells and
missing columns are listed in the report. Groups that differ only in case are merged under the most
frequent spelling. If no cohort is given and subjects are in folders, the outermost folder is the
cohort.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infarct.core.errors import InputFileError

SMALL_ML = 1.7
"""Upper limit of small lesions (S), ml. Liu et al. 2021, "Performance ... lesion volume"."""

LARGE_ML = 14.0
"""Lower limit of large lesions (L), ml; lesions between both limits are medium (M)."""

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
ONSET_LEVELS = ("<2 h", "2-6 h", "6-12 h", "12-24 h", ">24 h")
_FIELDS_T = (0.55, 1.0, 1.5, 3.0, 7.0)
_NEAR = 0.1
"""Relative tolerance: 0.5 T counts as 0.55 T; values in gauss or millitesla are unknown."""
_ORDER = {
    "territory": ("MCA", "PCA", "VB", "ACA"),
    "volume": (
        f"S (<{SMALL_ML:g} ml)",
        f"M ({SMALL_ML:g}-{LARGE_ML:g} ml)",
        f"L (≥{LARGE_ML:g} ml)",
    ),
    "hemisphere": ("left", "right", "bilateral"),
    "sex": ("male", "female"),
    "onset": ONSET_LEVELS,
}
_WORDS = {
    "hemisphere": {"l": "left", "r": "right", "b": "bilateral", "both": "bilateral"},
    "sex": {"m": "male", "f": "female", "o": "other"},
}
UNKNOWN_CELLS = {"", "n/a", "na", "nan"}
"""Cells for unknown values, in lower case, as written by BIDS tools, R and pandas."""
_MOST_LEVELS = 6
_OTHER = "other"
_MOST_NAMES = 10


@dataclass(frozen=True)
class Subjects:
    """Table of subjects.

    Attributes:
        values: Cells by subject, then by column key (keys of `TITLES`), without unknown values.
            Numbers have a decimal point; field strengths are nominal values, T.
        missing: Keys of the columns that the table lacks.
        unread: Descriptions of the cells that count as unknown because they are not numbers.
        unlisted: Subjects without a row.
        elsewhere: Number of rows by cohort for subjects that were not evaluated; "" if the cohort
            is unknown.
    """

    values: Mapping[str, Mapping[str, str]]
    missing: tuple[str, ...]
    unread: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    elsewhere: Mapping[str, int] = field(default_factory=dict)

    def value(self, subject: str, column: str) -> str | None:
        """Return one cell; None if it is unknown."""
        return self.values.get(subject, {}).get(column)

    def number(self, subject: str, column: str) -> float:
        """Return one cell as a number; NaN if it is unknown or not a number."""
        try:
            return float(self.values.get(subject, {})[column])
        except (KeyError, ValueError):
            return math.nan


def read_subjects(path: Path | None, subjects: Iterable[str]) -> Subjects:
    """Read the table and find the row of each evaluated subject.

    A row matches a subject if the names are equal. The name of a row is `participant_id`, followed
    by `_<session_id>` if there is a session; the prefix `sub-` is optional. If subjects are in
    folders, the name of the last folder also matches, provided that it is unique.

    Args:
        path: `subjects.tsv`, or None if there is no table.
        subjects: Evaluated subjects.

    Raises:
        InputFileError: If the table cannot be read, has no column `participant_id`, or has
            duplicate rows.
    """
    subjects = list(subjects)
    known, missing = ({}, tuple(_COLUMNS)) if path is None else _read_rows(path)
    values: dict[str, dict[str, str]] = {}
    unread: list[str] = []
    unlisted: list[str] = []
    found: set[str] = set()
    folders = Counter(_last_folder(subject) for subject in subjects)
    for subject in subjects:
        row = _row_of(subject, known, alone=folders[_last_folder(subject)] == 1)
        if row is None:
            unlisted.append(subject)
        else:
            found.add(row)
        cells = known[row] if row is not None else {}
        counted = {column: _understood(column, cell) for column, cell in cells.items()}
        values[subject] = {column: cell for column, cell in counted.items() if cell}
        unread += [f"{c} of {subject} ({cells[c]!r})" for c, cell in counted.items() if not cell]
    in_folders = bool(subjects) and all("/" in subject for subject in subjects)
    if "cohort" in missing and in_folders:
        missing = tuple(column for column in missing if column != "cohort")
        values = {s: {**values[s], "cohort": s.split("/")[0]} for s in subjects}
    elsewhere = Counter(row.get("cohort", "") for name, row in known.items() if name not in found)
    return Subjects(values, missing, tuple(unread), tuple(unlisted), dict(elsewhere))


def _read_rows(path: Path) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """Return the known cells by name without `sub-`, and the keys of missing columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, delimiter="\t", strict=True)
            header = {_plain(name): name for name in reader.fieldnames or ()}
            rows = list(reader)
    except csv.Error as error:
        raise InputFileError(
            f"{path}: cannot be read as a table ({error}); check for an unclosed quotation mark"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(f"{path}: cannot be read as a table ({error})") from error
    if "participant_id" not in header:
        raise InputFileError(
            f"{path}: no column participant_id (columns: {', '.join(header.values()) or 'none'}); "
            "a tab-separated table with a column participant_id is required"
        )
    columns = {
        ours: next((header[name] for name in names if name in header), None)
        for ours, names in _COLUMNS.items()
    }
    known: dict[str, dict[str, str]] = {}
    doubled: dict[str, None] = {}
    for number, row in enumerate(rows, 2):
        if any(row.get(None) or ()):
            raise InputFileError(
                f"{path}: row {number} has more cells than the header, so some cells are in the "
                "wrong column; check for an extra tab"
            )
        participant = (row[header["participant_id"]] or "").strip()
        session = (row[header["session_id"]] or "").strip() if "session_id" in header else ""
        name = participant + ("" if session.lower() in UNKNOWN_CELLS else f"_{session}")
        if participant and _bare(name) in known:
            doubled[name] = None
        cells = {ours: (row[theirs] or "").strip() for ours, theirs in columns.items() if theirs}
        known[_bare(name)] = {
            ours: cell for ours, cell in cells.items() if cell.lower() not in UNKNOWN_CELLS
        }
    if doubled:
        names = f"{', '.join([*doubled][:_MOST_NAMES])} ({len(doubled)} in total)"
        raise InputFileError(
            f"{path}: several rows for {names}; keep one row each, or distinguish visits by a "
            "column session_id"
        )
    return known, tuple(ours for ours, theirs in columns.items() if theirs is None)


def _row_of(subject: str, known: Mapping[str, Mapping[str, str]], *, alone: bool) -> str | None:
    folder = _last_folder(subject)
    others = (folder, folder.split("_")[0]) if alone else ()
    names = (_bare(name) for name in (subject, *others))
    return next((name for name in names if name in known), None)


def _last_folder(subject: str) -> str:
    return subject.rsplit("/", 1)[-1]


def _understood(column: str, cell: str) -> str:
    """Normalise a cell; an empty string if the column is numeric and the cell is not a number."""
    text = cell.replace(",", ".")
    if column == "field_strength":
        return _nominal_tesla(text)
    if column in ("age", "nihss"):
        return text if _is_number(text) else ""
    if column == "onset" and (hours := re.sub(r"\s*(h|hrs?|hours?)$", "", text)):
        return hours if _is_number(hours) else cell
    return cell


def _nominal_tesla(text: str) -> str:
    """Return the nominal field strength; scanners report actual values such as 2.89 or 1.494 T."""
    # Cells with two numbers, for example for two scanners, are not a field strength.
    number = re.fullmatch(r"(\d*\.?\d+)\D*", text)
    if number is None:
        return ""
    tesla = float(number.group(1))
    nominal = min(_FIELDS_T, key=lambda field: abs(field - tesla))
    return f"{nominal:g}" if abs(nominal - tesla) <= _NEAR * nominal else ""


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def _bare(name: str) -> str:
    return name.removeprefix("sub-")


@dataclass(frozen=True)
class Stratum:
    """A division of the subjects into levels of one variable.

    Attributes:
        key: Column key.
        title: Title in figures and tables.
        levels: Levels in display order.
        level_of: Level by subject; subjects with unknown level are omitted.
    """

    key: str
    title: str
    levels: tuple[str, ...]
    level_of: Mapping[str, str]

    def members(self, level: str, among: Iterable[str]) -> list[str]:
        """Return the subjects in `among` that belong to a level."""
        return [subject for subject in among if self.level_of.get(subject) == level]


def stratify(
    key: str, subjects: Subjects, names: Sequence[str], reference_ml: Mapping[str, float]
) -> Stratum:
    """Divide subjects into the levels of one variable.

    Args:
        key: Key of `TITLES`, except age and NIHSS.
        subjects: Table of subjects.
        names: Subjects to divide.
        reference_ml: Reference lesion volume by subject, ml; used for the key "volume".
    """
    if key == "volume":
        found = {name: volume_level(reference_ml[name]) for name in names if reference_ml[name]}
    else:
        cells = {name: subjects.value(name, key) for name in names}
        given = {name: _level(key, cell) for name, cell in cells.items() if cell is not None}
        written = Counter(given.values())
        usual: dict[str, str] = {}
        for level in sorted(written, key=lambda level: -written[level]):
            usual.setdefault(level.casefold(), level)
        found = {name: usual[level.casefold()] for name, level in given.items()}
    counts = Counter(found.values())
    expected = [level for level in _ORDER.get(key, ()) if level in counts]
    rest = [level for level in counts if level not in expected]
    # Levels without a defined order: numbers ascending, then the most frequent first.
    rest.sort(key=lambda level: (_leading_number(level), -counts[level], level))
    levels = expected + rest
    if len(levels) > _MOST_LEVELS and key != "cohort":
        # If the table already has a level "other", merge the rare levels into it.
        other = next((level for level in levels if level.lower() == _OTHER), _OTHER)
        named = [level for level in levels if level.lower() != _OTHER]
        kept = set(sorted(named, key=lambda level: -counts[level])[: _MOST_LEVELS - 1])
        levels = [level for level in named if level in kept] + [other]
        found = {name: level if level in kept else other for name, level in found.items()}
    return Stratum(key, TITLES[key], tuple(levels), found)


def volume_level(ml: float) -> str:
    """Return the size class of a lesion: S, M or L."""
    small, medium, large = _ORDER["volume"]
    if ml < SMALL_ML:
        return small
    return medium if ml < LARGE_ML else large


def _level(key: str, cell: str) -> str:
    if key == "field_strength":
        return f"{cell} T"
    if key == "onset" and _is_number(cell):
        return ONSET_LEVELS[sum(float(cell) >= edge for edge in _ONSET_HOURS)]
    if key in _WORDS:
        return _WORDS[key].get(cell.lower(), cell.lower())
    return cell


def _leading_number(text: str) -> float:
    number = re.match(r"\d+(\.\d+)?", text)
    return float(number.group()) if number else math.inf
