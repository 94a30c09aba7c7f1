"""Load the source images that SEG and SR refer to, with or without the patient's identity."""

from __future__ import annotations

import hashlib
import math
import warnings
from dataclasses import dataclass

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from infarct.core.errors import ContentError
from infarct.dicom.elements import drop_malformed
from infarct.dicom.headers import Frame
from infarct.dicom.select_series import Choice
from infarct.dicom.series import Series

_LINKS = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "Modality", "NumberOfFrames"),
    *("Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient"),
    *("PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "LossyImageCompression"),
)
"""Elements copied without `keep_identity`: only those that link a SEG to its source images."""

_PLANE = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
_IDENTITY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)


@dataclass(frozen=True, eq=False)
class SourceImages:
    """Source images of the DWI.

    Attributes:
        images: Data sets without pixel data: one file per slice, or one multi-frame file.
        frame_numbers: Frame numbers of one weighted volume in a multi-frame file, starting at 1;
            None for single-frame files.
    """

    images: list[Dataset]
    frame_numbers: frozenset[int] | None


def find_source_images(choice: Choice, *, keep_identity: bool) -> SourceImages:
    """Read the headers of the source images of the DWI, one per slice.

    One volume represents all directions, since they have the same slice positions.

    Args:
        choice: The selected case.
        keep_identity: Keep name, ID and dates of the patient; False inserts a pseudonym and keeps
            only geometry and UIDs.

    Raises:
        ContentError: If the headers lack the UIDs that a SEG must refer to.
    """
    frames = _one_volume(choice.dwi.series, choice.dwi.bvalue)
    every = choice.dwi.series.frames
    several_in_one = len({frame.path for frame in every}) < len(every)
    with warnings.catch_warnings():
        # Warnings of pydicom quote values, which may include patient names.
        warnings.simplefilter("ignore")
        if several_in_one:
            # The volume may span several files, but a SEG can refer to the frames of one file only.
            frames = [frame for frame in frames if frame.path == frames[0].path]
        paths = dict.fromkeys(frame.path for frame in frames)
        images: list[Dataset] = [
            pydicom.dcmread(path, stop_before_pixels=True, force=True) for path in paths
        ]
        for image in images:
            drop_malformed(image)
            if not image.get("FrameOfReferenceUID") or not image.get("StudyInstanceUID"):
                raise ContentError(
                    f"series {choice.dwi.series.number}: its headers lack StudyInstanceUID or "
                    "FrameOfReferenceUID, so a SEG cannot refer to it; run without --dicom-out"
                )
            _share_plane(image)
            if not several_in_one and image.get("SliceThickness") is None:
                # highdicom needs a number; the SEG stores the spacing of the grid anyway.
                image.SliceThickness = round(float(choice.dwi.grid.spacing[2]), 6)
            if choice.dwi.series.mosaic and "ImagePositionPatient" not in image:
                # highdicom needs it to recognise patient coordinates; it is not written.
                image.ImagePositionPatient = [0, 0, 0]
        images = _with_one_orientation(images)
        images = [_identified(image) if keep_identity else _pseudonymous(image) for image in images]
    numbers = frozenset(frame.number for frame in frames) if several_in_one else None
    return SourceImages(images, numbers)


def _one_volume(series: Series, bvalue: float) -> list[Frame]:
    """Return one frame per slice position, with the b-value closest to the given one."""

    def distance(frame: Frame) -> float:
        return math.inf if frame.bvalue is None else abs(frame.bvalue - bvalue)

    at_place: dict[tuple[float, ...], Frame] = {}
    for frame in sorted(series.frames, key=distance):
        # Frames of a mosaic have no position: the first represents all.
        at_place.setdefault(tuple(round(x, 1) for x in frame.position or ()), frame)
    placed = [frame for place, frame in at_place.items() if place]
    return placed or list(at_place.values())


def _share_plane(image: Dataset) -> None:
    """Copy the plane of the first frame to the shared groups, where highdicom expects it."""
    shared = image.get("SharedFunctionalGroupsSequence")
    if shared:
        first = image.PerFrameFunctionalGroupsSequence[0]
        for name in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
            if name not in shared[0] and name in first:
                setattr(shared[0], name, first[name].value)


def _with_one_orientation(images: list[Dataset]) -> list[Dataset]:
    """Set the orientation of all images to that of the first: the last digits may drift."""
    first = images[0].get("ImageOrientationPatient")
    if first is None:
        return images
    same = [
        image
        for image in images
        if np.allclose(
            np.array(image.ImageOrientationPatient, float), np.array(first, float), atol=1e-4
        )
    ]
    for image in same:
        image.ImageOrientationPatient = first
    return same


def _complete(image: Dataset) -> Dataset:
    for name in _IDENTITY:
        if name not in image:
            setattr(image, name, None)
    return image


def _identified(image: Dataset) -> Dataset:
    """Keep all elements, with names in Unicode: highdicom does not support code extensions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.decode()
    image.SpecificCharacterSet = "ISO_IR 192"
    return _complete(image)


def _pseudonymous(image: Dataset) -> Dataset:
    """Copy only the elements in an allow list, so no other element can leak."""
    copy = Dataset()
    for name in _LINKS:
        if name in image:
            setattr(copy, name, image[name].value)
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        if name in image:
            setattr(copy, name, Sequence([_plane(group) for group in image[name].value]))
    # Derived from the study UID, which is kept anyway, so it reveals nothing more.
    pseudonym = "infarct-" + hashlib.sha256(str(image.StudyInstanceUID).encode()).hexdigest()[:12]
    copy.PatientID = pseudonym
    copy.PatientName = f"{pseudonym}^"
    copy.PatientIdentityRemoved = "YES"
    copy.DeidentificationMethod = "infarct: only geometry and UIDs of the source were kept"
    return _complete(copy)


def _plane(group: Dataset) -> Dataset:
    copy = Dataset()
    for name in _PLANE:
        if name in group:
            item = Dataset()
            for element in group[name].value[0]:
                if element.keyword in _LINKS:
                    item.add(element)
            setattr(copy, name, Sequence([item]))
    return copy
