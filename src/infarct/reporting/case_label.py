"""The label of a case: what identifies it on its page, and where the other pages are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infarct.core.serialization import as_utf8


@dataclass(frozen=True)
class CaseLabel:
    """What identifies a case in its report.

    Attributes:
        id: Case id or pseudonym; the name of the output folder if empty.
        scan_date: Date of the scan, only if it may be shown; empty otherwise.
        links: Other pages, relative to the result folder: any of `group`, `previous` and `next`.
    """

    id: str = ""
    scan_date: str = ""
    links: Mapping[str, str] = field(default_factory=dict)

    def record(self, folder_name: str) -> dict[str, Any]:
        """Return the entry `case` of `manifest.json`.

        Args:
            folder_name: Name of the output folder.
        """
        return {
            "id": _one_line(self.id or folder_name),
            "scan_date": _one_line(self.scan_date) or None,
            "links": dict(self.links),
        }


def stored_label(manifest: Mapping[str, Any]) -> CaseLabel:
    """Return the label of a stored result; without id if an earlier version wrote it."""
    record = manifest.get("case") or {}
    old = (manifest.get("cohort") or {}).get("id", "")
    return CaseLabel(
        record.get("id", old), record.get("scan_date") or "", record.get("links") or {}
    )


def _one_line(text: str) -> str:
    return as_utf8(" ".join(text.split()))
