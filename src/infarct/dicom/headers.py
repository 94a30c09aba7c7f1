"""One DICOM file without its pixels: what it shows, whichever scanner wrote it."""

from __future__ import annotations

import math
import re
import struct
import unicodedata
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from infarct.core.diffusion import B0_BELOW
from infarct.dicom import mosaic as mosaics

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
_BIG_ENDIAN = UID("1.2.840.10008.1.2.2")
_CONVERTIBLE = {
    *("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", _BIG_ENDIAN, "1.2.840.10008.1.2.5"),
    *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)),
}
"""Transfer syntaxes that dcm2niix decodes: none, RLE, and the families of JPEG."""

_HIGHEST_BVALUE = 20_000.0
"""s/mm^2; more is not a b-value but a damaged header."""

_MOST_BYTES = 4 << 30
"""Of pixels in one file; a header that claims more is damaged."""

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
    given = str(_get(data, "Manufacturer") or "").lower()
    for key, name in _MAKERS.items():
        if key in given:
            return name
    for tag, (key, name) in _CREATORS.items():
        if str(_value(data, tag) or "").lower().startswith(key):
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
    if not _get(data, "SeriesInstanceUID"):
        # Without a preamble it may as well be a file of another kind.
        return None if bare else Unreadable(path, "no SeriesInstanceUID")
    fault = _pixel_fault(file, data)
    if _is_mosaic(data):
        file.seek(0)
        data = pydicom.dcmread(
            file, stop_before_pixels=True, specific_tags=_MOSAIC_READ, force=bare
        )
    return replace(_header(path, data, fault), bare=bare)


def _pixel_fault(file: BinaryIO, data: Dataset) -> str:
    """Say what is wrong with the pixels that follow a header, without decoding them."""
    syntax = data.file_meta.get("TransferSyntaxUID")
    if syntax is not None and syntax not in _CONVERTIBLE:
        name = _text(syntax.name if isinstance(syntax, UID) else syntax)
        return f"transfer syntax {name} cannot be converted; decompress the files first"
    samples, bits = _integer(data, "SamplesPerPixel") or 1, _integer(data, "BitsAllocated")
    pixels = _integer(data, "Rows") * _integer(data, "Columns")
    expected = pixels * samples * bits // 8 * max(_integer(data, "NumberOfFrames"), 1)
    if expected <= 0 or expected > _MOST_BYTES:
        return "Rows, Columns, BitsAllocated or NumberOfFrames is missing or impossible"
    implicit, little = data.original_encoding
    return _length_fault(file, expected, implicit=bool(implicit), little=little is not False)


def _length_fault(file: BinaryIO, expected: int, *, implicit: bool, little: bool) -> str:
    order, head = "<" if little else ">", file.read(12)
    if len(head) < 12 or struct.unpack(f"{order}2H", head[:4]) != (0x7FE0, 0x0010):
        return "no pixel data"
    start = file.tell() - (4 if implicit else 0)
    (length,) = struct.unpack(f"{order}I", head[4:8] if implicit else head[8:12])
    end = file.seek(0, 2)
    if length == 0xFFFFFFFF:
        return "" if _is_whole(file, start, end) else "compressed pixel data are cut off"
    if start + length > end:
        return "pixel data are cut off"
    if not expected <= length <= expected + 1:
        return f"{length} bytes of pixel data do not fit an image of {expected} bytes"
    return ""


def _is_whole(file: BinaryIO, offset: int, end: int) -> bool:
    """Tell whether compressed pixel data reach their closing delimiter."""
    while offset + 8 <= end:
        file.seek(offset)
        group, element, length = struct.unpack("<2HI", file.read(8))
        if (group, element) == (0xFFFE, 0xE0DD):
            return True
        if (group, element) != (0xFFFE, 0xE000):
            return False
        offset += 8 + int(length)
    return False


def _is_mosaic(data: Dataset) -> bool:
    return bool({"MOSAIC", "VFRAME"} & {str(t).upper() for t in _several(_get(data, "ImageType"))})


