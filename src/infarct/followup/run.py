"""The run of one patient: segment what is not yet segmented, compare the scans, and write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np

from infarct.core import assets
from infarct.core.atomic_write import atomic_directory, atomic_file
from infarct.core.errors import FollowUpError, OutputError
from infarct.core.nifti import write
from infarct.core.serialization import write_json
from infarct.core.step_timer import Listener
from infarct.followup.comparison import Comparison, compare
from infarct.followup.mismatch import draw_mismatch
from infarct.followup.page import render
from infarct.followup.registration import align
from infarct.followup.tables import write_follow_tables
from infarct.followup.time_points import TimePoint, check_alignment, read_time_points
from infarct.pipeline import RunRequest, run
from infarct.preprocessing.case import CaseFiles
from infarct.reporting.reader import OUTLINE, find_file, is_result
from infarct.reporting.writer import check_place
from infarct.segmentation.models import DEFAULT

MANIFEST = "manifest.json"

PAGE = "follow.html"


@dataclass(frozen=True)
class FollowRequest:
    """The scans of one patient, and where to write the result.

    Attributes:
        scans: First scan first; each a result folder, or a DWI series with a `.bval` file.
        out: Output folder.
        times: Date of each scan in ISO 8601; if empty, the dates in the results are used.
        model: Method for the scans that are not yet segmented.
        overwrite: Replace an existing follow-up in `out`.
    """

    scans: tuple[Path, ...]
    out: Path
    times: tuple[str, ...] = ()
    model: str = DEFAULT
    overwrite: bool = False


def follow(request: FollowRequest, listener: Listener = lambda _: None) -> list[Comparison]:
    """Compare the scans of one patient and write the report, the tables and the label maps.

    Args:
        request: The scans and where to write the result.
        listener: Called with the name and number of each step of a segmentation.

    Returns:
        Consecutive scans compared and, with more than two, the first with the last.

    Raises:
        FollowUpError: If the scans cannot be compared. If they do not match after registration, a
            picture is written next to the output folder.
        InfarctError: Another subclass that describes the problem and its remedy.
    """
    out = request.out
    _check_request(request)
    with atomic_directory(out, lambda old: _refuse_to_lose(old, out, request.overwrite)) as partial:
        folders = [
            scan
            if is_result(scan)
            else _segmented(scan, partial / f"scan-{number}", request, listener)
            for number, scan in enumerate(request.scans, start=1)
        ]
        points = read_time_points(folders, request.times)
        comparisons = [_compare(*pair, out) for pair in pairwise(points)]
        if len(points) > 2:
            comparisons.append(_compare(points[0], points[-1], out))
        _write(points, comparisons, folders, partial)
    return comparisons


def _check_request(request: FollowRequest) -> None:
    if len(request.scans) < 2:
        raise FollowUpError("one scan was given; give at least two scans of the patient")
    if request.times and len(request.times) != len(request.scans):
        raise FollowUpError(
            f"{len(request.times)} dates were given for {len(request.scans)} scans; give one each"
        )
    check_place(request.out, request.scans)
    if request.out.is_dir():
        _refuse_to_lose(request.out, request.out, request.overwrite)


def _refuse_to_lose(folder: Path, out: Path, overwrite: bool) -> None:
    """Raise unless the folder is empty or holds a follow-up that may be replaced."""
    if not any(folder.iterdir()):
        return
    if not (folder / PAGE).is_file() or not overwrite:
        raise OutputError(
            f"{out} already exists and is not empty; choose another --out, or add --overwrite to "
            "replace an earlier follow-up"
        )


def _segmented(scan: Path, out: Path, request: FollowRequest, listener: Listener) -> Path:
    run(RunRequest(CaseFiles(scan), out, request.model, keep_mni=False), listener)
    return out


def _compare(first: TimePoint, second: TimePoint, out: Path) -> Comparison:
    found = align(first.scan, second.scan)
    try:
        check_alignment(first, second, found)
    except FollowUpError as error:
        picture = out.with_name(f"{out.name}-mismatch.png")
        with atomic_file(picture) as partial:
            partial.write_bytes(draw_mismatch(first, second, found))
        raise FollowUpError(f"{error}; picture: {picture}") from error
    return compare(first, second, found)


def _write(
    points: Sequence[TimePoint],
    comparisons: Sequence[Comparison],
    folders: Sequence[Path],
    folder: Path,
) -> None:
    for comparison in comparisons:
        numbers = [1 + list(points).index(p) for p in (comparison.first, comparison.second)]
        write(comparison.fate, folder / "fate_{}-{}.nii.gz".format(*numbers), np.uint8)
    write_follow_tables(comparisons, folder)
    (folder / PAGE).write_text(render(points, comparisons), encoding="utf-8")
    manifest = {
        "infarct": version("infarct"),
        "scans": [
            {
                "folder": path.name,
                "lesion_mask_sha256": assets.sha256(
                    find_file(path, OUTLINE, point.stored.manifest)
                ),
                "model": point.stored.manifest["model"],
            }
            for path, point in zip(folders, points, strict=True)
        ],
    }
    write_json(manifest, folder / MANIFEST)
