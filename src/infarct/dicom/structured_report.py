"""Write measurements and warnings as a DICOM structured report (TID 1500)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version

import highdicom as hd
from highdicom.seg import Segmentation
from highdicom.sr import CodedConcept, Measurement
from pydicom.sr.codedict import codes

from infarct.core.findings import Finding
from infarct.dicom.seg import BRAIN, BRAIN_SEGMENT, INFARCT, LESION_SEGMENT
from infarct.dicom.source_images import SourceImages
from infarct.measurement.volumetry import Measurements

_ML = CodedConcept("ml", "UCUM", "milliliter")
_SCHEME = "99INFARCT"
_LESION_COUNT = CodedConcept("lesion-count", _SCHEME, "Number of lesions")
_KAPPA_DWI = CodedConcept("kappa-dwi", _SCHEME, "Mean DWI signal, lesion over normal tissue")
_KAPPA_ADC = CodedConcept("kappa-adc", _SCHEME, "Mean ADC, lesion over normal tissue")
_EVALUATIONS = CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")


def structured_report(
    measurements: Measurements,
    seg: Segmentation,
    sources: SourceImages,
    findings: Sequence[Finding] = (),
) -> hd.sr.EnhancedSR:
    """Create a measurement report that refers to the segments and their source images.

    Args:
        measurements: Measurements; undefined values (NaN) are omitted.
        seg: SEG in which they were measured.
        sources: Source images of the SEG.
        findings: Warnings are added as comments, since the report is often sent without the other
            files of the result. They contain no patient names or paths.
    """
    m = measurements
    lesion = [
        _number(codes.SCT.Volume, m.lesion_volume_ml, _ML),
        _number(codes.SCT.Volume, m.left_ml, _ML, side=codes.SCT.Left),
        _number(codes.SCT.Volume, m.right_ml, _ML, side=codes.SCT.Right),
        _number(_LESION_COUNT, m.lesion_count, codes.UCUM.NoUnits),
        _number(
            codes.DCM.ApparentDiffusionCoefficient,
            m.mean_adc,
            codes.UCUM.SquareMillimeterPerSecond,
            derivation=codes.SCT.Mean,
        ),
        _number(_KAPPA_DWI, m.dwi_ratio, codes.UCUM.Ratio),
        _number(_KAPPA_ADC, m.adc_ratio, codes.UCUM.Ratio),
    ]
    brain = [_number(codes.SCT.Volume, m.intracranial_volume_ml, _ML)]
    observer = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=hd.UID(), name="infarct", model_name=version("infarct")
        ),
    )
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=CodedConcept("24590-2", "LN", "MR Brain"),
        imaging_measurements=[
            _group(seg, LESION_SEGMENT, INFARCT, lesion),
            _group(seg, BRAIN_SEGMENT, BRAIN, brain),
        ],
        title=codes.DCM.ImagingMeasurementReport,
    )
    warnings = [finding.message for finding in findings if finding.level == "warning"]
    if warnings:
        report[0].ContentSequence.append(_comments(warnings))
    document = hd.sr.EnhancedSR(
        evidence=[*sources.images, seg],
        content=report[0],
        series_instance_uid=hd.UID(),
        series_number=9002,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="infarct",
        is_complete=True,
        series_description="Infarct measurements (research)",
    )
    # Comments may contain any Unicode character.
    document.SpecificCharacterSet = "ISO_IR 192"
    return document


def _comments(texts: list[str]) -> hd.sr.ContainerContentItem:
    """Store texts as qualitative evaluations (TID 1500, rows 12 to 14)."""
    contains = hd.sr.RelationshipTypeValues.CONTAINS
    container = hd.sr.ContainerContentItem(_EVALUATIONS, relationship_type=contains)
    container.ContentSequence = hd.sr.ContentSequence(
        [hd.sr.TextContentItem(codes.DCM.Comment, text, contains) for text in texts]
    )
    return container


def _group(
    seg: Segmentation, number: int, finding: CodedConcept, values: list[Measurement | None]
) -> hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    segment = seg.SegmentSequence[number - 1]
    source = seg.ReferencedSeriesSequence[0].SeriesInstanceUID
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=segment.TrackingUID, identifier=segment.TrackingID
        ),
        referenced_segment=hd.sr.ReferencedSegment(
            seg.SOPClassUID,
            seg.SOPInstanceUID,
            number,
            source_series=hd.sr.SourceSeriesForSegmentation(source),
        ),
        finding_type=finding,
        finding_sites=[hd.sr.FindingSite(BRAIN)],
        measurements=[value for value in values if value is not None],
    )


def _number(
    name: CodedConcept,
    value: float,
    unit: CodedConcept,
    *,
    side: CodedConcept | None = None,
    derivation: CodedConcept | None = None,
) -> Measurement | None:
    if math.isnan(value):
        return None
    return Measurement(
        name=name,
        value=value,
        unit=unit,
        derivation=derivation,
        finding_sites=None if side is None else [hd.sr.FindingSite(BRAIN, laterality=side)],
    )
