"""Group the DICOM files in a folder into series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infarct.core.diffusion import B0_BELOW
from infarct.core.errors import ContentError, InputFileError
from infarct.core.file_search import files_below
from infarct.dicom.headers import (
    NO_MAGNITUDE,
    OTHER_MAP,
    UNNAMED,
    Content,
    Frame,
    Header,
    Unreadable,
    read_header,
)

_SAME_PLACE_MM = 0.1


@dataclass(frozen=True)
class Series:
    """One DICOM series.

    Attributes:
        uid: SeriesInstanceUID.
        study_uid: StudyInstanceUID.
        frame_of_reference: FrameOfReferenceUID; series with the same value share coordinates.
        studied: Date and time of the study, see `Header.studied`; may be displayed, never stored.
        number: Series number.
        description: Free text entered by the operator; may be displayed but is never stored.
        maker: Siemens, GE, Philips, Canon, United Imaging, or another manufacturer.
        content: Use of the series.
        reason: Reason for `content`.
        mosaic: Whether each file stores a complete volume as tiles.
        headers: Headers of all files, sorted by InstanceNumber.
    """

    uid: str
    study_uid: str
    frame_of_reference: str
    studied: tuple[int, int]
    number: int
    description: str
    maker: str
    content: Content
    reason: str
    mosaic: bool
    headers: tuple[Header, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the series, without duplicates."""
        return tuple(dict.fromkeys(h.frames[0].path for h in self.headers if h.frames))

    @property
    def useful(self) -> Series:
        """The series without files that are neither signal nor ADC map.

        Scanners may store phase images, reports and presentation states in the same series.
        """
        return replace(
            self, headers=tuple(h for h in self.headers if self.content_of(h) != "other")
        )

    @property
    def left_out(self) -> tuple[Header, ...]:
        """Images that are not used although they may be slices of the scan, such as damaged ones.

        Phase images and parameter maps, which scanners store in the same series, do not count.
        """
        return tuple(
            header
            for header in self.headers
            if self.content_of(header) == "other"
            and header.reason not in {NO_MAGNITUDE, OTHER_MAP}
            and any(frame.orientation for frame in header.frames)
        )

    @property
    def frames(self) -> tuple[Frame, ...]:
        """Frames with the content of the series (magnitude only, if phase images are present)."""
        return self.frames_of(self.content)

    def frames_of(self, content: Content) -> tuple[Frame, ...]:
        """Return the frames with the given content."""
        return tuple(f for h in self.headers if self.content_of(h) == content for f in h.frames)

    def content_of(self, header: Header) -> Content:
        """Return the content of a file; an unidentified file has the content of its series."""
        return self.content if header.reason == UNNAMED else header.content

    @property
    def study_date(self) -> str:
        """Date and time of the study for display; never stored."""
        day, time = f"{self.studied[0]:08d}", f"{self.studied[1]:06d}"
        known = self.studied[0] > 0
        return f"{day[:4]}-{day[4:6]}-{day[6:]} {time[:2]}:{time[2:4]}" if known else "no date"

    @property
    def acquired(self) -> tuple[float, float] | None:
        """First and last acquisition time, see `Header.acquired`; None if unknown."""
        times = [header.acquired for header in self.headers if header.acquired is not None]
        return (min(times), max(times)) if times else None

    @property
    def cited(self) -> frozenset[str]:
        """UIDs of all images referenced by the files."""
        return frozenset().union(*(header.cited for header in self.headers))

    @property
    def bvalues(self) -> tuple[float, ...]:
        """Distinct b-values in the headers, s/mm^2, rounded, in ascending order."""
        return tuple(sorted({round(f.bvalue) for f in self.frames if f.bvalue is not None}))


