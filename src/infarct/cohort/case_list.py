"""Reads the cases of a cohort from a table or a file name pattern."""

from __future__ import annotations

import csv
import glob
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from infarct.cohort.jobs import Job, id_problem, in_order
from infarct.core.diffusion import B0_BELOW
from infarct.core.errors import InputFileError
from infarct.core.file_search import entries_of
from infarct.core.input_files import why_missing
from infarct.preprocessing.case import CaseFiles

_IMAGES = ("dwi", "b0", "adc", "brain")
COLUMNS = (*_IMAGES, "bvalue", "id", "scan_date")
"""Columns of a case table; `dwi` and `id` are required."""

_MOST_TOLD = 10


def find_jobs(cases: str, out: Path, b0_below: float = B0_BELOW) -> list[Job]:
    """Return the cases given by a table or a pattern.

    Args:
        cases: Path of a `.csv` or `.tsv` table, or a pattern with wildcards that matches DWI
            images, e.g. `DATA/*/dwi.nii.gz`; b0 and ADC are found next to the DWI by replacing
            `dwi` in its name.
        out: Output folder; each case gets a subfolder named after its id.
        b0_below: s/mm^2; volumes of a series with a lower b-value are averaged to the b0.

    Raises:
        InputFileError: If the table or the pattern is invalid (lists the problems of each row), or
            a folder matched by the pattern cannot be read.
    """
    by_pattern = glob.has_magic(cases) and not Path(cases).is_file()
    out = out.resolve()
    if by_pattern:
        given = [(name, files, "") for name, files in _by_pattern(cases)]
    else:
        given = _from_table(Path(cases))
    return in_order(
        [
            Job(name, replace(files, b0_below=b0_below), out / name, scan_date=date)
            for name, files, date in given
        ]
    )


