"""What a tool needs: parameters, seconds, memory; from a table that whoever timed them writes."""

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
    """What a tool needs.

    Attributes:
        parameters: Trainable parameters; NaN if unknown.
        seconds: To segment one subject; NaN if unknown.
        memory_gb: Peak memory; NaN if unknown.
    """

    parameters: float = math.nan
    seconds: float = math.nan
    memory_gb: float = math.nan


def read_costs(path: Path | None) -> dict[str, Cost]:
    """Read what each tool needs.

    Args:
        path: Tab-separated, with the columns `tool` and any of `parameters`, `seconds` and
            `memory_gb`; `n/a` or an empty cell is unknown, and numbers may have a decimal comma.
            None when there is no table.

    Returns:
        By the name of the tool.

    Raises:
        InputFileError: If it cannot be read as such a table.
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
            f"{path}: cannot be read ({error!r}); a tab-separated table with columns tool, "
            "parameters, seconds, memory_gb is needed"
        ) from error


def _number(cell: str | None) -> float:
    text = (cell or "").strip()
    return math.nan if text.lower() in UNKNOWN_CELLS else float(text.replace(",", "."))
