"""What lies in a folder of DICOM files, series by series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infarct.dicom.headers import UNNAMED, Content, Frame, Header, read_header
from infarct.errors import ContentError, InputFileError
from infarct.folders import files_below
from infarct.intensity import B0_BELOW

_SAME_PLACE_MM = 0.1


@dataclass(frozen=True)
class Series:
    """One series.

    Attributes:
        uid: SeriesInstanceUID.
        study_uid: StudyInstanceUID.
        frame_of_reference: Series that share it share a coordinate system.
        studied: Date and time of the study, as `Header.studied`; may be shown, never stored.
        number: Series number.
        description: Free text of the technician; may be shown, never stored.
        maker: Siemens, GE, Philips, Canon, United Imaging, or another maker.
        content: What it may serve as.
        reason: Why.
        mosaic: Its files hold whole volumes as tiles.
        headers: Of all its files, in the order the scanner numbered them.
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
        """All its files, each once."""
        return tuple(dict.fromkeys(h.frames[0].path for h in self.headers if h.frames))

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The frames of what it serves as: of magnitude and phase side by side, the magnitude."""
        return self.frames_of(self.content)

    def frames_of(self, content: Content) -> tuple[Frame, ...]:
        """Return the frames that serve as one thing."""
        return tuple(f for h in self.headers if self.content_of(h) == content for f in h.frames)

    def content_of(self, header: Header) -> Content:
        """Say what a file serves as in this series: a b0 may be known by its company alone."""
        return self.content if header.reason == UNNAMED else header.content

    @property
    def study_date(self) -> str:
        """Date and time of the study for people, as far as its headers give it; never stored."""
        day, time = f"{self.studied[0]:08d}", f"{self.studied[1]:06d}"
        known = self.studied[0] > 0
        return f"{day[:4]}-{day[4:6]}-{day[6:]} {time[:2]}:{time[2:4]}" if known else "no date"

    @property
    def acquired(self) -> tuple[float, float] | None:
        """When its first and its last file were acquired, as `Header.acquired`; None if unknown."""
        times = [header.acquired for header in self.headers if header.acquired is not None]
        return (min(times), max(times)) if times else None

    @property
    def cited(self) -> frozenset[str]:
        """UIDs of the images its files name."""
        return frozenset().union(*(header.cited for header in self.headers))

    @property
    def bvalues(self) -> tuple[float, ...]:
        """The distinct b-values its headers give, s/mm^2, rounded, rising."""
        return tuple(sorted({round(f.bvalue) for f in self.frames if f.bvalue is not None}))


def find_series(folder: Path) -> list[Series]:
    """Read the headers of all files in and under a folder and sort them into series.

    Args:
        folder: Anything a scanner, a PACS or a CD left; other files are passed over.

    Returns:
        All series of images, by study and number, those without diffusion too.

    Raises:
        InputFileError: If the folder is missing or holds no DICOM image.
        ContentError: If it holds more than one patient.
    """
    if not folder.is_dir():
        raise InputFileError(
            f"{folder}: no such folder; give the folder that holds the DICOM files"
        )
    headers: dict[str, list[Header]] = {}
    known: set[str] = set()
    files = sorted(path for path in files_below(folder) if path.is_file())
    for path in files:
        header = read_header(path)
        # Half a series exported twice would look like volumes that lack slices.
        if header is not None and (not header.uid or header.uid not in known):
            known.add(header.uid)
            headers.setdefault(header.series_uid, []).append(header)
    if not headers:
        raise InputFileError(
            f"{folder}: none of its {len(files)} files is a DICOM image; "
            "give the folder that holds the DICOM files"
        )
    patients = {header.patient for group in headers.values() for header in group}
    if len(patients) > 1:
        raise ContentError(
            f"{folder}: holds scans of {len(patients)} patients; give the folder of one"
        )
    found = [_series(group) for group in headers.values()]
    return sorted(found, key=lambda s: (s.study_uid, s.number, s.uid))


def check_complete(series: Series) -> None:
    """Refuse a series in which slices are missing, before it becomes a squeezed volume.

    Args:
        series: Of any maker; mosaics, whose slices cannot go missing one by one, pass.

    Raises:
        ContentError: If slices are unevenly spaced, or there more often at one place than another.
    """
    first: NDArray[np.float64] | None = None
    for frames in _stacks(series):
        at, level = levels(frames)
        counts = np.bincount(level)
        steps = np.diff(at)
        if len(at) > 2 and np.ptp(steps) > max(0.05 * float(np.median(steps)), 0.05):
            raise ContentError(
                f"series {series.number}: its slices lie {steps.min():.2f} to "
                f"{steps.max():.2f} mm apart, as if some were missing; export it again, whole"
            )
        first = at if first is None else first
        same_levels = len(at) == len(first) and np.allclose(at, first, atol=_SAME_PLACE_MM)
        if counts.min() != counts.max() or not same_levels:
            raise ContentError(
                f"series {series.number}: some volumes have slices that others lack, "
                "so files are missing; export it again, whole"
            )


def levels(frames: Sequence[Frame]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Find the places along their normal at which frames lie.

    Args:
        frames: Each with position and orientation; that of the first is taken for all.

    Returns:
        (N,) places, mm, rising; and for each frame which of them is its own.
    """
    plane = np.array(frames[0].orientation)
    normal = np.cross(plane[:3], plane[3:])
    along = np.array([frame.position for frame in frames]) @ normal
    order = np.argsort(along)
    # The last digits drift between volumes: what is this close is one place.
    rising = np.cumsum(np.diff(along[order], prepend=along[order[0]]) > _SAME_PLACE_MM)
    level = np.empty(len(frames), np.intp)
    level[order] = rising
    return np.bincount(level, weights=along) / np.bincount(level), level


def _stacks(series: Series) -> Iterator[list[Frame]]:
    """Yield the frames with a plain place: b0, weighted, and those that give no b-value, apart."""
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
    """Put the files of one series together; the best that any of them can serve as counts."""
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