def _header(path: Path, data: Dataset, fault: str) -> Header:
    tokens = tuple(str(token).upper() for token in _several(_get(data, "ImageType")))
    maker = maker_of(data)
    mosaic = _is_mosaic(data)
    frames = _frames(path, data, maker, mosaic=mosaic)
    # Some makers repeat the series description as the protocol, some put the useful text there.
    description = _text(_get(data, "SeriesDescription") or _get(data, "ProtocolName"))
    content, reason = _content(data, tokens, description, frames)
    tiles = _tiles(data, maker, frames[0]) if mosaic else ()
    return Header(
        uid=_text(_get(data, "SOPInstanceUID")),
        series_uid=_text(_get(data, "SeriesInstanceUID")),
        study_uid=_text(_get(data, "StudyInstanceUID")),
        frame_of_reference=_text(_get(data, "FrameOfReferenceUID")),
        studied=(_digits(_get(data, "StudyDate"), 8), _digits(_get(data, "StudyTime"), 6)),
        patient=(_text(_get(data, "PatientID")).casefold(), _name(_get(data, "PatientName"))),
        number=_integer(data, "SeriesNumber"),
        instance=_integer(data, "InstanceNumber"),
        acquisition=_integer(data, "AcquisitionNumber"),
        acquired=_acquired(data),
        cited=_cited(data),
        description=description,
        maker=maker,
        content=content,
        reason=reason,
        mosaic=mosaic,
        frames=frames,
        shape=(_integer(data, "Rows"), _integer(data, "Columns")),
        slice_distance=_number(_get(data, "SpacingBetweenSlices")),
        thickness=_number(_get(data, "SliceThickness")),
        tiles=tiles,
        fault=fault or _frame_fault(data, len(frames)),
    )


def _frame_fault(data: Dataset, described: int) -> str:
    count = max(_integer(data, "NumberOfFrames"), 1)
    return "" if count == described else f"{count} frames, but headers of {described}"


def _tiles(data: Dataset, maker: str, frame: Frame) -> tuple[tuple[float, float, float], ...]:
    if maker == "United Imaging":
        return mosaics.tile_positions(data)
    position, orientation = _numbers(_get(data, "ImagePositionPatient")), frame.orientation
    if maker != "Siemens" or len(position or ()) != 3 or len(orientation or ()) != 6:
        return ()
    return mosaics.siemens_tiles(data, position or (), orientation or ())


