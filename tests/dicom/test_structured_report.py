import math
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from dicom_scanner import SMALL, Protocol, Study, noise, save_classic
from highdicom.sr import CodedConcept

from infarct.core.findings import Finding
from infarct.core.nifti import read
from infarct.dicom.seg import segmentation
from infarct.dicom.source_images import find_source_images
from infarct.dicom.structured_report import structured_report
from infarct.dicom.study import opened_folder
from infarct.measurement.volumetry import Measurements

NUMBERS = Measurements(
    lesion_volume_ml=12.5,
    lesion_count=3,
    left_ml=12.0,
    right_ml=0.5,
    intracranial_volume_ml=1400.0,
    dwi_ratio=1.9,
    adc_ratio=0.6,
    mean_adc=5.1e-4,
    lesions=(),
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("scan")
    volumes = [(0, noise(900)), (1000, noise(400))]
    save_classic(folder, Study.new("SIEMENS"), Protocol(3, "dwi"), SMALL, volumes)
    with opened_folder(folder) as found:
        volume = read(found.choice.dwi.path)
        mask = volume.like(np.ones(volume.data.shape[:3], bool))
        sources = find_source_images(found.choice, keep_identity=False)
        return segmentation(mask, mask, sources, "test"), sources


def read_back(numbers: Measurements, parts, path: Path) -> list:
    structured_report(numbers, *parts).save_as(path)
    report = hd.sr.srread(path)
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    return report.content.get_volumetric_roi_measurement_groups()


def test_values_units_and_codes_are_stored(parts, tmp_path: Path) -> None:
    lesion, brain = read_back(NUMBERS, parts, tmp_path / "sr.dcm")
    found = [(m.name.value, m.value, m.unit.value) for m in lesion.get_measurements()]
    assert found == [
        ("118565006", 12.5, "ml"),
        ("118565006", 12.0, "ml"),
        ("118565006", 0.5, "ml"),
        ("lesion-count", 3, "1"),
        ("113041", 5.1e-4, "mm2/s"),
        ("kappa-dwi", 1.9, "{ratio}"),
        ("kappa-adc", 0.6, "{ratio}"),
    ]
    sides = [m.finding_sites[0].laterality.meaning for m in lesion.get_measurements()[1:3]]
    assert sides == ["Left", "Right"]
    assert [(m.value, m.unit.value) for m in brain.get_measurements()] == [(1400.0, "ml")]


def test_the_report_refers_to_the_segments_and_the_study(parts, tmp_path: Path) -> None:
    seg, sources = parts
    groups = read_back(NUMBERS, parts, tmp_path / "sr.dcm")
    for number, group in enumerate(groups, start=1):
        segment = group.referenced_segment
        assert segment.referenced_sop_instance_uid == seg.SOPInstanceUID
        assert segment.referenced_segment_numbers == [number]
        assert group.tracking_uid == seg.SegmentSequence[number - 1].TrackingUID
    report = hd.sr.srread(tmp_path / "sr.dcm")
    assert report.StudyInstanceUID == sources.images[0].StudyInstanceUID
    study = report.CurrentRequestedProcedureEvidenceSequence[0]
    cited = {
        item.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert cited == {seg.SOPInstanceUID, *(image.SOPInstanceUID for image in sources.images)}


def test_warnings_become_comments(parts, tmp_path: Path) -> None:
    findings = [
        Finding("dicom-series", "note", "series 3 used as DWI"),
        Finding("misaligned", "warning", "b0: 9 mm from the DWI \N{EM DASH} compare them"),
        Finding("brain-cropped", "warning", "the brain is cut at the top"),
    ]
    structured_report(NUMBERS, *parts, findings).save_as(tmp_path / "sr.dcm")
    content = hd.sr.srread(tmp_path / "sr.dcm").content
    (container,) = hd.sr.utils.find_content_items(
        content[0], name=CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")
    )
    assert container.relationship_type.value == "CONTAINS"
    comments = [(item.name.value, item.value) for item in container.ContentSequence]
    assert comments == [("121106", finding.message) for finding in findings[1:]]
    # Measurements and observer are still present.
    assert len(content.get_volumetric_roi_measurement_groups()) == 2
    (observer,) = content.get_observer_contexts()
    assert observer.observer_identifying_attributes.name == "infarct"
    # Also when read with plain pydicom.
    plain = pydicom.dcmread(tmp_path / "sr.dcm")
    assert plain.ContentSequence[-1].ContentSequence[0].TextValue == findings[1].message
    structured_report(NUMBERS, *parts, findings[:1]).save_as(tmp_path / "sr.dcm")
    assert b"Qualitative" not in (tmp_path / "sr.dcm").read_bytes()


def test_undefined_values_are_omitted(parts, tmp_path: Path) -> None:
    nothing = replace(
        NUMBERS, lesion_volume_ml=0.0, dwi_ratio=math.nan, adc_ratio=math.nan, mean_adc=math.nan
    )
    lesion, _ = read_back(nothing, parts, tmp_path / "sr.dcm")
    names = [m.name.value for m in lesion.get_measurements()]
    assert names == ["118565006", "118565006", "118565006", "lesion-count"]
