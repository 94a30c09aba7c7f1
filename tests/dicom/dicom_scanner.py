"""Write small synthetic DICOM series in the style of five manufacturers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

IDENTIFIERS = (
    *("Roe^Jane", "PAT-4711", "19551231", "Hospital of Nowhere", "ACCESSION9"),
    *("Referring^Doctor", "STATION7", "1 Hidden Lane"),
)
"""Identifiers in the synthetic files; none may appear in any output."""

CLASSIC = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED = "1.2.840.10008.5.1.4.1.1.4.1"


@dataclass(frozen=True)
class Plane:
    """Geometry of the frames of a volume in DICOM patient coordinates (LPS mm).

    Attributes:
        origin: Centre of the first pixel of the first frame.
        row: Direction of increasing column index.
        column: Direction of increasing row index.
        spacing: Distance between rows, columns and frames, mm.
    """

    origin: tuple[float, float, float]
    row: tuple[float, float, float] = (1.0, 0.0, 0.0)
    column: tuple[float, float, float] = (0.0, 1.0, 0.0)
    spacing: tuple[float, float, float] = (2.0, 2.0, 5.0)

    def position(self, frame: int) -> list[float]:
        """Return ImagePositionPatient of one frame."""
        step = np.cross(self.row, self.column) * self.spacing[2] * frame
        return [round(float(v), 6) for v in np.add(self.origin, step)]


SMALL = Plane((-48.0, -64.0, -20.0), spacing=(2.0, 2.0, 5.0))
TRACE = ("DERIVED", "PRIMARY", "DIFFUSION", "TRACEW")
ADC = ("DERIVED", "PRIMARY", "DIFFUSION", "ADC")
FA = ("DERIVED", "PRIMARY", "DIFFUSION", "FA")
ANATOMY = ("ORIGINAL", "PRIMARY", "M", "NORM")


def noise(level: float, slices: int = 8, seed: int = 0) -> np.ndarray:
    """Return (slices, 64, 48) noisy pixels around a level; all slices differ."""
    rng = np.random.default_rng(seed)
    return (level + rng.integers(0, 50, (slices, 64, 48))).astype(np.uint16)


@dataclass(frozen=True)
class Study:
    """One study of one patient on one scanner."""

    maker: str
    name: str = "Roe^Jane"
    patient_id: str = "PAT-4711"
    uid: str = ""
    frame_of_reference: str = ""
    date: str = "20240229"

    @staticmethod
    def new(maker: str, patient_id: str = "PAT-4711") -> Study:
        """Create a study with new UIDs."""
        return Study(
            maker, patient_id=patient_id, uid=generate_uid(), frame_of_reference=generate_uid()
        )


@dataclass(frozen=True)
class Protocol:
    """Series parameters visible to the operator.

    Attributes:
        number: Series number.
        description: Free text.
        image_type: ImageType.
    """

    number: int
    description: str
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "DIFFUSION", "NONE")


def siemens(frame: Dataset, bvalue: float, direction: int) -> None:
    """Write the private b-value and the sequence name of Siemens."""
    frame.SequenceName = "*ep_b0" if bvalue == 0 else f"*ep_b{bvalue:.0f}#{direction}"
    block = frame.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", int(bvalue))
    if bvalue:
        block.add_new(0x0E, "FD", _directions(direction))


def ge(frame: Dataset, bvalue: float, direction: int) -> None:
    """Write GE's list of four numbers; the first is the b-value plus 10^9."""
    block = frame.private_block(0x0043, "GEMS_PARM_01", create=True)
    block.add_new(0x39, "IS", [int(1e9 + bvalue) if bvalue else 0, 8, 0, 0])
    vector = frame.private_block(0x0019, "GEMS_ACQU_01", create=True)
    for offset, value in zip((0xBB, 0xBC, 0xBD), _directions(direction), strict=True):
        vector.add_new(offset, "DS", round(value, 6) if bvalue else 0.0)


