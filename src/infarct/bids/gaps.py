"""What a BIDS dataset holds that ends in no result: who would hardly be missed must be named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from infarct.bids.dataset import (
    BidsScan,
    files_of,
    participants_of,
    unused,
)
from infarct.bids.participants import read_participants, row_of
from infarct.core.bids_names import read_name
from infarct.core.file_search import matching

_MOST_NAMES = 10


def gaps(scans: Sequence[BidsScan], root: Path, *, table: bool) -> list[str]:
    """Say in sentences who and what is left out of a dataset, and where its table does not fit.

    Args:
        scans: All of the dataset.
        root: Its folder.
        table: Whether `participants.tsv` is asked too.

    Raises:
        InputFileError: If a folder or `participants.tsv` cannot be read.
    """
    root = root.resolve()
    without_row, without_scans = not_joined(scans, root) if table else ([], [])
    left = unused(root)
    found = {
        "no diffusion scan was found of": without_scan(scans, root),
        "not used, file name is not that of a diffusion image:": not_understood(root),
        "not used, parameter maps:": left.maps,
        "not used, could belong to several scans (an entity such as run- is missing):": (
            left.ambiguous
        ),
        "not used, belongs to no DWI of its session:": left.unclaimed,
        "participants.tsv has no row of": without_row,
        "participants.tsv has a row, but there is no scan, of": without_scans,
    }
    told = [f"{said} {_listed(names)}" for said, names in found.items() if names]
    if not (root / "dataset_description.json").is_file():
        told.insert(
            0, "dataset_description.json is missing; file names are read as BIDS all the same"
        )
    return told


def without_scan(scans: Sequence[BidsScan], root: Path) -> list[str]:
    """Return who is left out, though nobody chose to.

    Args:
        scans: All of the dataset.
        root: Its folder.

    Returns:
        Participants of whom no diffusion scan was found, as `sub-X`, and sessions with a folder
        `dwi` of which none was, as `sub-X/ses-Y`.
    """
    found = {(scan.entities["sub"], scan.entities.get("ses", "")) for scan in scans}
    participants = {participant for participant, _ in found}
    left_out = []
    for home in participants_of(root):
        if home.name.removeprefix("sub-") not in participants:
            left_out.append(home.name)
            continue
        sessions = sorted(path.parent.name for path in matching(home, "ses-*/dwi"))
        left_out += [
            f"{home.name}/{session}"
            for session in sessions
            if (home.name.removeprefix("sub-"), session.removeprefix("ses-")) not in found
        ]
    return left_out


def not_understood(root: Path) -> list[str]:
    """Return the images in the folders `dwi` of a dataset that are no part of a scan by their name.

    They are maps of another kind, or a scan whose name is not as BIDS has it.

    Args:
        root: Folder of the dataset.

    Returns:
        Names of files, each with its folders below `root`.
    """
    return [
        path.relative_to(root).as_posix()
        for home in participants_of(root)
        for path in files_of(home, ["dwi"])
        if not _is_of(path, home.name)
    ]


def not_joined(scans: Sequence[BidsScan], root: Path) -> tuple[list[str], list[str]]:
    """Say what `participants.tsv` and the scans do not have in common, as of a lost leading zero.

    Args:
        scans: All of the dataset.
        root: Its folder; without a table nothing is said.

    Returns:
        Names of the scans that no row speaks of, and participants in rows who have no folder.

    Raises:
        InputFileError: If the table cannot be read.
    """
    table = read_participants(root / "participants.tsv")
    if not table:
        return [], []
    there = {home.name for home in participants_of(root)}
    return (
        [scan.name for scan in scans if not row_of(scan, table)],
        [f"sub-{label}" for label in table if f"sub-{label}" not in there],
    )


def _is_of(path: Path, participant: str) -> bool:
    """Tell whether a name is one of BIDS, of this participant, and of what is looked for."""
    name = read_name(path.name)
    if name is None or name.role is None:
        return False
    return f"sub-{name.entities.get('sub')}" == participant


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(names[:_MOST_NAMES])}{more}"
