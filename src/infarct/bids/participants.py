"""Reads `participants.tsv` of a BIDS dataset and joins its rows to the scans."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from infarct.bids.dataset import BidsScan
from infarct.core.errors import InputFileError

_MAX_LISTED = 10

Participants = dict[str, dict[str, dict[str, str]]]
"""Cells by participant label, by session (`ses-Y`, or empty if not specified), by column."""

_ANY_SESSION = ""
"""Session key of a row that names no session."""


def join_participants(scans: Sequence[BidsScan], root: Path) -> dict[str, dict[str, str]]:
    """Return the cells of `participants.tsv` for each scan, by scan name.

    Args:
        scans: Scans of the dataset.
        root: Dataset folder; the table is optional.

    Raises:
        InputFileError: If the table exists but cannot be read, or has several rows for one
            participant that no session distinguishes.
    """
    table = read_participants(root / "participants.tsv")
    joined = {}
    for scan in scans:
        ids = {"participant_id": f"sub-{scan.entities['sub']}", "session_id": _session_of(scan)}
        joined[scan.name] = {**row_of(scan, table), **ids}
    return joined


def row_of(scan: BidsScan, table: Participants) -> dict[str, str]:
    """Return the row of a scan, by column; empty if the table has none."""
    rows, session = table.get(scan.entities["sub"], {}), _session_of(scan)
    if len(rows) == 1 and (_ANY_SESSION in rows or session == "n/a"):
        # A single row without a session applies to all sessions of the participant.
        (row,) = rows.values()
        return row
    return rows.get(session, {})


def read_participants(path: Path) -> Participants:
    """Read `participants.tsv`; return an empty table if the file does not exist.

    Raises:
        InputFileError: If it cannot be read, or has several rows for one participant and session.
    """
    if not path.is_file():
        return {}
    table: Participants = {}
    duplicates: dict[str, None] = {}
    try:
        # StringIO, not splitlines: cells may contain other Unicode line separators.
        text = io.StringIO(path.read_text("utf-8-sig"))
        for row in csv.DictReader(text, delimiter="\t", strict=True):
            participant = row["participant_id"].strip()
            if not participant:
                continue
            rows = table.setdefault(participant.removeprefix("sub-"), {})
            label = (row.get("session_id") or "").strip().removeprefix("ses-")
            session = f"ses-{label}" if label not in {"", "n/a"} else _ANY_SESSION
            if session in rows:
                duplicates[participant] = None
            # An extra tab at the end of a line creates a cell without a column name.
            rows[session] = {name: cell for name, cell in row.items() if name}
    except (OSError, UnicodeDecodeError, KeyError, AttributeError, csv.Error) as error:
        raise InputFileError(
            f"{path}: cannot be read ({error}); expected a tab-separated table with a column "
            "participant_id"
        ) from error
    if duplicates:
        names = f"{', '.join([*duplicates][:_MAX_LISTED])} ({len(duplicates)} in total)"
        raise InputFileError(
            f"{path}: several rows for {names}; keep one row per participant, or add a column "
            "session_id to distinguish sessions"
        )
    return table


def _session_of(scan: BidsScan) -> str:
    return f"ses-{scan.entities['ses']}" if "ses" in scan.entities else "n/a"
