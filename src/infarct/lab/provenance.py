"""A note in a folder of what its files are made from, so that no other run takes them for its own.

What a broken run goes on with is found by its name alone; from another bank or another network it
would be found just the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from infarct.core.atomic_write import atomic_file
from infarct.core.errors import InputFileError, OutputError


def claim(path: Path, facts: Mapping[str, object], advice: str, *, used: bool = False) -> None:
    """Note what the files of a folder are made from, or make sure that they are.

    Args:
        path: The note, JSON.
        facts: What they are made from, as JSON keeps it.
        advice: What to do if they are of something else.
        used: Whether there are such files: then a note must be there already.

    Raises:
        InputFileError: If they are of something else, or nothing says of what.
        OutputError: If the note cannot be written.
    """
    if path.is_file():
        told = _told(path)
        others = sorted(key for key in {*told, *facts} if told.get(key) != facts.get(key))
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


def _told(path: Path) -> Mapping[str, object]:
    """Return what a note says; nothing where it was half written."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