def philips(frame: Dataset, bvalue: float, direction: int) -> None:
    """Write the private and the standard b-value of Philips."""
    frame.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(3, "FL", bvalue)
    _standard(frame, bvalue, direction)


def united_imaging(frame: Dataset, bvalue: float, direction: int) -> None:
    """Write the private b-value of United Imaging."""
    block = frame.private_block(0x0065, "Image Private Header", create=True)
    block.add_new(0x09, "FD", bvalue)
    if bvalue:
        block.add_new(0x37, "FD", _directions(direction))


def _standard(frame: Dataset, bvalue: float, direction: int) -> None:
    frame.DiffusionBValue = float(bvalue)
    if bvalue:
        frame.DiffusionGradientOrientation = _directions(direction)


MAKERS: dict[str, Callable[[Dataset, float, int], None]] = {
    "SIEMENS": siemens,
    "GE MEDICAL SYSTEMS": ge,
    "Philips Medical Systems": philips,
    "UIH": united_imaging,
    "CANON_MEC": _standard,
}


def _directions(direction: int) -> list[float]:
    vectors = np.array(
        [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.8, 0], [0, 0.6, 0.8], [0.8, 0, 0.6]]
    )
    return [float(v) for v in vectors[direction % len(vectors)]]


def save_classic(
    folder: Path,
    study: Study,
    protocol: Protocol,
    plane: Plane,
    volumes: list[tuple[float | None, np.ndarray]],
) -> str:
    """Write one file per slice.

    Args:
        folder: Output folder.
        study: Study of the series.
        protocol: Number, description and image type.
        plane: Geometry of the frames.
        volumes: b-value (None: not diffusion) and (frames, rows, columns) array of each volume.

    Returns:
        SeriesInstanceUID.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    instance = 0
    for index, (bvalue, frames) in enumerate(volumes):
        for k, pixels in enumerate(frames):
            instance += 1
            frame = _header(study, protocol, series, CLASSIC, pixels)
            frame.InstanceNumber = instance
            frame.AcquisitionNumber = index + 1
            frame.ImagePositionPatient = plane.position(k)
            frame.ImageOrientationPatient = [*plane.row, *plane.column]
            frame.PixelSpacing = list(plane.spacing[:2])
            frame.SliceThickness = frame.SpacingBetweenSlices = plane.spacing[2]
            frame.AcquisitionTime = f"1200{index:02d}.{k:06d}"
            frame.EchoTime, frame.RepetitionTime = 80.0, 5000.0
            if bvalue is not None:
                MAKERS[study.maker](frame, bvalue, index)
            frame.PixelData = pixels.astype("<u2").tobytes()
            # File names are unordered, as in exports from a PACS.
            frame.save_as(
                folder / f"{(instance * 7919) % 100003:05d}-{protocol.number}.dcm",
                enforce_file_format=True,
            )
    return series


def save_slice(folder: Path, description: str = "ep2d_diff", bvalue: float | None = 1000) -> Path:
    """Write one slice of a Siemens diffusion series and return its path."""
    protocol = Protocol(3, description)
    save_classic(folder, Study.new("SIEMENS"), protocol, SMALL, [(bvalue, noise(400, 1))])
    (path,) = folder.iterdir()
    return path


def save_enhanced(
    folder: Path,
    study: Study,
    protocol: Protocol,
    plane: Plane,
    volumes: list[tuple[float, np.ndarray]],
) -> str:
    """Write one multi-frame file; arguments and result as for `save_classic`."""
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    pixels = np.concatenate([frames for _, frames in volumes])
    image = _header(study, protocol, series, ENHANCED, pixels[0])
    image.InstanceNumber = 1
    image.NumberOfFrames = len(pixels)
    shared = Dataset()
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=[*plane.row, *plane.column])
    shared.PixelMeasuresSequence = _item(
        PixelSpacing=list(plane.spacing[:2]),
        SliceThickness=plane.spacing[2],
        SpacingBetweenSlices=plane.spacing[2],
    )
    image.SharedFunctionalGroupsSequence = Sequence([shared])
    organisation = generate_uid()
    image.DimensionOrganizationSequence = _item(DimensionOrganizationUID=organisation)
    indices = []
    for pointer, group in ((0x00209057, 0x00209111), (0x00189087, 0x00189117)):
        index = Dataset()
        index.DimensionIndexPointer, index.FunctionalGroupPointer = pointer, group
        index.DimensionOrganizationUID = organisation
        indices.append(index)
    image.DimensionIndexSequence = Sequence(indices)
    per_frame = []
    for volume, (bvalue, frames) in enumerate(volumes):
        for k in range(len(frames)):
            frame = Dataset()
            frame.PlanePositionSequence = _item(ImagePositionPatient=plane.position(k))
            frame.FrameContentSequence = _item(
                StackID="1", InStackPositionNumber=k + 1, DimensionIndexValues=[k + 1, volume + 1]
            )
            diffusion = Dataset()
            diffusion.DiffusionBValue = float(bvalue)
            diffusion.DiffusionDirectionality = "DIRECTIONAL" if bvalue else "NONE"
            if bvalue:
                gradient = Dataset()
                gradient.DiffusionGradientOrientation = _directions(volume)
                diffusion.DiffusionGradientDirectionSequence = Sequence([gradient])
            frame.MRDiffusionSequence = Sequence([diffusion])
            per_frame.append(frame)
    image.PerFrameFunctionalGroupsSequence = Sequence(per_frame)
    image.PixelData = pixels.astype("<u2").tobytes()
    image.save_as(folder / f"enhanced-{protocol.number}.dcm", enforce_file_format=True)
    return series


def save_mosaic(
    folder: Path,
    study: Study,
    protocol: Protocol,
    plane: Plane,
    volumes: list[tuple[float, np.ndarray]],
    *,
    downwards: bool = False,
    protocol_positions: bool = False,
) -> str:
    """Write one mosaic file per volume, in the style of Siemens or United Imaging.

    Args:
        folder: As for `save_classic`.
        study: Study on a Siemens or United Imaging scanner.
        protocol: As for `save_classic`.
        plane: As for `save_classic`.
        volumes: As for `save_classic`.
        downwards: Siemens: store the last slice first, as if slices were numbered from the head.
        protocol_positions: Siemens: also write the slice positions to the protocol.

    Returns:
        SeriesInstanceUID.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    siemens_made = study.maker == "SIEMENS"
    for index, (bvalue, frames) in enumerate(volumes):
        count, rows, columns = frames.shape
        across = int(np.ceil(np.sqrt(count)))
        down = across if siemens_made else int(np.ceil(count / across))
        order = list(range(count))[:: -1 if downwards else 1]
        pixels = np.zeros((down * rows, across * columns), frames.dtype)
        for tile, k in enumerate(order):
            row, column = tile // across * rows, tile % across * columns
            pixels[row : row + rows, column : column + columns] = frames[k]
        image = _header(study, protocol, series, CLASSIC, pixels)
        image.ImageType = [*protocol.image_type, "MOSAIC" if siemens_made else "VFRAME"]
        image.InstanceNumber = image.AcquisitionNumber = index + 1
        image.ImageOrientationPatient = [*plane.row, *plane.column]
        image.PixelSpacing = list(plane.spacing[:2])
        image.SliceThickness, image.SpacingBetweenSlices = 0.8 * plane.spacing[2], plane.spacing[2]
        image.AcquisitionTime = f"1200{index:02d}.000000"
        image.EchoTime, image.RepetitionTime = 80.0, 5000.0
        MAKERS[study.maker](image, bvalue, index)
        places = [plane.position(k) for k in order]
        if siemens_made:
            # Siemens stores the corner of a virtual slice: as large as the mosaic, same centre.
            corner = np.array(places[0])
            corner -= np.array(plane.row) * plane.spacing[1] * (pixels.shape[1] - columns) / 2
            corner -= np.array(plane.column) * plane.spacing[0] * (pixels.shape[0] - rows) / 2
            image.ImagePositionPatient = [round(float(x), 6) for x in corner]
            normal = np.cross(plane.row, plane.column) * (-1 if downwards else 1)
            entries = {
                "NumberOfImagesInMosaic": [count],
                "SliceNormalVector": normal,
                "B_value": [int(bvalue)],
                "DiffusionGradientDirection": _directions(index) if bvalue else [],
            }
            block = image.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
            block.add_new(0x10, "OB", csa(entries))
            text = "### ASCCONV BEGIN ###\n"
            for k, place in enumerate(places if protocol_positions else []):
                for axis, x in zip(("Sag", "Cor", "Tra"), place, strict=True):
                    text += f"sSliceArray.asSlice[{k}].sPosition.d{axis}\t = \t{x}\n"
            block.add_new(0x20, "OB", text.encode() + b" " * (len(text) % 2))
        else:
            block = image.private_block(0x0065, "Image Private Header", create=True)
            block.add_new(0x50, "DS", str(count))
            tiles = [_item(ImagePositionPatient=place)[0] for place in places]
            block.add_new(0x51, "SQ", Sequence(tiles))
        image.PixelData = pixels.astype("<u2").tobytes()
        image.save_as(folder / f"mosaic-{index}.dcm", enforce_file_format=True)
    return series


