"""A result as DICOM files beside the others: `dicom/segmentation.dcm`, `dicom/measurements.dcm`."""

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
    """A result as DICOM.

    Attributes:
        segmentation: SEG: 1 infarct, 2 brain.
        report: SR, TID 1500.
    """

    segmentation: hd.seg.Segmentation
    report: hd.sr.EnhancedSR


def make_objects(result: Segmentation, sources: SourceImages) -> DicomObjects:
    """Make SEG and SR of one result.

    Args:
        result: Of the case that was taken from `sources`.
        sources: From `find_source_images`; decide whose name the objects bear.
    """
    with warnings.catch_warnings():
        # Warnings of highdicom quote the values they complain of, names of patients among them.
        warnings.simplefilter("ignore")
        outline = segmentation(result.lesion, result.brain, sources, result.segmenter.name)
        report = structured_report(result.measurements, outline, sources, result.findings)
        return DicomObjects(outline, report)


def write_objects(objects: DicomObjects, out: Path) -> Path:
    """Write SEG and SR into the folder `dicom` of a result; both or none.

    Args:
        objects: From `make_objects`.
        out: The folder of the result, before it is complete; see `write_results`.

    Returns:
        The new folder.

    Raises:
        OutputError: If it cannot be written.
    """
    folder = out / "dicom"
    try:
        folder.mkdir()
        objects.segmentation.save_as(folder / "segmentation.dcm")
        objects.report.save_as(folder / "measurements.dcm")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise OutputError(f"DICOM cannot be written to {folder}: {error}") from error
    return folder
