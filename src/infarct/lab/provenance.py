"""Records the origin of the files in a folder, so that other runs do not reuse them by mistake.

An interrupted run finds its intermediate files by name only. Files from another bank or another
network have the same names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from infarct.core.atomic_write import atomic_file
from infarct.core.errors import InputFileError, OutputError


def claim(path: Path, facts: Mapping[str, object], advice: str, *, used: bool = False) -> None:
    """Record the origin of the files in a folder, or check it against an existing record.

    Args:
        path: The record, a JSON file.
        facts: Origin of the files, as JSON values.
        advice: What to do if the origin differs; ends the error message.
        used: Whether the folder contains such files; then the record must exist.

    Raises:
        InputFileError: If the origin differs or is unknown.
        OutputError: If the record cannot be written.
    """
    if path.is_file():
        recorded = _recorded(path)
        others = sorted(key for key in {*recorded, *facts} if recorded.get(key) != facts.get(key))
        if others:
            raise InputFileError(
                f"{path} records different values of {', '.join(others)}; {advice}"
            )
        return
    if used:
        raise InputFileError(
            f"{path.parent} contains results, but no {path.name} that records their origin; "
            f"{advice}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as draft:
            draft.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path.parent} cannot be written ({error})") from error


def _recorded(path: Path) -> Mapping[str, object]:
    """Return the content of a record; empty if it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
