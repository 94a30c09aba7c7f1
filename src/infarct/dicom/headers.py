"""One DICOM file without its pixels: what it shows, whichever scanner wrote it."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import UID

from infarct.core.diffusion import B0_BELOW
from infarct.dicom import mosaic as mosaics
from infarct.dicom.elements import (
    as_number,
    as_numbers,
    as_tuple,
    comparable_name,
    first_item,
    get_integer,
    get_value,
    printable_text,
    sequence_items,
    tag_value,
)
from infarct.dicom.pixel_data import pixel_fault

Content = Literal["signal", "adc", "other"]
"""What a file may serve as: signal of a diffusion series (b0 included), ADC map, or nothing."""

ADC_BY_NAME = "ADC by its description"
"""Why a file is called an ADC map when only words say so."""

TRACE = "trace by its image type"
"""Why a file is called the mean of the directions of another series, or of its own."""

UNNAMED = "nothing says diffusion"
"""Why a file serves as nothing when it may still be the b0 of a diffusion series."""

_IMAGE_CLASSES = {
    *("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")
}
"""MR Image, Enhanced MR Image, Legacy Converted Enhanced MR Image."""

_DIRECTORY = "1.2.840.10008.1.3.10"
_DEFLATED = {UID("1.2.840.10008.1.2.1.99"), UID("1.2.840.10008.1.2.8.1")}
_HIGHEST_BVALUE = 20_000.0
"""s/mm^2; more is not a b-value but a damaged header."""

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
    *("SourceImageSequence", "ReferencedImageSequence", "SpecificCharacterSet", "SOPClassUID"),
    *("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "PhotometricInterpretation"),
    *("PixelSpacing", "SpacingBetweenSlices", "SliceThickness"),
)
_PRIVATE = (_SIEMENS_B, _GE_B, _UNITED_IMAGING_B, _PHILIPS_B)
# With the names of their blocks: without, pydicom cannot know the type that files of the implicit
# transfer syntax, or of an archive that forgot it, do not give.
_READ = [*map(Tag, _NAMES), *_PRIVATE, *(Tag(tag.group, tag.element >> 8) for tag in _PRIVATE)]
_MOSAIC_READ = [
    *_READ,
    *(mosaics.TILE_SEQUENCE, mosaics.CSA_IMAGE, mosaics.CSA_SERIES),
    Tag(0x00290010),
]
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
_CREATORS = {
    Tag(0x00190010): ("siemens", "Siemens"),
    Tag(0x00430010): ("gems_", "GE"),
    Tag(0x20010010): ("philips", "Philips"),
    Tag(0x00650010): ("image private header", "United Imaging"),
}
"""Names of private blocks, by which a maker is known when its name was removed."""

# Maps made from diffusion that are neither signal nor ADC: anisotropy, colours, exponential ADC.
_OTHER_MAPS = re.compile(
    r"\b(?:col)?fa\b|aniso|\be(?:xp?)?[ .-]?adc\b|expo|\bexp\b|tensor$|fib(?:er|re)|tract"
    r"|\bphase\b|\bcalc|\bsynth|\bmd\b|mean.?diffusivity|\b[ar]d\b|eigen|\bl[123]\b|\bivim\b"
    r"|kurto|\bmk\b|\brcb[fv]\b|\bmtt\b|\bttp\b|reformat|\bmpr\b|\bmin?ip\b|localizer|\bmask\b",
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
        position: ImagePositionPatient, LPS mm, with as many values as the header gives; None if
            it gives none, or one that is not a number.
        orientation: ImageOrientationPatient; likewise.
        bvalue: s/mm^2; None if the header does not say.
        spacing: PixelSpacing, mm between rows and between columns; likewise.
    """

    path: Path
    number: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    bvalue: float | None
    spacing: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Unreadable:
    """A file that should be DICOM but cannot be used.

    Attributes:
        path: Which; its name may name a patient, so it is never stored.
        reason: Why, in a few words.
    """

    path: Path
    reason: str


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
        patient: PatientID and PatientName, each empty if not given; never to be shown or stored.
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
        shape: Rows and columns of the image; of a mosaic, of all tiles together.
        slice_distance: SpacingBetweenSlices, mm; None if not given.
        thickness: SliceThickness, mm; None if not given.
        tiles: Of a mosaic, where each tile lies, LPS mm; empty if the header does not say.
        fault: Why its pixels cannot be used; empty if nothing is wrong.
        bare: The file lacks the preamble of DICOM files.
    """

    uid: str
    series_uid: str
    study_uid: str
    frame_of_reference: str
    studied: tuple[int, int]
    patient: tuple[str, str]
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
    shape: tuple[int, int] = (0, 0)
    slice_distance: float | None = None
    thickness: float | None = None
    tiles: tuple[tuple[float, float, float], ...] = ()
    fault: str = ""
    bare: bool = False


def read_header(path: Path) -> Header | Unreadable | None:
    """Read the header of one file.

    Args:
        path: Any file.

    Returns:
        The header; why the file cannot be read; or None if it is not DICOM, or a directory
        (DICOMDIR).
    """
    with warnings.catch_warnings():
        # Warnings of pydicom quote the values they complain of, names of patients among them.
        warnings.simplefilter("ignore")
        try:
            with path.open("rb") as file:
                return _read(path, file)
        except OSError:
            return Unreadable(path, "cannot be opened")
        except Exception:
            # A damaged file fails in any way.
            return Unreadable(path, "damaged header")


def maker_of(data: Dataset) -> str:
    """Name the maker of the scanner."""
    given = str(get_value(data, "Manufacturer") or "").lower()
    for key, name in _MAKERS.items():
        if key in given:
            return name
    for tag, (key, name) in _CREATORS.items():
        if str(tag_value(data, tag) or "").lower().startswith(key):
            return name
    return "another maker"


def _read(path: Path, file: BinaryIO) -> Header | Unreadable | None:
    start = file.read(132)
    if not start:
        return Unreadable(path, "empty")
    bare = start[128:] != b"DICM"
    # Without its preamble a file begins with the first element, of group 0002 or 0008.
    if bare and not (start[:1] in (b"\x02", b"\x08") and start[1:2] == start[3:4] == b"\0"):
        return None
    file.seek(0)
    if not bare:
        syntax = read_file_meta_info(path).get("TransferSyntaxUID")
        if syntax in _DEFLATED:
            # Not even the header is read: a small file may unpack to gigabytes.
            return Unreadable(path, f"deflated transfer syntax {syntax}")
        file.seek(0)
    data = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_READ, force=bare)
    if data.file_meta.get("MediaStorageSOPClassUID") == _DIRECTORY:
        return None
    if not get_value(data, "SeriesInstanceUID"):
        # Without a preamble it may as well be a file of another kind.
        return None if bare else Unreadable(path, "no SeriesInstanceUID")
    fault = pixel_fault(file, data)
    if _is_mosaic(data):
        file.seek(0)
        data = pydicom.dcmread(
            file, stop_before_pixels=True, specific_tags=_MOSAIC_READ, force=bare
        )
    return replace(_header(path, data, fault), bare=bare)


def _is_mosaic(data: Dataset) -> bool:
    return bool(
        {"MOSAIC", "VFRAME"} & {str(t).upper() for t in as_tuple(get_value(data, "ImageType"))}
    )


def _header(path: Path, data: Dataset, fault: str) -> Header:
    tokens = tuple(str(token).upper() for token in as_tuple(get_value(data, "ImageType")))
    maker = maker_of(data)
    mosaic = _is_mosaic(data)
    frames = _frames(path, data, maker, mosaic=mosaic)
    # Some makers repeat the series description as the protocol, some put the useful text there.
    description = printable_text(
        get_value(data, "SeriesDescription") or get_value(data, "ProtocolName")
    )
    content, reason = _content(data, tokens, description, frames)
    tiles = _tiles(data, maker, frames[0]) if mosaic else ()
    return Header(
        uid=printable_text(get_value(data, "SOPInstanceUID")),
        series_uid=printable_text(get_value(data, "SeriesInstanceUID")),
        study_uid=printable_text(get_value(data, "StudyInstanceUID")),
        frame_of_reference=printable_text(get_value(data, "FrameOfReferenceUID")),
        studied=(
            _digits(get_value(data, "StudyDate"), 8),
            _digits(get_value(data, "StudyTime"), 6),
        ),
        patient=(
            printable_text(get_value(data, "PatientID")).casefold(),
            comparable_name(get_value(data, "PatientName")),
        ),
        number=get_integer(data, "SeriesNumber"),
        instance=get_integer(data, "InstanceNumber"),
        acquisition=get_integer(data, "AcquisitionNumber"),
        acquired=_acquired(data),
        cited=_cited(data),
        description=description,
        maker=maker,
        content=content,
        reason=reason,
        mosaic=mosaic,
        frames=frames,
        shape=(get_integer(data, "Rows"), get_integer(data, "Columns")),
        slice_distance=as_number(get_value(data, "SpacingBetweenSlices")),
        thickness=as_number(get_value(data, "SliceThickness")),
        tiles=tiles,
        fault=fault or _frame_fault(data, len(frames)),
    )


def _frame_fault(data: Dataset, described: int) -> str:
    count = max(get_integer(data, "NumberOfFrames"), 1)
    return "" if count == described else f"{count} frames, but headers of {described}"


def _tiles(data: Dataset, maker: str, frame: Frame) -> tuple[tuple[float, float, float], ...]:
    if maker == "United Imaging":
        return mosaics.tile_positions(data)
    position, orientation = as_numbers(get_value(data, "ImagePositionPatient")), frame.orientation
    if maker != "Siemens" or len(position or ()) != 3 or len(orientation or ()) != 6:
        return ()
    return mosaics.siemens_tiles(data, position or (), orientation or ())


def _content(
    data: Dataset, tokens: tuple[str, ...], description: str, frames: tuple[Frame, ...]
) -> tuple[Content, str]:
    modality = printable_text(get_value(data, "Modality"))
    kind = UID(printable_text(get_value(data, "SOPClassUID")))
    colours = printable_text(get_value(data, "PhotometricInterpretation")).upper()
    words = description.replace("_", " ")
    weighted = any(frame.bvalue is not None and frame.bvalue >= B0_BELOW for frame in frames)
    # What was acquired with a known weighting is signal, whatever words a technician chose.
    known = all(frame.bvalue is not None for frame in frames) and "ORIGINAL" in tokens
    maybe_map = "DERIVED" in tokens or not (weighted or known)
    other_map = any(_OTHER_MAPS.search(text) for text in (*tokens, words if maybe_map else ""))
    # All series of a protocol share its name: of a weighted image only its own description counts.
    own_words = printable_text(get_value(data, "SeriesDescription")) if weighted else words
    named_adc = maybe_map and bool(_ADC.search(own_words.replace("_", " ")))
    # The first that holds decides.
    rules: tuple[tuple[bool, Content, str], ...] = (
        (modality != "MR", "other", f"modality {modality or 'not given'}"),
        (
            kind not in {"", *_IMAGE_CLASSES},
            "other",
            f"{printable_text(kind.name)}, not an MR image",
        ),
        (colours not in {"", "MONOCHROME2"}, "other", f"pixels are {colours}, not signal"),
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
    per_frame = sequence_items(data, "PerFrameFunctionalGroupsSequence")
    if not per_frame:
        position = None if mosaic else as_numbers(get_value(data, "ImagePositionPatient"))
        orientation = as_numbers(get_value(data, "ImageOrientationPatient"))
        spacing = as_numbers(get_value(data, "PixelSpacing"))
        return (Frame(path, 1, position, orientation, _bvalue(data, maker), spacing),)
    shared = first_item(data, "SharedFunctionalGroupsSequence")
    frames = []
    for number, group in enumerate(per_frame, start=1):
        place = first_item(group, "PlanePositionSequence") or first_item(
            shared, "PlanePositionSequence"
        )
        plane = first_item(group, "PlaneOrientationSequence") or first_item(
            shared, "PlaneOrientationSequence"
        )
        diffusion = first_item(group, "MRDiffusionSequence") or first_item(
            shared, "MRDiffusionSequence"
        )
        measures = first_item(group, "PixelMeasuresSequence") or first_item(
            shared, "PixelMeasuresSequence"
        )
        bvalue = _weighting(as_number(get_value(diffusion, "DiffusionBValue")))
        frames.append(
            Frame(
                path,
                number,
                as_numbers(get_value(place, "ImagePositionPatient")),
                as_numbers(get_value(plane, "ImageOrientationPatient")),
                # A scanner that gives no b-value may still say that there was no weighting.
                0.0
                if bvalue is None and get_value(diffusion, "DiffusionDirectionality") == "NONE"
                else bvalue,
                as_numbers(get_value(measures, "PixelSpacing")),
            )
        )
    return tuple(frames)


def _digits(value: Any, count: int) -> int:
    given = re.match(rf"\d{{{count}}}", str(value or ""))
    return int(given[0]) if given else 0


def _acquired(data: Dataset) -> float | None:
    # Multi-frame files give date and time in one.
    given = (
        get_value(data, "AcquisitionTime") or str(get_value(data, "AcquisitionDateTime") or "")[8:]
    )
    time = re.match(r"\d{6}(?:\.\d+)?", str(given))
    return float(time[0]) if time else None


def _cited(data: Dataset) -> frozenset[str]:
    shared = sequence_items(data, "SharedFunctionalGroupsSequence")
    groups = [*shared, *sequence_items(data, "PerFrameFunctionalGroupsSequence")]
    derived = [
        item for group in groups for item in sequence_items(group, "DerivationImageSequence")
    ]
    named = [
        item
        for place in (data, *derived)
        for name in ("SourceImageSequence", "ReferencedImageSequence")
        for item in sequence_items(place, name)
    ]
    return frozenset(printable_text(get_value(item, "ReferencedSOPInstanceUID")) for item in named)


def _bvalue(data: Dataset, maker: str) -> float | None:
    """Return the b-value of a classic file, s/mm^2, from wherever its maker keeps it."""
    standard = _weighting(as_number(get_value(data, "DiffusionBValue")))
    if standard is not None:
        return standard
    if maker == "Siemens":
        named = re.search(r"_b(\d+)", str(get_value(data, "SequenceName") or ""))
        private = _weighting(as_number(tag_value(data, _SIEMENS_B)))
        return float(named[1]) if private is None and named else private
    if maker == "GE":
        # The first of four numbers; some releases add 10^9 to it.
        first = as_number((as_tuple(tag_value(data, _GE_B)) or (None,))[0])
        return None if first is None else _weighting(first % 100_000)
    if maker == "Philips":
        return _weighting(as_number(tag_value(data, _PHILIPS_B)))
    if maker == "United Imaging":
        return _weighting(as_number(tag_value(data, _UNITED_IMAGING_B)))
    return None


def _weighting(bvalue: float | None) -> float | None:
    """Return a b-value, or None if it cannot be one."""
    return bvalue if bvalue is not None and 0 <= bvalue <= _HIGHEST_BVALUE else None
