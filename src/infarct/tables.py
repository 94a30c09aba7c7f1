"""Numbers as they are written: the fields of `summary.json`, `lesions.tsv` and `regions.tsv`."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from infarct.anatomy import Anatomy
from infarct.places import Part, Place, Places
from infarct.quantify import Lesion, Measurements

_NUMBERS = re.compile(r"(?:[-+]?\d[\d.,]*(?:e[-+]?\d+)?|[-+]?(?:inf|nan)|[-\s\[\]();,<]|to\b)*")
"""Cells of numbers, also an interval such as `-1.20 [-3.0, 2.5]` or `-3 to 2`, or a dash."""

_PLACE = [field.name for field in fields(Place) if field.name != "label"]


def numbers(measurements: Measurements, anatomy: Anatomy) -> dict[str, Any]:
    """Return what was measured as it goes into `summary.json`; None where undefined."""
    places = anatomy.places
    content: dict[str, Any] = finite(
        {
            **asdict(measurements),
            "lesions": [
                {**asdict(lesion), **{name: getattr(place, name) for name in _PLACE}}
                for lesion, place in _lesions(measurements, places)
            ],
            "territories": [_part(part, "territory") for part in places.territories],
            "regions": [_part(part, "region") for part in places.regions],
            "aspects": asdict(anatomy.aspects) if anatomy.aspects else None,
            "pc_aspects": asdict(anatomy.pc_aspects) if anatomy.pc_aspects else None,
            "pattern": asdict(places.pattern),
        }
    )
    return content


def write_tables(measurements: Measurements, places: Places, folder: Path) -> None:
    """Write `lesions.tsv`, a row per lesion, and `regions.tsv`, a row per part of the brain."""
    _write_lesions(measurements, places, folder / "lesions.tsv")
    _write_regions(places, folder / "regions.tsv")


def write_tsv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a tab-separated table that is safe to open in a spreadsheet.

    Every table for people is written here.

    Args:
        path: Of the file.
        header: Names of the columns.
        rows: Cells as text; see `plain_cell`.
    """
    with path.open("w", newline="", encoding="utf-8", errors="replace") as stream:
        table = csv.writer(stream, delimiter="\t", lineterminator="\n")
        table.writerow([plain_cell(name) for name in header])
        table.writerows([plain_cell(cell) for cell in row] for row in rows)


def plain_cell(text: str) -> str:
    """Return the text of a cell with an apostrophe before it if a spreadsheet would run it.

    Names of files, participants and people come from outside, and a spreadsheet takes `=cmd|...`
    for a formula. Numbers and intervals stay as they are, also negative ones.

    References:
        OWASP, "CSV injection".
    """
    # Spreadsheets end a row at a carriage return, which the csv module does not quote.
    text = text.replace("\r", " ")
    start = text.lstrip(" ")[:1]
    # A tab or line feed ahead hides the sign that follows; some locales use wide signs.
    risky = bool(start) and start in "=+-@\t\n\uff1d\uff0b\uff0d\uff20"
    return f"'{text}" if risky and not _NUMBERS.fullmatch(text) else text


def write_json(content: Any, path: Path) -> None:
    """Write JSON that any reader can read: no NaN, and nothing that is not UTF-8."""
    path.write_text(as_json(content), encoding="utf-8")


def as_json(content: Any) -> str:
    """Return the text that `write_json` writes; bytes of a name that are not UTF-8 become `?`."""
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    return as_utf8(text)


def as_utf8(text: str) -> str:
    """Return text that any file can hold; bytes that were not UTF-8 become `?`.

    What was typed or named in an older encoding, as Latin-1, comes as lone surrogates.
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def finite(content: Any) -> Any:
    """Replace NaN by None and numpy numbers by Python's, all the way down."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    if isinstance(content, float | np.floating):
        return float(content) if math.isfinite(content) else None
    return content


def _lesions(measurements: Measurements, places: Places) -> list[tuple[Lesion, Place]]:
    return list(zip(measurements.lesions, places.lesions, strict=True))


def _part(part: Part, kind: str) -> dict[str, Any]:
    """Return a row of the table of territories (with its sub-territories) or of regions."""
    own = (
        {"sub": [_part(p, kind) for p in part.parts]} if kind == "territory" and part.parts else {}
    )
    return {
        "name": part.name,
        "side": part.side,
        **({"class": part.group} if kind == "region" else {}),
        "ml": part.ml,
        f"share_of_{kind}": part.share_of_part,
        "share_of_lesion": part.share_of_lesion,
        **own,
    }


def _write_lesions(measurements: Measurements, places: Places, path: Path) -> None:
    header = [field.name for field in fields(Lesion)]
    columns = []
    for name in header:
        split = name.startswith("centroid")
        stem = name.removesuffix("_mm")
        columns += [f"{stem}_{axis}_mm" for axis in "xyz"] if split else [name]
    rows = []
    for lesion, place in _lesions(measurements, places):
        row: list[str] = []
        for name in header:
            value = getattr(lesion, name)
            row += [_cell(v) for v in value] if isinstance(value, tuple) else [_cell(value)]
        rows.append(row + [getattr(place, name) for name in _PLACE])
    write_tsv(path, columns + _PLACE, rows)


def _write_regions(places: Places, path: Path) -> None:
    kinds = (
        ("territory", places.territories),
        ("sub-territory", [part for major in places.territories for part in major.parts]),
        ("region", places.regions),
    )
    rows = [
        [kind, part.name, part.side or "n/a", part.group]
        + [_cell(n) for n in (part.ml, part.share_of_part, part.share_of_lesion)]
        for kind, parts in kinds
        for part in parts
    ]
    columns = ["kind", "name", "side", "group", "ml", "share_of_part", "share_of_lesion"]
    write_tsv(path, columns, rows)


def _cell(value: float | str | None) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, float):
        return "n/a" if math.isnan(value) else f"{value:.6g}"
    return str(value)
