"""Write a result as DICOM: `dicom/segmentation.dcm` and `dicom/measurements.dcm`."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd

from infarct.core.errors import OutputError
from infarct.dicom.seg import segmentation
from infarct.dicom.source_images import SourceImages
from infarct.dicom.structured_report import structured_report
from infarct.segmentation.result import Segmentation


@dataclass(frozen=True, eq=False)
class DicomObjects:
    """DICOM objects of one result.

    Attributes:
        segmentation: DICOM Segmentation (SEG); segment 1 infarct, segment 2 brain.
        report: Structured report (SR), template TID 1500.
    """

    segmentation: hd.seg.Segmentation
    report: hd.sr.EnhancedSR


def make_objects(result: Segmentation, sources: SourceImages) -> DicomObjects:
    """Create SEG and SR of one result.

    Args:
        result: Result of the case read from `sources`.
        sources: From `find_source_images`; define the patient identity of the objects.
    """
    with warnings.catch_warnings():
        # Warnings of highdicom quote values, which may include patient names.
        warnings.simplefilter("ignore")
        seg = segmentation(result.lesion, result.brain, sources, result.model.name)
        report = structured_report(result.measurements, seg, sources, result.findings)
        return DicomObjects(seg, report)


def write_objects(objects: DicomObjects, out: Path) -> Path:
    """Write SEG and SR to the folder `dicom` of a result, both or neither.

    Args:
        objects: From `make_objects`.
        out: Output folder before it is complete; see `write_results`.

    Returns:
        The new folder.

    Raises:
        OutputError: If the files cannot be written.
    """
    folder = out / "dicom"
    try:
        folder.mkdir()
        objects.segmentation.save_as(folder / "segmentation.dcm")
        objects.report.save_as(folder / "measurements.dcm")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise OutputError(f"cannot write DICOM to {folder}: {error}") from error
    return folder
