"""Cases from a table, or from a pattern of file names."""

from __future__ import annotations

import csv
import glob
import re
from collections.abc import Iterator
from pathlib import Path

from infarct.cohort.jobs import Job, id_problem
from infarct.core.errors import InputFileError
from infarct.core.file_search import entries_of
from infarct.core.input_files import why_missing
from infarct.preprocessing.case import CaseFiles

_IMAGES = ("dwi", "b0", "adc", "brain")
COLUMNS = (*_IMAGES, "bvalue", "id")
"""Of a table of cases; `dwi` and `id` are needed."""

_MOST_TOLD = 10


def find_jobs(cases: str, out: Path) -> list[Job]:
    """Return the cases that a table or a pattern names.

    Args:
        cases: Path of a `.csv` or `.tsv` table, or a pattern with `*` that matches DWI images, as
            `DATA/*/dwi.nii.gz`; b0 and ADC lie beside, `dwi` in their names replaced.
        out: Folder of all results; each case gets one below it, named by its id.

    Raises:
        InputFileError: If the table or the pattern cannot be used, says why, row by row; or if a
            folder that the pattern looks into cannot be read.
    """
    by_pattern = glob.has_magic(cases) and not Path(cases).is_file()
    found = _by_pattern(cases) if by_pattern else _from_table(Path(cases))
    out = out.resolve()
    return [Job(name, files, out / name) for name, files in found]


def _from_table(path: Path) -> list[tuple[str, CaseFiles]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(
            f"{path}: cannot be read as a table ({error}); a .csv or .tsv text file with the "
            f"columns {', '.join(COLUMNS)} is expected, or a pattern with *"
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
        # A column that is misspelt would else be a b-value or a b0 silently left aside.
        raise InputFileError(
            f"{path}: row 1 has the columns {', '.join(names) or 'none'}; dwi and id are needed, "
            f"{', '.join(n for n in COLUMNS if n not in ('dwi', 'id'))} may be there, each once, "
            "and no other"
        )
    problems: list[str] = []
    found: dict[str, CaseFiles] = {}
    first: dict[str, int] = {}
    try:
        rows = [(table.line_num, row) for row in table]
    except csv.Error as error:
        raise InputFileError(
            f"{path}: row {table.line_num} cannot be read ({error}); is a quotation mark left open?"
        ) from error
    folder = path.resolve().parent
    for number, row in rows:
        # Some file systems do not tell upper from lower case: two such folders would be one.
        key = (row["id"] or "").strip().lower()
        told = list(_problems_of_row(row, folder, first.get(key)))
        problems += [f"row {number}: {problem}" for problem in told]
        if not told:
            first[key] = number
            found[row["id"].strip()] = _files(row, folder)
    if problems:
        more = len(problems) - _MOST_TOLD
        told = problems[:_MOST_TOLD] + ([f"and {more} more"] if more > 0 else [])
        raise InputFileError(f"{path} cannot be used:\n  " + "\n  ".join(told))
    if not found:
        raise InputFileError(f"{path}: has no row below its header; one row per case is expected")
    if not any(files.dwi.is_file() for files in found.values()):
        example = next(iter(found.values())).dwi
        raise InputFileError(
            f"{path}: none of its DWI images is there; {example}, for example: "
            f"{why_missing(example)}; paths are absolute "
            "or start at the folder of the table"
        )
    return list(found.items())


def _problems_of_row(
    row: dict[str, str], folder: Path, same_id_in_row: int | None
) -> Iterator[str]:
    if "" in row:
        yield f"has more cells than the header ({row['']}); put paths with a comma in quotes"
        return
    cells = {name: (value or "").strip() for name, value in row.items()}
    if problem := id_problem(cells["id"]):
        yield f"id {problem}"
    elif same_id_in_row is not None:
        yield f"id {cells['id']!r} is already in row {same_id_in_row}; each id once is expected"
    if not cells["dwi"]:
        yield "dwi is empty; the path of an image is expected"
    for role in _IMAGES:
        try:
            if path := _path(row, role, folder):
                path.is_file()
        except (OSError, RuntimeError) as error:  # too long a name, the home of nobody
            yield f"{role} is no path of an image ({error})"
    if bvalue := cells.get("bvalue"):
        try:
            good = 0 < float(bvalue) < 1e5
        except ValueError:
            good = False
        if not good:
            yield f"bvalue is {bvalue!r}; a number in s/mm^2, as 1000, or nothing is expected"


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
        raise InputFileError(f"{pattern}: matches no file; put it in quotes, and check the folders")
    found: dict[str, CaseFiles] = {}
    wild = _wildcards(pattern)
    for dwi in matches:
        hit = wild.fullmatch(dwi.as_posix())
        parts = (
            "_".join(part.strip("/") for part in hit.groups() if part) if hit else dwi.parent.name
        )
        name = re.sub(r"[^A-Za-z0-9._+-]+", "_", parts)
        if problem := id_problem(name):
            raise InputFileError(f"{pattern}: {dwi} would get the id {problem}; use a table")
        if name.lower() in (other.lower() for other in found):
            raise InputFileError(
                f"{pattern}: {dwi} and another file get the id {name}; use a table"
            )
        found[name] = _with_companions(dwi.absolute())
    return list(found.items())


def _matches(pattern: str) -> list[Path]:
    # Not Path.glob: a pattern may start anywhere, also at the root. Its wildcards match no hidden
    # files, and `._scan.nii.gz`, which macOS leaves beside each file, is never an image.
    found = (Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207
    return sorted(path for path in found if not path.name.startswith("._"))


def _refuse_closed_folders(pattern: str) -> None:
    """Try the folders that wildcards look into: what cannot be read matches without a word."""
    whole = Path(pattern)
    for part in (whole, *whole.parents):
        if glob.has_magic(str(part)):
            for folder in _matches(str(part.parent)):
                entries_of(folder)


def _wildcards(pattern: str) -> re.Pattern[str]:
    """Return an expression whose groups are what the wildcards of a pattern stand for."""
    kinds = {"**/": r"(.*/)?", "*": r"([^/]*)", "?": r"([^/])"}
    parts = re.split(r"(\*\*/|\*|\?|\[[^]]*\])", Path(pattern).as_posix())
    return re.compile(
        "".join(
            kinds.get(part, f"({part})" if part.startswith("[") else re.escape(part))
            for part in parts
        )
    )


def _with_companions(dwi: Path) -> CaseFiles:
    """Take b0 and ADC beside a DWI, whose names differ only in what they show."""
    # No brain mask: what is called "brain" is as often the image without its skull.
    named = list(re.finditer("dwi", dwi.name, re.IGNORECASE))

    def beside(role: str) -> Path | None:
        for spelling in (role, role.upper()) if named else ():
            start, end = named[-1].span()
            path = dwi.with_name(f"{dwi.name[:start]}{spelling}{dwi.name[end:]}")
            if path.is_file():
                return path
        return None

    return CaseFiles(dwi, beside("b0"), beside("adc"))