def _from_table(path: Path) -> list[tuple[str, CaseFiles, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(
            f"{path}: cannot be read as a table ({error}); expected a .csv or .tsv file with the "
            f"columns {', '.join(COLUMNS)}, or a file pattern with *"
        ) from error
    lines = text.splitlines()
    header = lines[0] if lines else ""
    delimiter = max("\t;,", key=header.count)
    table = csv.DictReader(
        lines, delimiter=delimiter, restkey="", skipinitialspace=True, strict=True
    )
    names = [(name or "").strip().lower() for name in table.fieldnames or ()]
    table.fieldnames = names
    unknown = [name for name in names if name not in COLUMNS]
    missing = [name for name in ("dwi", "id") if name not in names]
    if unknown or missing or len(set(names)) < len(names):
        # A misspelt column would otherwise mean that a b-value or b0 is silently ignored.
        raise InputFileError(
            f"{path}: row 1 has the columns {', '.join(names) or 'none'}; dwi and id are required, "
            f"{', '.join(n for n in COLUMNS if n not in ('dwi', 'id'))} are optional; other or "
            "duplicate columns are not allowed"
        )
    problems: list[str] = []
    found: dict[str, tuple[CaseFiles, str]] = {}
    first: dict[str, int] = {}
    try:
        rows = [(table.line_num, row) for row in table]
    except csv.Error as error:
        raise InputFileError(
            f"{path}: row {table.line_num} cannot be read ({error}); check for an unclosed "
            "quotation mark"
        ) from error
    folder = path.resolve().parent
    for number, row in rows:
        # Some file systems ignore case, so ids that differ only in case would share a folder.
        key = (row["id"] or "").strip().lower()
        told = list(_problems_of_row(row, folder, first.get(key)))
        problems += [f"row {number}: {problem}" for problem in told]
        if not told:
            first[key] = number
            date = (row.get("scan_date") or "").strip()
            found[row["id"].strip()] = (_files(row, folder), date)
    if problems:
        more = len(problems) - _MOST_TOLD
        told = problems[:_MOST_TOLD] + ([f"and {more} more"] if more > 0 else [])
        raise InputFileError(f"{path} cannot be used:\n  " + "\n  ".join(told))
    if not found:
        raise InputFileError(f"{path}: no rows below the header; expected one row per case")
    if not any(files.dwi.is_file() for files, _ in found.values()):
        example = next(iter(found.values()))[0].dwi
        raise InputFileError(
            f"{path}: none of the DWI images exists; {example}, for example: "
            f"{why_missing(example)}; use paths that are absolute or relative to the folder of "
            "the table"
        )
    return [(name, files, date) for name, (files, date) in found.items()]


def _problems_of_row(
    row: dict[str, str], folder: Path, same_id_in_row: int | None
) -> Iterator[str]:
    if "" in row:
        yield f"more cells than the header ({row['']}); quote paths that contain a comma"
        return
    cells = {name: (value or "").strip() for name, value in row.items()}
    if problem := id_problem(cells["id"]):
        yield f"id {problem}"
    elif same_id_in_row is not None:
        yield f"id {cells['id']!r} is already used in row {same_id_in_row}; ids must be unique"
    if not cells["dwi"]:
        yield "dwi is empty; expected the path of an image"
    for role in _IMAGES:
        try:
            if path := _path(row, role, folder):
                path.is_file()
        except (OSError, RuntimeError) as error:  # name too long, unknown user in ~user
            yield f"{role} is not a valid path ({error})"
    if bvalue := cells.get("bvalue"):
        try:
            good = 0 < float(bvalue) < 1e5
        except ValueError:
            good = False
        if not good:
            yield f"bvalue is {bvalue!r}; expected a number in s/mm^2, such as 1000, or nothing"


def _path(row: dict[str, str], role: str, folder: Path) -> Path | None:
    cell = (row.get(role) or "").strip()
    return folder / Path(cell).expanduser() if cell else None


def _files(row: dict[str, str], folder: Path) -> CaseFiles:
    bvalue = (row.get("bvalue") or "").strip()
    dwi, b0, adc, brain = (_path(row, role, folder) for role in _IMAGES)
    assert dwi is not None
    return CaseFiles(dwi, b0, adc, float(bvalue) if bvalue else None, brain)


def _by_pattern(pattern: str) -> list[tuple[str, CaseFiles]]:
    _refuse_closed_folders(pattern)
    matches = _matches(pattern)
    if not matches:
        raise InputFileError(
            f"{pattern}: matches no file; check the path, and quote the pattern in the shell"
        )
    found: dict[str, CaseFiles] = {}
    wild = _wildcards(pattern)
    for dwi in matches:
        hit = wild.fullmatch(dwi.as_posix())
        parts = (
            "_".join(part.strip("/") for part in hit.groups() if part) if hit else dwi.parent.name
        )
        name = re.sub(r"[^A-Za-z0-9._+-]+", "_", parts)
        if problem := id_problem(name):
            raise InputFileError(f"{pattern}: invalid id for {dwi}: {problem}; use a table")
        if name.lower() in (other.lower() for other in found):
            raise InputFileError(
                f"{pattern}: {dwi} and another file have the same id {name}; use a table"
            )
        found[name] = _with_companions(dwi.absolute())
    return list(found.items())


def _matches(pattern: str) -> list[Path]:
    # Not Path.glob: a pattern may be absolute. Wildcards skip hidden files, and `._scan.nii.gz`,
    # which macOS creates next to each file, is never an image.
    found = (Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207
    return sorted(path for path in found if not path.name.startswith("._"))


def _refuse_closed_folders(pattern: str) -> None:
    """Check that the folders searched by wildcards are readable; glob skips others silently."""
    whole = Path(pattern)
    for part in (whole, *whole.parents):
        if glob.has_magic(str(part)):
            for folder in _matches(str(part.parent)):
                entries_of(folder)


def _wildcards(pattern: str) -> re.Pattern[str]:
    """Return a regular expression whose groups capture the wildcards of a pattern."""
    kinds = {"**/": r"(.*/)?", "*": r"([^/]*)", "?": r"([^/])"}
    parts = re.split(r"(\*\*/|\*|\?|\[[^]]*\])", Path(pattern).as_posix())
    return re.compile(
        "".join(
            kinds.get(part, f"({part})" if part.startswith("[") else re.escape(part))
            for part in parts
        )
    )


def _with_companions(dwi: Path) -> CaseFiles:
    """Find b0 and ADC next to a DWI by replacing `dwi` in its name."""
    # Not a brain mask: files called "brain" are often skull-stripped images.
    named = list(re.finditer("dwi", dwi.name, re.IGNORECASE))

    def beside(role: str) -> Path | None:
        for spelling in (role, role.upper()) if named else ():
            start, end = named[-1].span()
            path = dwi.with_name(f"{dwi.name[:start]}{spelling}{dwi.name[end:]}")
            if path.is_file():
                return path
        return None

    return CaseFiles(dwi, beside("b0"), beside("adc"))
