"""Reads the computational costs of each tool (parameters, run time, memory) from a table."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from infarct.core.errors import InputFileError
from infarct.evaluation.subjects import UNKNOWN_CELLS

_COLUMNS = ("parameters", "seconds", "memory_gb")


@dataclass(frozen=True)
class Cost:
    """Computational costs of a tool.

    Attributes:
        parameters: Number of trainable parameters; NaN if unknown.
        seconds: Run time per subject, s; NaN if unknown.
        memory_gb: Peak memory, GB; NaN if unknown.
    """

    parameters: float = math.nan
    seconds: float = math.nan
    memory_gb: float = math.nan


def read_costs(path: Path | None) -> dict[str, Cost]:
    """Read the computational costs of each tool.

    Args:
        path: Tab-separated table with a column `tool` and any of `parameters`, `seconds` and
            `memory_gb`. `n/a` or an empty cell is unknown. Numbers may have a decimal comma.
            None if there is no table.

    Returns:
        Costs by tool name.

    Raises:
        InputFileError: If the file is not such a table.
    """
    if path is None:
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t", strict=True))
        return {
            row["tool"].strip(): Cost(*(_number(row.get(name)) for name in _COLUMNS))
            for row in rows
        }
    except (OSError, KeyError, ValueError, AttributeError, csv.Error) as error:
        raise InputFileError(
            f"{path}: cannot be read ({error!r}); expected a tab-separated table with columns "
            "tool, parameters, seconds, memory_gb"
        ) from error


def _number(cell: str | None) -> float:
    text = (cell or "").strip()
    return math.nan if text.lower() in UNKNOWN_CELLS else float(text.replace(",", "."))