def _content(
    data: Dataset, tokens: tuple[str, ...], description: str, frames: tuple[Frame, ...]
) -> tuple[Content, str]:
    modality = _text(_get(data, "Modality"))
    kind = UID(_text(_get(data, "SOPClassUID")))
    colours = _text(_get(data, "PhotometricInterpretation")).upper()
    words = description.replace("_", " ")
    weighted = any(frame.bvalue is not None and frame.bvalue >= B0_BELOW for frame in frames)
    # What was acquired with a known weighting is signal, whatever words a technician chose.
    known = all(frame.bvalue is not None for frame in frames) and "ORIGINAL" in tokens
    maybe_map = "DERIVED" in tokens or not (weighted or known)
    other_map = any(_OTHER_MAPS.search(text) for text in (*tokens, words if maybe_map else ""))
    # All series of a protocol share its name: of a weighted image only its own description counts.
    own_words = _text(_get(data, "SeriesDescription")) if weighted else words
    named_adc = maybe_map and bool(_ADC.search(own_words.replace("_", " ")))
    # The first that holds decides.
    rules: tuple[tuple[bool, Content, str], ...] = (
        (modality != "MR", "other", f"modality {modality or 'not given'}"),
        (kind not in {"", *_IMAGE_CLASSES}, "other", f"{_text(kind.name)}, not an MR image"),
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
    per_frame = _items(data, "PerFrameFunctionalGroupsSequence")
    if not per_frame:
        position = None if mosaic else _numbers(_get(data, "ImagePositionPatient"))
        orientation = _numbers(_get(data, "ImageOrientationPatient"))
        spacing = _numbers(_get(data, "PixelSpacing"))
        return (Frame(path, 1, position, orientation, _bvalue(data, maker), spacing),)
    shared = _item(data, "SharedFunctionalGroupsSequence")
    frames = []
    for number, group in enumerate(per_frame, start=1):
        place = _item(group, "PlanePositionSequence") or _item(shared, "PlanePositionSequence")
        plane = _item(group, "PlaneOrientationSequence") or _item(
            shared, "PlaneOrientationSequence"
        )
        diffusion = _item(group, "MRDiffusionSequence") or _item(shared, "MRDiffusionSequence")
        measures = _item(group, "PixelMeasuresSequence") or _item(shared, "PixelMeasuresSequence")
        bvalue = _weighting(_number(_get(diffusion, "DiffusionBValue")))
        frames.append(
            Frame(
                path,
                number,
                _numbers(_get(place, "ImagePositionPatient")),
                _numbers(_get(plane, "ImageOrientationPatient")),
                # A scanner that gives no b-value may still say that there was no weighting.
                0.0
                if bvalue is None and _get(diffusion, "DiffusionDirectionality") == "NONE"
                else bvalue,
                _numbers(_get(measures, "PixelSpacing")),
            )
        )
    return tuple(frames)


def _digits(value: Any, count: int) -> int:
    given = re.match(rf"\d{{{count}}}", str(value or ""))
    return int(given[0]) if given else 0


def _acquired(data: Dataset) -> float | None:
    # Multi-frame files give date and time in one.
    given = _get(data, "AcquisitionTime") or str(_get(data, "AcquisitionDateTime") or "")[8:]
    time = re.match(r"\d{6}(?:\.\d+)?", str(given))
    return float(time[0]) if time else None


def _cited(data: Dataset) -> frozenset[str]:
    shared = _items(data, "SharedFunctionalGroupsSequence")
    groups = [*shared, *_items(data, "PerFrameFunctionalGroupsSequence")]
    derived = [item for group in groups for item in _items(group, "DerivationImageSequence")]
    named = [
        item
        for place in (data, *derived)
        for name in ("SourceImageSequence", "ReferencedImageSequence")
        for item in _items(place, name)
    ]
    return frozenset(_text(_get(item, "ReferencedSOPInstanceUID")) for item in named)


def _bvalue(data: Dataset, maker: str) -> float | None:
    """Return the b-value of a classic file, s/mm^2, from wherever its maker keeps it."""
    standard = _weighting(_number(_get(data, "DiffusionBValue")))
    if standard is not None:
        return standard
    if maker == "Siemens":
        named = re.search(r"_b(\d+)", str(_get(data, "SequenceName") or ""))
        private = _weighting(_number(_value(data, _SIEMENS_B)))
        return float(named[1]) if private is None and named else private
    if maker == "GE":
        # The first of four numbers; some releases add 10^9 to it.
        first = _number((_several(_value(data, _GE_B)) or (None,))[0])
        return None if first is None else _weighting(first % 100_000)
    if maker == "Philips":
        return _weighting(_number(_value(data, _PHILIPS_B)))
    if maker == "United Imaging":
        return _weighting(_number(_value(data, _UNITED_IMAGING_B)))
    return None


def _weighting(bvalue: float | None) -> float | None:
    """Return a b-value, or None if it cannot be one."""
    return bvalue if bvalue is not None and 0 <= bvalue <= _HIGHEST_BVALUE else None


def _get(data: Dataset, name: str) -> Any:
    """Return a value; None if it is not there or its content is not of its type."""
    try:
        return data.get(name)
    except Exception:
        # One damaged element does not make the others wrong.
        return None


def _items(data: Dataset, name: str) -> list[Dataset]:
    value = _get(data, name)
    return list(value) if isinstance(value, pydicom.Sequence) else []


def _item(data: Dataset, name: str) -> Dataset:
    items = _items(data, name)
    return items[0] if items else Dataset()


def _value(data: Dataset, tag: BaseTag) -> Any:
    try:
        element = data.get(tag)
    except Exception:
        # As in _get.
        return None
    return None if element is None else element.value


def _text(value: Any) -> str:
    """Return text that is safe to print: without control or direction characters."""
    kept = (c for c in str(value or "") if not unicodedata.category(c).startswith("C"))
    return "".join(kept).strip()


def _name(value: Any) -> str:
    """Return a name as it may be compared: writers pad and separate its parts differently."""
    return " ".join(_text(value).casefold().replace("^", " ").replace("=", " ").split())


def _integer(data: Dataset, name: str) -> int:
    number = _number(_get(data, name))
    return int(number) if number is not None else 0


def _several(value: Any) -> tuple[Any, ...]:
    if value is None or isinstance(value, str | bytes | int | float):
        return () if value is None else (value,)
    return tuple(value)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        # A private number whose type is on no list of pydicom's, as United Imaging's, stays raw.
        raw = value if isinstance(value, bytes) else b""
        number = float(struct.unpack("<d", raw)[0]) if len(raw) == 8 else math.nan
    return number if math.isfinite(number) else None


def _numbers(value: Any) -> tuple[float, ...] | None:
    numbers = tuple(_number(v) for v in _several(value))
    return tuple(n for n in numbers if n is not None) if numbers and None not in numbers else None