def csa(entries: dict[str, object]) -> bytes:
    """Return a Siemens CSA header (SV10) with numeric entries."""
    raw = b"SV10\4\3\2\1" + struct.pack("<2I", len(entries), 77)
    for name, values in entries.items():
        words = [f"{value:.8f}".encode() + b"\0" for value in values]
        raw += struct.pack("<64si4s3i", name.encode(), len(words), b"FD", 4, len(words), 77)
        for word in words:
            raw += struct.pack("<4i", len(word), len(word), 77, len(word))
            raw += word + b"\0" * (-len(word) % 4)
    return raw


def _item(**values: object) -> Sequence:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return Sequence([item])


def _header(
    study: Study, protocol: Protocol, series: str, sop_class: str, pixels: np.ndarray
) -> Dataset:
    frame = Dataset()
    frame.file_meta = FileMetaDataset()
    frame.file_meta.MediaStorageSOPClassUID = frame.SOPClassUID = sop_class
    frame.file_meta.MediaStorageSOPInstanceUID = frame.SOPInstanceUID = generate_uid()
    frame.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    frame.PatientName, frame.PatientID = study.name, study.patient_id
    frame.PatientBirthDate, frame.PatientSex = date(1955, 12, 31).strftime("%Y%m%d"), "F"
    frame.PatientAddress = "1 Hidden Lane"
    frame.InstitutionName, frame.StationName = "Hospital of Nowhere", "STATION7"
    frame.AccessionNumber, frame.ReferringPhysicianName = "ACCESSION9", "Referring^Doctor"
    frame.StudyInstanceUID, frame.SeriesInstanceUID = study.uid, series
    frame.FrameOfReferenceUID = study.frame_of_reference
    frame.PositionReferenceIndicator = ""
    frame.StudyDate = frame.SeriesDate = frame.AcquisitionDate = study.date
    frame.StudyTime, frame.StudyID, frame.Modality = "115900", "S1", "MR"
    frame.Manufacturer, frame.ManufacturerModelName = study.maker, "Testscan"
    frame.MagneticFieldStrength, frame.PatientPosition = 3.0, "HFS"
    frame.SeriesNumber, frame.SeriesDescription = protocol.number, protocol.description
    frame.ProtocolName, frame.ImageType = protocol.description, list(protocol.image_type)
    frame.ScanningSequence, frame.SequenceVariant, frame.MRAcquisitionType = "EP", "NONE", "2D"
    frame.Rows, frame.Columns = pixels.shape
    frame.SamplesPerPixel, frame.PhotometricInterpretation = 1, "MONOCHROME2"
    frame.BitsAllocated = frame.BitsStored = 16
    frame.HighBit, frame.PixelRepresentation = 15, 0
    return frame