@dataclass(frozen=True)
class Contents:
    """Contents of a folder.

    Attributes:
        series: All image series, sorted by study and number, including those without diffusion.
        unreadable: DICOM files that cannot be read.
        other_files: Number of files that are not DICOM.
    """

    series: tuple[Series, ...]
    unreadable: tuple[Unreadable, ...]
    other_files: int

    @property
    def losses(self) -> str:
        """Number of unreadable files with reasons, without file names; empty if there are none."""
        if not self.unreadable:
            return ""
        reasons = Counter(each.reason for each in self.unreadable)
        listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        files = "file" if len(self.unreadable) == 1 else "files"
        return f"{len(self.unreadable)} {files} could not be read ({listed})"


def find_series(folder: Path) -> list[Series]:
    """Read the headers of all files in a folder, recursively, and group them into series.

    Args:
        folder: Export of a scanner, a PACS or a CD; files that are not DICOM are ignored.

    Returns:
        All image series, sorted by study and number, including those without diffusion.

    Raises:
        InputFileError: If the folder does not exist or contains no DICOM image.
        ContentError: If the diffusion series belong to more than one patient.
    """
    return list(read_folder(folder).series)


def read_folder(folder: Path) -> Contents:
    """Like `find_series`, but also report the files that belong to no series."""
    if not folder.is_dir():
        raise InputFileError(
            f"{folder}: no such folder; give the folder that contains the DICOM files"
        )
    headers: dict[str, list[Header]] = {}
    known: dict[str, Header] = {}
    unreadable: list[Unreadable] = []
    other_files = 0
    files = list(files_below(folder))
    for path in files:
        if not path.exists():
            unreadable.append(Unreadable(path, "broken link"))
            continue
        # Copies count once: a series that was partly exported twice would seem to lack slices.
        # Skip pipes and devices: reading them would block.
        read = read_header(path) if path.is_file() else None
        if isinstance(read, Unreadable):
            unreadable.append(read)
        elif read is None:
            other_files += 1
        elif not read.uid or read.uid not in known:
            known[read.uid] = read
            headers.setdefault(read.series_uid, []).append(read)
        elif not _is_copy(read, known[read.uid]):
            fault = "its SOPInstanceUID is used by another image"
            headers.setdefault(read.series_uid, []).append(replace(read, fault=fault))
    found = [_series(group) for group in headers.values()]
    contents = Contents(
        tuple(sorted(found, key=lambda s: (s.study_uid, s.number, s.uid))),
        tuple(unreadable),
        other_files,
    )
    if not found:
        losses = f"; {contents.losses}" if unreadable else ""
        raise InputFileError(
            f"{folder}: none of its {len(files)} files is a readable DICOM image{losses}; "
            "give the folder that contains the DICOM files"
        )
    _check_one_patient(folder, contents.series)
    return contents


def _is_copy(header: Header, first: Header) -> bool:
    """Return whether a file is a copy, not another image with the same UID."""
    here = tuple(replace(frame, path=first.frames[0].path) for frame in header.frames)
    same_place = (here, header.tiles) == (first.frames, first.tiles)
    return same_place and (header.series_uid, header.instance) == (first.series_uid, first.instance)


def _check_one_patient(folder: Path, series: Sequence[Series]) -> None:
    """Raise ContentError if the diffusion series belong to more than one patient.

    Names are compared only if PatientID is empty, since names change and spellings vary. Files
    without both are assumed to belong to the same patient as the others.
    """
    numbers: dict[tuple[str, str], set[int]] = {}
    for each in series:
        if each.content != "other":
            for header in each.useful.headers:
                numbers.setdefault(header.patient, set()).add(each.number)
    names = {name for number, name in numbers if number and name}
    patients: dict[str, set[int]] = {}
    for (number, name), found in numbers.items():
        if number or (name and name not in names):
            patients.setdefault(f"ID {number}" if number else name, set()).update(found)
    if len(patients) > 1:
        listed = " and ".join(_series_numbers(found) for found in patients.values())
        raise ContentError(
            f"{folder}: contains diffusion series of {len(patients)} patients ({listed}); "
            "give a folder with the scans of one patient"
        )


