"""Strict JSON, and tab-separated tables that are safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_NUMBERS = re.compile(r"(?:[-+]?\d[\d.,]*(?:e[-+]?\d+)?|[-+]?(?:inf|nan)|[-\s\[\]();,<]|to\b)*")
"""Cells with numbers, with an interval such as `-1.20 [-3.0, 2.5]` or `-3 to 2`, or a dash."""


def write_tsv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a tab-separated table that is safe to open in a spreadsheet.

    All tables for users are written with this function.

    Args:
        path: Output file.
        header: Names of the columns.
        rows: Cells as text; see `plain_cell`.
    """
    with path.open("w", newline="", encoding="utf-8", errors="replace") as stream:
        table = csv.writer(stream, delimiter="\t", lineterminator="\n")
        table.writerow([plain_cell(name) for name in header])
        table.writerows([plain_cell(cell) for cell in row] for row in rows)


def plain_cell(text: str) -> str:
    """Return the text of a cell, prefixed with an apostrophe if a spreadsheet would execute it.

    Names of files, participants and people are untrusted, and a spreadsheet interprets `=cmd|...`
    as a formula. Numbers and intervals are not changed, even if negative.

    References:
        OWASP, "CSV injection".
    """
    # Spreadsheets end a row at a carriage return, which the csv module does not quote.
    text = text.replace("\r", " ")
    start = text.lstrip(" ")[:1]
    # A leading tab or line feed hides the character that follows; some locales use wide characters.
    risky = bool(start) and start in "=+-@\t\n\uff1d\uff0b\uff0d\uff20"
    return f"'{text}" if risky and not _NUMBERS.fullmatch(text) else text


def write_json(content: Any, path: Path) -> None:
    """Write strict JSON: no NaN, and valid UTF-8."""
    path.write_text(as_json(content), encoding="utf-8")


def as_json(content: Any) -> str:
    """Return the text that `write_json` writes; bytes that are not UTF-8 become `?`."""
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    return as_utf8(text)


def as_utf8(text: str) -> str:
    """Return text that can be encoded as UTF-8; bytes that were not UTF-8 become `?`.

    Python represents names in older encodings such as Latin-1 with lone surrogates.
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def finite(content: Any) -> Any:
    """Replace NaN by None and NumPy numbers by Python numbers, recursively."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    if isinstance(content, float | np.floating):
        return float(content) if math.isfinite(content) else None
    return content


def table_cell(value: float | str | None) -> str:
    """Format a value for a table: `n/a` if unknown, numbers with six digits, text on one line."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "n/a"
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join(str(value).split()) or "n/a"
