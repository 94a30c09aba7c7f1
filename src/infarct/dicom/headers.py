"""Read the header of one DICOM file into a vendor-independent form."""

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
)
from infarct.dicom.manufacturers import (
    PRIVATE_BVALUES,
    bvalue_of,
    maker_of,
    plausible_bvalue,
)
from infarct.dicom.pixel_data import pixel_fault

Content = Literal["signal", "adc", "other"]
"""Use of a file: signal of a diffusion series (including b0), ADC map, or neither."""

ADC_BY_NAME = "ADC map according to its description"
"""Reason for an ADC map that only the free-text description identifies."""

TRACE = "trace image according to its image type"
"""Reason for a trace image: the mean over directions of this or another series."""

UNNAMED = "no sign of diffusion weighting"
"""Reason for a file of no known use, which may still be the b0 of a diffusion series."""

NO_MAGNITUDE = "not a magnitude image"
"""Reason for a phase, real or imaginary image, which scanners store next to the magnitude."""

OTHER_MAP = "neither diffusion signal nor ADC map"
"""Reason for a parameter map other than ADC."""

_IMAGE_CLASSES = {
    *("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")
}
"""MR Image, Enhanced MR Image, Legacy Converted Enhanced MR Image."""

_DIRECTORY = "1.2.840.10008.1.3.10"
_DEFLATED = {UID("1.2.840.10008.1.2.1.99"), UID("1.2.840.10008.1.2.8.1")}
_NAMES = (
    *("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("PatientName", "PatientID", "StudyDate", "StudyTime"),
    *("Modality", "Manufacturer", "SeriesNumber", "SeriesDescription", "ProtocolName"),
    *("ImageType", "SequenceName", "NumberOfFrames", "DiffusionBValue"),
    *("InstanceNumber", "AcquisitionNumber", "AcquisitionTime", "AcquisitionDateTime"),
    *("ImagePositionPatient", "ImageOrientationPatient"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("SourceImageSequence", "ReferencedImageSequence", "SpecificCharacterSet", "SOPClassUID"),
    *("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit"),
    "PhotometricInterpretation",
    *("PixelSpacing", "SpacingBetweenSlices", "SliceThickness"),
)
# Includes the private creator elements: pydicom needs them to look up the types of private elements
# that the file does not state (implicit transfer syntax, some archives).
_READ = [
    *map(Tag, _NAMES),
    *PRIVATE_BVALUES,
    *(Tag(tag.group, tag.element >> 8) for tag in PRIVATE_BVALUES),
]
_MOSAIC_READ = [
    *_READ,
    *(mosaics.TILE_SEQUENCE, mosaics.CSA_IMAGE, mosaics.CSA_SERIES),
    Tag(0x00290010),
]
# Maps derived from diffusion that are neither signal nor ADC: anisotropy, colour, exponential ADC.
_OTHER_MAPS = re.compile(
    r"\b(?:col)?fa\b|aniso|\be(?:xp?)?[ .-]?adc\b|expo|\bexp\b|tensor$|fib(?:er|re)|tract"
    r"|\bphase\b|\bcalc|\bsynth|\bmd\b|mean.?diffusivity|\b[ar]d\b|eigen|\bl[123]\b|\bivim\b"
    r"|kurto|\bmk\b|\brcb[fv]\b|\bmtt\b|\bttp\b|reformat|\bmpr\b|\bmin?ip\b|localizer|\bmask\b",
    re.IGNORECASE,
)
_NO_MAGNITUDE = {"P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY"}
# GE calls the ADC averaged over many directions "average DC".
_ADC = re.compile(r"adc|apparent.?diff|\baverage.?dc\b", re.IGNORECASE)
_DIFFUSION = re.compile(r"dwi|dti|diff|trace|\bb ?=? ?\d{3,4}\b", re.IGNORECASE)


@dataclass(frozen=True)
class Frame:
    """One slice as stored by the scanner.

    Attributes:
        path: File that contains the frame.
        number: Number of the frame in its file, starting at 1.
        position: ImagePositionPatient, LPS mm, with as many values as the header contains; None if
            it is missing or contains a value that is not a number.
        orientation: ImageOrientationPatient; None as for `position`.
        bvalue: s/mm^2; None if the header does not state it.
        spacing: PixelSpacing, mm between rows and between columns; None as for `position`.
    """

    path: Path
    number: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    bvalue: float | None
    spacing: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Unreadable:
    """A DICOM file that cannot be read.

    Attributes:
        path: The file; its name may identify a patient and is never stored.
        reason: Short explanation.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class Header:
    """Header of one file.

    Attributes:
        uid: SOPInstanceUID; identical in copies of a file.
        series_uid: SeriesInstanceUID.
        study_uid: StudyInstanceUID.
        frame_of_reference: FrameOfReferenceUID; images with the same value share coordinates.
        studied: Date and time of the study as the numbers YYYYMMDD and HHMMSS, 0 if missing; may
            be displayed but is never stored.
        patient: PatientID and PatientName, empty if missing; never displayed or stored.
        number: Series number.
        instance: InstanceNumber; 0 if missing.
        acquisition: AcquisitionNumber, which some manufacturers increase per volume; 0 if missing.
        acquired: Time of acquisition as the number HHMMSS; None if missing. Derived maps keep the
            time of their source images.
        cited: UIDs of referenced images: those it was derived from or planned on.
        description: Free text entered by the operator; may be displayed but is never stored.
        maker: Siemens, GE, Philips, Canon, United Imaging, or another manufacturer.
        content: Use of the file.
        reason: Reason for `content`.
        mosaic: Whether all slices of a volume are tiles of one frame.
        frames: The frame of a single-frame file, or all frames of a multi-frame file.
        shape: Rows and columns of the image; for a mosaic, of the full mosaic.
        slice_distance: SpacingBetweenSlices, mm; None if missing.
        thickness: SliceThickness, mm; None if missing.
        tiles: Position of each tile of a mosaic, LPS mm; empty if unknown.
        fault: Why the pixel data cannot be used; empty if no fault was found.
        bare: Whether the file lacks the DICOM preamble.
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
        The header; an `Unreadable` with the reason if the file cannot be read; None if it is not
        DICOM or is a DICOMDIR.
    """
    with warnings.catch_warnings():
        # Warnings of pydicom quote values, which may include patient names.
        warnings.simplefilter("ignore")
        try:
            with path.open("rb") as file:
                return _read(path, file)
        except OSError:
            return Unreadable(path, "cannot be opened")
        except Exception:
            # A damaged file can raise any exception.
            return Unreadable(path, "damaged header")


def _read(path: Path, file: BinaryIO) -> Header | Unreadable | None:
    start = file.read(132)
    if not start:
        return Unreadable(path, "empty")
    bare = start[128:] != b"DICM"
    # Without the preamble, a file starts with its first element, of group 0002 or 0008.
    if bare and not (start[:1] in (b"\x02", b"\x08") and start[1:2] == start[3:4] == b"\0"):
        return None
    file.seek(0)
    if not bare:
        syntax = read_file_meta_info(path).get("TransferSyntaxUID")
        if syntax in _DEFLATED:
            # Do not read even the header: a small file may decompress to gigabytes.
            return Unreadable(path, f"deflated transfer syntax {syntax}")
        file.seek(0)
    data = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_READ, force=bare)
    if data.file_meta.get("MediaStorageSOPClassUID") == _DIRECTORY:
        return None
    if not get_value(data, "SeriesInstanceUID"):
        # Without a preamble, it may be a file of another format.
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
    # Some manufacturers put the useful text in the protocol name.
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
    return "" if count == described else f"{count} frames, but frame headers for {described}"


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
    kind = UID(printable_text(get_value(data, "SOPClassUID")))
    # De-identification may empty the modality; the SOP class then still says that it is MR.
    modality = printable_text(get_value(data, "Modality")) or (
        "MR" if kind in _IMAGE_CLASSES else ""
    )
    colours = printable_text(get_value(data, "PhotometricInterpretation")).upper()
    words = description.replace("_", " ")
    weighted = any(frame.bvalue is not None and frame.bvalue >= B0_BELOW for frame in frames)
    # An acquired image with known b-value is signal, whatever its description says.
    known = all(frame.bvalue is not None for frame in frames) and "ORIGINAL" in tokens
    maybe_map = "DERIVED" in tokens or not (weighted or known)
    other_map = any(_OTHER_MAPS.search(text) for text in (*tokens, words if maybe_map else ""))
    # All series of a protocol share its name: for a weighted image, use only its own description.
    own_words = printable_text(get_value(data, "SeriesDescription")) if weighted else words
    named_adc = maybe_map and bool(_ADC.search(own_words.replace("_", " ")))
    # The first rule that holds decides.
    rules: tuple[tuple[bool, Content, str], ...] = (
        (modality != "MR", "other", f"modality {modality or 'missing'}"),
        (
            kind not in {"", *_IMAGE_CLASSES},
            "other",
            f"{printable_text(kind.name)}, not an MR image",
        ),
        (colours not in {"", "MONOCHROME2"}, "other", f"{colours} pixels, not grayscale"),
        (bool(_NO_MAGNITUDE & set(tokens[2:])), "other", NO_MAGNITUDE),
        (other_map, "other", OTHER_MAP),
        (
            any(token.startswith("ADC") for token in tokens),
            "adc",
            "ADC map according to its image type",
        ),
        ("TRACEW" in tokens, "signal", TRACE),
        (named_adc, "adc", ADC_BY_NAME),
        (weighted, "signal", "b-values in the headers"),
        ("DIFFUSION" in tokens, "signal", "diffusion according to its image type"),
        (bool(_DIFFUSION.search(words)), "signal", "diffusion according to its description"),
        (True, "other", UNNAMED),
    )
    return next((content, reason) for holds, content, reason in rules if holds)


def _frames(path: Path, data: Dataset, maker: str, *, mosaic: bool) -> tuple[Frame, ...]:
    per_frame = sequence_items(data, "PerFrameFunctionalGroupsSequence")
    if not per_frame:
        position = None if mosaic else as_numbers(get_value(data, "ImagePositionPatient"))
        orientation = as_numbers(get_value(data, "ImageOrientationPatient"))
        spacing = as_numbers(get_value(data, "PixelSpacing"))
        return (Frame(path, 1, position, orientation, bvalue_of(data, maker), spacing),)
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
        bvalue = plausible_bvalue(as_number(get_value(diffusion, "DiffusionBValue")))
        frames.append(
            Frame(
                path,
                number,
                as_numbers(get_value(place, "ImagePositionPatient")),
                as_numbers(get_value(plane, "ImageOrientationPatient")),
                # Some scanners omit the b-value but state that there is no diffusion weighting.
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
    # Multi-frame files store date and time in one element.
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