def _series_numbers(numbers: set[int]) -> str:
    return "series " + ", ".join(map(str, sorted(numbers)))


def check_complete(series: Series) -> None:
    """Check that no slices are missing: the converted volume would be compressed.

    Args:
        series: Any series; mosaics always pass, since they cannot lose single slices.

    Raises:
        ContentError: If slices are unevenly spaced, if the number of images differs between slice
            positions, or if only some slices of a volume have a b-value.
    """
    stacks = list(_stacks(series))
    # Check this first: the other images of these volumes would look as if files were missing.
    _check_without_bvalue(series, stacks)
    first: NDArray[np.float64] | None = None
    for frames in stacks:
        at, level = levels(frames)
        counts = np.bincount(level)
        steps = np.diff(at)
        if len(at) > 2 and np.ptp(steps) > max(0.05 * float(np.median(steps)), 0.05):
            raise ContentError(
                f"series {series.number}: slices are {steps.min():.2f} to {steps.max():.2f} mm "
                "apart, so some seem to be missing; export the complete series again"
            )
        first = at if first is None else first
        same_levels = len(at) == len(first) and np.allclose(at, first, atol=_SAME_PLACE_MM)
        if counts.min() != counts.max() or not same_levels:
            raise ContentError(
                f"series {series.number}: some volumes have fewer slices than others, "
                "so files are missing; export the complete series again"
            )


def _check_without_bvalue(series: Series, stacks: list[list[Frame]]) -> None:
    """Raise ContentError if images without a b-value do not form complete volumes."""
    if not stacks or stacks[-1][0].bvalue is not None:
        return
    without = len(stacks[-1])
    at, level = levels([frame for frames in stacks for frame in frames])
    counts = np.bincount(level[-without:], minlength=len(at))
    if counts.min() != counts.max():
        raise ContentError(
            f"series {series.number}: {without} of its {len(series.frames)} images have no b-value "
            "and do not form complete volumes; export the series again from the scanner"
        )


def levels(frames: Sequence[Frame]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Find the slice positions along the normal.

    Args:
        frames: Frames with position and orientation; the orientation of the first is used for all.

    Returns:
        (N,) slice positions, mm, ascending, and the index of its slice position for each frame.
    """
    plane = np.array(frames[0].orientation)
    normal = np.cross(plane[:3], plane[3:])
    along = np.array([frame.position for frame in frames]) @ normal
    order = np.argsort(along)
    # The last digits vary between volumes: merge positions that are this close.
    rising = np.cumsum(np.diff(along[order], prepend=along[order[0]]) > _SAME_PLACE_MM)
    level = np.empty(len(frames), np.intp)
    level[order] = rising
    return np.bincount(level, weights=along) / np.bincount(level), level


def _stacks(series: Series) -> Iterator[list[Frame]]:
    """Yield frames with known position: b0, weighted, and those without b-value, separately."""
    placed = [frame for frame in series.frames if frame.position and frame.orientation]
    for weighted in (False, True, None):
        frames = [
            frame
            for frame in placed
            if (None if frame.bvalue is None else frame.bvalue >= B0_BELOW) is weighted
        ]
        if frames:
            yield frames


def _series(headers: list[Header]) -> Series:
    """Combine the files of one series; the most useful content among them counts."""
    order: tuple[Content, ...] = ("signal", "adc", "other")

    def rank(header: Header) -> tuple[int, bool]:
        weighted = any((frame.bvalue or 0) >= B0_BELOW for frame in header.frames)
        return order.index(header.content), not weighted

    lead = min(headers, key=rank)
    return Series(
        uid=lead.series_uid,
        study_uid=lead.study_uid,
        frame_of_reference=lead.frame_of_reference,
        studied=lead.studied,
        number=lead.number,
        description=lead.description,
        maker=lead.maker,
        content=lead.content,
        reason=lead.reason,
        mosaic=lead.mosaic,
        headers=tuple(sorted(headers, key=lambda header: header.instance)),
    )
