"""One DICOM file without its pixels: what it shows, whichever scanner wrote it."""

from __future__ import annotations

import re
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from infarct.intensity import B0_BELOW

Content = Literal["signal", "adc", "other"]
"""What a file may serve as: signal of a diffusion series (b0 included), ADC map, or nothing."""

ADC_BY_NAME = "ADC by its description"
"""Why a file is called an ADC map when only words say so."""

TRACE = "trace by its image type"
"""Why a file is called the mean of the directions of another series, or of its own."""

UNNAMED = "nothing says diffusion"
"""Why a file serves as nothing when it may still be the b0 of a diffusion series."""

_SIEMENS_B, _GE_B, _UNITED_IMAGING_B, _PHILIPS_B = (
    Tag(tag) for tag in (0x0019100C, 0x00431039, 0x00651009, 0x20011003)
)
_NAMES = (
    *("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("PatientName", "PatientID", "StudyDate", "StudyTime"),
    *("Modality", "Manufacturer", "SeriesNumber", "SeriesDescription", "ProtocolName"),
    *("ImageType", "SequenceName", "NumberOfFrames", "DiffusionBValue"),
    *("InstanceNumber", "AcquisitionNumber", "AcquisitionTime", "AcquisitionDateTime"),
    *("ImagePositionPatient", "ImageOrientationPatient"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("SourceImageSequence", "ReferencedImageSequence"),
)
_PRIVATE = (_SIEMENS_B, _GE_B, _UNITED_IMAGING_B, _PHILIPS_B)
# With the names of their blocks: without, pydicom cannot know the type that files of the implicit
# transfer syntax, or of an archive that forgot it, do not give.
_READ = [*map(Tag, _NAMES), *_PRIVATE, *(Tag(tag.group, tag.element >> 8) for tag in _PRIVATE)]
_MAKERS = {
    "siemens": "Siemens",
    "ge medical": "GE",
    "ge health": "GE",
    "philips": "Philips",
    "canon": "Canon",
    "toshiba": "Canon",
    "uih": "United Imaging",
    "united imaging": "United Imaging",
}
# Maps made from diffusion that are neither signal nor ADC: anisotropy, colours, exponential ADC.
_OTHER_MAPS = re.compile(
    r"\b(?:col)?fa\b|aniso|\beadc\b|expo|tensor$|fib(?:er|re)|tract|\bphase\b|\bcalc|\bsynth",
    re.IGNORECASE,
)
_NO_MAGNITUDE = {"P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY"}
# GE calls the ADC of many directions average DC.
_ADC = re.compile(r"adc|apparent.?diff|\baverage.?dc\b", re.IGNORECASE)
_DIFFUSION = re.compile(r"dwi|dti|diff|trace|\bb ?=? ?\d{3,4}\b", re.IGNORECASE)


@dataclass(frozen=True)
class Frame:
    """One slice as the scanner saved it.

    Attributes:
        path: Its file.
        number: Of the frame in its file, from 1.
        position: ImagePositionPatient, LPS mm; None if the header does not give it plainly.
        orientation: ImageOrientationPatient; None likewise.
        bvalue: s/mm^2; None if the header does not say.
    """

    path: Path
    number: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    bvalue: float | None


@dataclass(frozen=True)
class Header:
    """One file.

    Attributes:
        uid: SOPInstanceUID; copies of a file share it.
        series_uid: SeriesInstanceUID.
        study_uid: StudyInstanceUID.
        frame_of_reference: Images that share it share a coordinate system.
        studied: Date and time of the study, as numbers YYYYMMDD and HHMMSS, 0 where not given; may
            be shown, never stored.
        patient: Tells patients apart; never to be shown or stored.
        number: Series number.
        instance: Number of the file in its series; 0 if the header gives none.
        acquisition: Number of the acquisition, which some makers count by volume; 0 likewise.
        acquired: Time of day of the acquisition, as the number HHMMSS; None if not given. Maps keep
            that of the images they were made from.
        cited: UIDs of the images it names: those it was made from, or was planned on.
        description: Free text of the technician; may be shown, never stored.
        maker: Siemens, GE, Philips, Canon, United Imaging, or another maker.
        content: What the file may serve as.
        reason: Why.
        mosaic: All slices of a volume are tiles of one frame.
        frames: One, or those of a multi-frame file.
    """

    uid: str
    series_uid: str
    study_uid: str
    frame_of_reference: str
    studied: tuple[int, int]
    patient: str
    number: int
    instance: int
    acquisition: int
    acquired: float | None
    cited: frozenset[str]
    description: str
    maker: str
    content: Content
    reason: str
    mosaic: bool
    frames: tuple[Frame, ...]


def read_header(path: Path) -> Header | None:
    """Read the header of one file.

    Args:
        path: Any file.

    Returns:
        What it is, or None if it is no DICOM image.
    """
    with warnings.catch_warnings():
        # Warnings of pydicom quote the values they complain of, names of patients among them.
        warnings.simplefilter("ignore")
        try:
            data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_READ)
            return _header(path, data) if "SeriesInstanceUID" in data else None
        except Exception:
            # A damaged file fails in any way; slices that go missing by it are noticed later.
            return None


def maker_of(data: Dataset) -> str:
    """Name the maker of the scanner."""
    given = str(data.get("Manufacturer", "")).lower()
    return next((name for key, name in _MAKERS.items() if key in given), "another maker")


def _header(path: Path, data: Dataset) -> Header:
    tokens = tuple(str(token).upper() for token in _several(data.get("ImageType")))
    maker = maker_of(data)
    mosaic = bool({"MOSAIC", "VFRAME"} & set(tokens))
    frames = _frames(path, data, maker, mosaic=mosaic)
    # Some makers repeat the series description as the protocol, some put the useful text there.
    description = str(data.get("SeriesDescription") or data.get("ProtocolName") or "")
    content, reason = _content(data, tokens, description, frames)
    return Header(
        uid=str(data.get("SOPInstanceUID", "")),
        series_uid=str(data.SeriesInstanceUID),
        study_uid=str(data.get("StudyInstanceUID", "")),
        frame_of_reference=str(data.get("FrameOfReferenceUID", "")),
        studied=(_digits(data.get("StudyDate"), 8), _digits(data.get("StudyTime"), 6)),
        patient=str(data.get("PatientID") or data.get("PatientName") or ""),
        number=int(data.get("SeriesNumber") or 0),
        instance=int(data.get("InstanceNumber") or 0),
        acquisition=int(data.get("AcquisitionNumber") or 0),
        acquired=_acquired(data),
        cited=_cited(data),
        description=description,
        maker=maker,
        content=content,
        reason=reason,
        mosaic=mosaic,
        frames=frames,
    )


def _content(
    data: Dataset, tokens: tuple[str, ...], description: str, frames: tuple[Frame, ...]
) -> tuple[Content, str]:
    modality = str(data.get("Modality", ""))
    words = description.replace("_", " ")
    weighted = any(frame.bvalue is not None and frame.bvalue >= B0_BELOW for frame in frames)
    # What was acquired with weighting is signal, whatever words a technician chose.
    maybe_map = "DERIVED" in tokens or not weighted
    other_map = any(_OTHER_MAPS.search(text) for text in (*tokens, words if maybe_map else ""))
    # All series of a protocol share its name: of a weighted image only its own description counts.
    own_words = str(data.get("SeriesDescription", "")) if weighted else words
    named_adc = maybe_map and bool(_ADC.search(own_words.replace("_", " ")))
    # The first that holds decides.
    rules: tuple[tuple[bool, Content, str], ...] = (
        (modality != "MR", "other", f"modality {modality or 'not given'}"),
        (bool(_NO_MAGNITUDE & set(tokens[2:])), "other", "phase or the like, not magnitude"),
        (other_map, "other", "a map that is neither signal nor ADC"),
        (any(token.startswith("ADC") for token in tokens), "adc", "ADC by its image type"),
        ("TRACEW" in tokens, "signal", TRACE),
        (named_adc, "adc", ADC_BY_NAME),
        (weighted, "signal", "b-values in its headers"),
        ("DIFFUSION" in tokens, "signal", "diffusion by its image type"),
        (bool(_DIFFUSION.search(words)), "signal", "diffusion by its description"),
        (True, "other", UNNAMED),
    )
    return next((content, reason) for holds, content, reason in rules if holds)


def _frames(path: Path, data: Dataset, maker: str, *, mosaic: bool) -> tuple[Frame, ...]:
    per_frame = data.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        position = None if mosaic else _numbers(data.get("ImagePositionPatient"))
        orientation = _numbers(data.get("ImageOrientationPatient"))
        return (Frame(path, 1, position, orientation, _bvalue(data, maker)),)
    shared = (data.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frames = []
    for number, group in enumerate(per_frame, start=1):
        place = _item(group, "PlanePositionSequence") or _item(shared, "PlanePositionSequence")
        plane = _item(group, "PlaneOrientationSequence") or _item(
            shared, "PlaneOrientationSequence"
        )
        diffusion = _item(group, "MRDiffusionSequence") or _item(shared, "MRDiffusionSequence")
        bvalue = _number(diffusion.get("DiffusionBValue"))
        frames.append(
            Frame(
                path,
                number,
                _numbers(place.get("ImagePositionPatient")),
                _numbers(plane.get("ImageOrientationPatient")),
                # A scanner that gives no b-value may still say that there was no weighting.
                0.0
                if bvalue is None and diffusion.get("DiffusionDirectionality") == "NONE"
                else bvalue,
            )
        )
    return tuple(frames)


def _digits(value: Any, count: int) -> int:
    given = re.match(rf"\d{{{count}}}", str(value or ""))
    return int(given[0]) if given else 0


def _acquired(data: Dataset) -> float | None:
    # Multi-frame files give date and time in one.
    given = data.get("AcquisitionTime") or str(data.get("AcquisitionDateTime") or "")[8:]
    time = re.match(r"\d{6}(?:\.\d+)?", str(given))
    return float(time[0]) if time else None


def _cited(data: Dataset) -> frozenset[str]:
    shared = data.get("SharedFunctionalGroupsSequence") or []
    groups = [*shared, *(data.get("PerFrameFunctionalGroupsSequence") or [])]
    derived = [item for group in groups for item in group.get("DerivationImageSequence") or []]
    named = [
        item
        for place in (data, *derived)
        for name in ("SourceImageSequence", "ReferencedImageSequence")
        for item in place.get(name) or []
    ]
    return frozenset(str(item.get("ReferencedSOPInstanceUID", "")) for item in named)


def _bvalue(data: Dataset, maker: str) -> float | None:
    """Return the b-value of a classic file, s/mm^2, from wherever its maker keeps it."""
    standard = _number(data.get("DiffusionBValue"))
    if standard is not None:
        return standard
    if maker == "Siemens":
        named = re.search(r"_b(\d+)", str(data.get("SequenceName", "")))
        private = _number(_value(data, _SIEMENS_B))
        return float(named[1]) if private is None and named else private
    if maker == "GE":
        # The first of four numbers; some releases add 10^9 to it.
        first = _number((_several(_value(data, _GE_B)) or (None,))[0])
        return None if first is None else first % 100_000
    if maker == "Philips":
        return _number(_value(data, _PHILIPS_B))
    if maker == "United Imaging":
        return _number(_value(data, _UNITED_IMAGING_B))
    return None


def _item(data: Dataset, name: str) -> Dataset:
    items = data.get(name)
    return items[0] if items else Dataset()


def _value(data: Dataset, tag: BaseTag) -> Any:
    element = data.get(tag)
    return None if element is None else element.value


def _several(value: Any) -> tuple[Any, ...]:
    if value is None or isinstance(value, str | bytes | int | float):
        return () if value is None else (value,)
    return tuple(value)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        # A private number whose type is on no list of pydicom's, as United Imaging's, stays raw.
        raw = value if isinstance(value, bytes) else b""
        return float(struct.unpack("<d", raw)[0]) if len(raw) == 8 else None


def _numbers(value: Any) -> tuple[float, ...] | None:
    numbers = tuple(_number(v) for v in _several(value))
    return tuple(n for n in numbers if n is not None) if numbers and None not in numbers else None
