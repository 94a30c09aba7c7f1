"""Reports participants, sessions and images of a BIDS dataset that are not processed."""

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
from infarct.core.diffusion import B0_BELOW
from infarct.core.file_search import matching
from infarct.core.units import format_names


def gaps(
    scans: Sequence[BidsScan], root: Path, b0_below: float = B0_BELOW, *, table: bool
) -> list[str]:
    """List everything that is left out of a dataset, one sentence per reason.

    Args:
        scans: All scans of the dataset.
        root: Dataset folder.
        b0_below: As for `find_scans`.
        table: Whether to compare the scans with `participants.tsv`.

    Raises:
        InputFileError: If a folder or `participants.tsv` cannot be read.
    """
    root = root.resolve()
    without_row, without_scans = not_joined(scans, root) if table else ([], [])
    left = unused(root, b0_below)
    found = {
        "no diffusion scan found for": without_scan(scans, root),
        "not used, file name not recognised as a diffusion image:": not_understood(root),
        "not used, parameter maps:": left.maps,
        "not used, matches several scans (an entity such as run- is missing):": left.ambiguous,
        "not used, matches no DWI of its session:": left.unclaimed,
        "participants.tsv has no row for": without_row,
        "participants.tsv has a row but the dataset has no scan for": without_scans,
    }
    messages = [f"{reason} {format_names(names)}" for reason, names in found.items() if names]
    if not (root / "dataset_description.json").is_file():
        messages.insert(0, "dataset_description.json is missing; file names are still read as BIDS")
    return messages


def without_scan(scans: Sequence[BidsScan], root: Path) -> list[str]:
    """Return participants and sessions without a diffusion scan.

    Args:
        scans: All scans of the dataset.
        root: Dataset folder.

    Returns:
        Participants without a diffusion scan, as `sub-X`, and sessions that have a `dwi` folder but
        no scan, as `sub-X/ses-Y`.
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
    """Return images in `dwi` folders whose names are not those of a diffusion image.

    They are other kinds of maps, or scans whose names do not follow BIDS.

    Args:
        root: Dataset folder.

    Returns:
        Paths relative to `root`.
    """
    return [
        path.relative_to(root).as_posix()
        for home in participants_of(root)
        for path in files_of(home, ["dwi"])
        if not _is_of(path, home.name)
    ]


def not_joined(scans: Sequence[BidsScan], root: Path) -> tuple[list[str], list[str]]:
    """Find mismatches between `participants.tsv` and the scans, e.g. after lost leading zeros.

    Args:
        scans: All scans of the dataset.
        root: Dataset folder; if it has no table, both results are empty.

    Returns:
        Names of scans without a row, and participants in the table without a folder.

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
    """Return whether a file is named as a diffusion image of this participant."""
    name = read_name(path.name)
    if name is None or name.role is None:
        return False
    return f"sub-{name.entities.get('sub')}" == participant
