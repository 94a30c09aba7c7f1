"""Write lesion and brain masks as a DICOM Segmentation that refers to the source frames."""

from __future__ import annotations

from importlib.metadata import version

import highdicom as hd
import numpy as np
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom.sr.codedict import codes

from infarct.core.geometry import Affine, Grid
from infarct.core.nifti import Volume
from infarct.dicom.source_images import SourceImages

INFARCT = hd.sr.CodedConcept("55641003", "SCT", "Infarct")
BRAIN = codes.SCT.Brain
LESION_SEGMENT, BRAIN_SEGMENT = 1, 2

_LONGEST_NAME = 64
"""Maximum length of a DICOM long string; names of network ensembles can be longer."""

_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_RED, _GREY = hd.color.CIELabColor(53.2, 80.1, 67.2), hd.color.CIELabColor(70.0, 0.0, 0.0)


def segmentation(lesion: Volume, brain: Volume, sources: SourceImages, method: str) -> Segmentation:
    """Create a SEG with two segments: 1 infarct, 2 brain.

    All slices of both are stored, so an empty mask can be distinguished from a missing one.

    Args:
        lesion: Lesion mask, bool, on the grid that dcm2niix created from the sources.
        brain: Brain mask, bool, on the same grid.
        sources: From `find_source_images`; slices refer to the source at the same position.
        method: Name of the segmentation method.
    """
    frames = np.stack([to_frames(lesion.data), to_frames(brain.data)], axis=-1)
    positions, orientation, measures = _planes(lesion.grid)
    made = Segmentation(
        source_images=sources.images,
        pixel_array=frames.astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=_descriptions(method),
        series_instance_uid=hd.UID(),
        series_number=9001,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="infarct",
        manufacturer_model_name="infarct",
        software_versions=version("infarct"),
        device_serial_number="none",
        content_label="INFARCT",
        content_description="Research use only",
        series_description="Infarct segmentation (research)",
        plane_positions=positions,
        plane_orientation=orientation,
        pixel_measures=measures,
        omit_empty_frames=False,
    )
    if sources.frame_numbers is not None:
        _refer_to(made, sources.frame_numbers)
    return made


def _descriptions(method: str) -> list[SegmentDescription]:
    algorithm = hd.AlgorithmIdentificationSequence(
        name=f"infarct {method}"[:_LONGEST_NAME],
        family=codes.CID7162.MultispectralProcessing,
        version=version("infarct"),
    )
    lesion = SegmentDescription(
        segment_number=LESION_SEGMENT,
        segment_label="Infarct",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=INFARCT,
        anatomic_regions=[BRAIN],
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=hd.UID(),
        tracking_id="Infarct",
        display_color=_RED,
    )
    brain = SegmentDescription(
        segment_number=BRAIN_SEGMENT,
        segment_label="Brain",
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=BRAIN,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=hd.UID(),
        tracking_id="Brain",
        display_color=_GREY,
    )
    return [lesion, brain]


def to_frames(data: NDArray[np.generic]) -> NDArray[np.generic]:
    """Reorder voxels from dcm2niix order to DICOM frames.

    dcm2niix keeps columns, reverses rows and stacks slices.

    Args:
        data: (columns, rows, slices).

    Returns:
        (slices, rows, columns).
    """
    return np.ascontiguousarray(data[:, ::-1, :].transpose(2, 1, 0))


def from_frames(frames: NDArray[np.generic]) -> NDArray[np.generic]:
    """Inverse of `to_frames`."""
    return np.ascontiguousarray(frames.transpose(2, 1, 0)[:, ::-1, :])


def _refer_to(made: Segmentation, frame_numbers: frozenset[int]) -> None:
    """Keep one source frame per slice of a multi-frame source, as viewers expect."""
    for group in made.PerFrameFunctionalGroupsSequence:
        for derivation in group.get("DerivationImageSequence", []):
            derivation.SourceImageSequence = [
                item
                for item in derivation.SourceImageSequence
                if item.ReferencedFrameNumber in frame_numbers
            ]


def _planes(
    grid: Grid,
) -> tuple[list[hd.PlanePositionSequence], hd.PlaneOrientationSequence, hd.PixelMeasuresSequence]:
    """Return position, orientation and spacing of the frames of `to_frames`, LPS mm."""
    lps_from_voxel: Affine = _RAS_FROM_LPS @ grid.affine
    last_row = grid.shape[1] - 1
    row, column = lps_from_voxel[:3, 0], -lps_from_voxel[:3, 1]
    spacing = grid.spacing
    positions = [
        hd.PlanePositionSequence("PATIENT", (lps_from_voxel @ [0, last_row, k, 1])[:3].tolist())
        for k in range(grid.shape[2])
    ]
    orientation = hd.PlaneOrientationSequence(
        "PATIENT", [*(row / spacing[0]).tolist(), *(column / spacing[1]).tolist()]
    )
    measures = hd.PixelMeasuresSequence(
        pixel_spacing=[float(spacing[1]), float(spacing[0])],
        slice_thickness=float(spacing[2]),
        spacing_between_slices=float(spacing[2]),
    )
    return positions, orientation, measures
