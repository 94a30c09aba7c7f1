"""What lies in a folder of DICOM files, series by series."""

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
from infarct.dicom.headers import UNNAMED, Content, Frame, Header, Unreadable, read_header

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
    def useful(self) -> Series:
        """The same series without the files that are neither signal nor ADC.

        Scanners put phase images, reports and presentation states beside the signal.
        """
        return replace(
            self, headers=tuple(h for h in self.headers if self.content_of(h) != "other")
        )

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


@dataclass(frozen=True)
class Contents:
    """What lies in a folder.

    Attributes:
        series: All series of images, by study and number, those without diffusion too.
        unreadable: Files that should be DICOM but cannot be read.
        other_files: How many files are not DICOM.
    """

    series: tuple[Series, ...]
    unreadable: tuple[Unreadable, ...]
    other_files: int

    @property
    def losses(self) -> str:
        """How many files could not be read, and why; empty if all could. Names no file."""
        if not self.unreadable:
            return ""
        reasons = Counter(each.reason for each in self.unreadable)
        listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        files = "file" if len(self.unreadable) == 1 else "files"
        return f"{len(self.unreadable)} {files} could not be read ({listed})"


def find_series(folder: Path) -> list[Series]:
    """Read the headers of all files in and under a folder and sort them into series.

    Args:
        folder: Anything a scanner, a PACS or a CD left; other files are passed over.

    Returns:
        All series of images, by study and number, those without diffusion too.

    Raises:
        InputFileError: If the folder is missing or holds no DICOM image.
        ContentError: If its diffusion series are of more than one patient.
    """
    return list(read_folder(folder).series)


def read_folder(folder: Path) -> Contents:
    """Read a folder as `find_series` does, and account for the files that are not in a series."""
    if not folder.is_dir():
        raise InputFileError(
            f"{folder}: no such folder; give the folder that holds the DICOM files"
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
        # Half a series exported twice would look like volumes that lack slices: copies count once.
        # Reading a pipe or a device would wait for ever.
        read = read_header(path) if path.is_file() else None
        if isinstance(read, Unreadable):
            unreadable.append(read)
        elif read is None:
            other_files += 1
        elif not read.uid or read.uid not in known:
            known[read.uid] = read
            headers.setdefault(read.series_uid, []).append(read)
        elif not _is_copy(read, known[read.uid]):
            fault = "not the only image under its SOPInstanceUID"
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
            f"{folder}: none of its {len(files)} files is a DICOM image that can be read{losses}; "
            "give the folder that holds the DICOM files"
        )
    _check_one_patient(folder, contents.series)
    return contents


def _is_copy(header: Header, first: Header) -> bool:
    """Tell a file that was exported twice from another image under the same UID."""
    here = tuple(replace(frame, path=first.frames[0].path) for frame in header.frames)
    same_place = (here, header.tiles) == (first.frames, first.tiles)
    return same_place and (header.series_uid, header.instance) == (first.series_uid, first.instance)


def _check_one_patient(folder: Path, series: Sequence[Series]) -> None:
    """Refuse diffusion series of more than one patient; an empty PatientID is not a patient.

    Names are compared only where there is no PatientID: a name may change or be spelled in several
    ways, and a patient without either is taken for the one whom the others name.
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
        listed = " and ".join(_listed(found) for found in patients.values())
        raise ContentError(
            f"{folder}: holds diffusion series of {len(patients)} patients ({listed}); "
            "give a folder with the scans of one patient"
        )


def _listed(numbers: set[int]) -> str:
    return "series " + ", ".join(map(str, sorted(numbers)))


def check_complete(series: Series) -> None:
    """Refuse a series in which slices are missing, before it becomes a squeezed volume.

    Args:
        series: Of any maker; mosaics, whose slices cannot go missing one by one, pass.

    Raises:
        ContentError: If slices are unevenly spaced, or there more often at one place than another;
            or if only some slices of a volume give a b-value.
    """
    stacks = list(_stacks(series))
    # First, since the other images of those volumes then look as if files were missing.
    _check_without_bvalue(series, stacks)
    first: NDArray[np.float64] | None = None
    for frames in stacks:
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


def _check_without_bvalue(series: Series, stacks: list[list[Frame]]) -> None:
    """Refuse images without a b-value that are not, at every place, equally many."""
    if not stacks or stacks[-1][0].bvalue is not None:
        return
    without = len(stacks[-1])
    at, level = levels([frame for frames in stacks for frame in frames])
    counts = np.bincount(level[-without:], minlength=len(at))
    if counts.min() != counts.max():
        raise ContentError(
            f"series {series.number}: {without} of its {len(series.frames)} images give no b-value "
            "and do not make up whole volumes; export it again from the scanner"
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
