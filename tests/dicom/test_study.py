import shutil
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_scanner import ADC, SMALL, TRACE, Protocol, Study, noise, save_classic, save_mosaic

from infarct.core.errors import ContentError, InputFileError, OutputError
from infarct.core.findings import Finding
from infarct.dicom.series import find_series
from infarct.dicom.study import check_outside, opened_folder
from infarct.preprocessing.case import CaseFiles


@dataclass(frozen=True)
class Opened:
    """Stand-in for a case."""

    files: CaseFiles
    findings: tuple[Finding, ...] = ()


def test_the_best_series_is_used_and_all_others_are_explained(visit: Path) -> None:
    with opened_folder(visit) as found:
        uses = {row.series.number: row.use for row in found.rows}
        files = found.files
        assert np.squeeze(nib.load(files.dwi).get_fdata()).shape == (48, 64, 8, 4)
        assert files.dwi.with_suffix(".bval").read_text().split() == ["0", *["1000"] * 3]
        assert nib.load(files.adc).shape == (48, 64, 8)
    assert uses[4].startswith("used as DWI and b0: axial, b 1000 in 3 directions")
    assert uses[5].startswith("candidate: axial, b 1000")
    assert uses[6] == "used as ADC"
    assert uses[7] == "neither diffusion signal nor ADC map"
    assert uses[2] == "no sign of diffusion weighting"
    assert not files.dwi.exists()


@pytest.mark.parametrize("by", ["number", "UID"])
def test_the_user_can_override_the_choice(visit: Path, by: str) -> None:
    trace = next(series for series in find_series(visit) if series.number == 5)
    with opened_folder(visit, str(trace.number) if by == "number" else trace.uid) as found:
        assert found.choice.dwi.series.number == 5
        assert found.choice.b0.series.number == 4
        assert nib.load(found.files.dwi).shape == (48, 64, 8)
        assert found.files.bvalue == 1000
        assert nib.load(found.files.b0).shape == (48, 64, 8)


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        ("99", InputFileError, "available series: 2, 4, 5, 6, 7"),
        ("2", ContentError, "possible series: 4, 5"),
        ("6", ContentError, "ADC map according to its image type"),
    ],
)
def test_an_unusable_series_option_is_rejected(visit, wanted, error, message) -> None:
    with pytest.raises(error, match=message), opened_folder(visit, wanted):
        pass


def test_the_error_for_a_folder_without_diffusion_lists_its_series(
    visit: Path, tmp_path: Path
) -> None:
    with (
        pytest.raises(ContentError, match=r"none of the 1 series is diffusion MRI .*t1_mprage"),
        opened_folder(visit / "a"),
    ):
        pass
    save_classic(
        tmp_path, Study.new("UIH"), Protocol(6, "dwi_ADC", ADC), SMALL, [(None, noise(800))]
    )
    with pytest.raises(ContentError, match="only an ADC map was found"), opened_folder(tmp_path):
        pass


def test_an_unusable_series_is_reported_and_the_next_best_used(visit: Path, tmp_path: Path) -> None:
    shutil.copytree(visit, tmp_path / "in")
    study = Study.new("SIEMENS")
    volumes = [(0, noise(900)), (1000, noise(400))]
    save_classic(tmp_path / "in" / "d", study, Protocol(3, "dwi"), SMALL, volumes)
    next((tmp_path / "in" / "d").iterdir()).unlink()
    with opened_folder(tmp_path / "in") as found:
        assert found.choice.dwi.series.number == 4
        codes = {finding.code: finding for finding in found.findings}
        assert "series 3" in codes["dicom-unusable"].message
        assert codes["dicom-unusable"].level == "warning"
        assert "2 studies" in codes["dicom-studies"].message
    with pytest.raises(ContentError, match="series 3"), opened_folder(tmp_path / "in", "3"):
        pass
    with pytest.raises(ContentError, match="series 3"), opened_folder(tmp_path / "in" / "d"):
        pass


def test_unreadable_files_are_reported(visit: Path, tmp_path: Path) -> None:
    shutil.copytree(visit, tmp_path / "in")
    (tmp_path / "in" / "empty.dcm").touch()
    with opened_folder(tmp_path / "in") as found:
        findings = {finding.code: finding for finding in found.findings}
    assert findings["dicom-unreadable"].level == "warning"
    assert "1 file could not be read (1 empty)" in findings["dicom-unreadable"].message
    assert "1 files in the folder are not DICOM" in findings["dicom-other-files"].message
    shutil.rmtree(tmp_path / "in" / "b")
    shutil.rmtree(tmp_path / "in" / "c")
    with pytest.raises(ContentError, match=r"1 empty"), opened_folder(tmp_path / "in"):
        pass


def test_a_low_b_value_is_b0_only_on_request(tmp_path: Path) -> None:
    volumes = [(50, noise(900)), (1000, noise(400))]
    save_classic(tmp_path, Study.new("SIEMENS"), Protocol(4, "dwi"), SMALL, volumes)
    with pytest.raises(ContentError, match="add --b0-below 51"), opened_folder(tmp_path):
        pass
    with opened_folder(tmp_path, b0_below=51) as found:
        assert found.files.dwi.with_suffix(".bval").read_text().split() == ["50", "1000"]
        assert found.files.b0_below == 51


def _three_mosaics(folder: Path) -> Path:
    """Save a b0 and two weighted volumes, one file each."""
    volumes = [(0, noise(900)), (1000, noise(400, seed=1)), (1000, noise(400, seed=2))]
    save_mosaic(folder, Study.new("SIEMENS"), Protocol(4, "dwi"), SMALL, volumes)
    return folder


def test_a_volume_without_modality_is_used_if_its_class_is_mr(tmp_path: Path) -> None:
    folder = _three_mosaics(tmp_path)
    for path in sorted(folder.iterdir()):
        image = pydicom.dcmread(path)
        image.Modality = ""
        image.save_as(path)
    with opened_folder(folder) as found:
        assert nib.load(found.files.dwi).shape[3] == 3
        assert "dicom-unusable" not in {finding.code for finding in found.findings}


@pytest.mark.parametrize(
    ("element", "value", "reason"),
    [
        ("Modality", "CT", "1 modality CT"),
        ("PhotometricInterpretation", "MONOCHROME1", "1 MONOCHROME1 pixels, not grayscale"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2", "1 CT Image Storage, not an MR image"),
    ],
)
def test_a_volume_that_is_left_out_of_its_series_is_reported(
    element, value, reason, tmp_path: Path
) -> None:
    folder = _three_mosaics(tmp_path)
    image = pydicom.dcmread(folder / "mosaic-1.dcm")
    setattr(image, element, value)
    image.save_as(folder / "mosaic-1.dcm")
    with opened_folder(folder) as found:
        assert nib.load(found.files.dwi).shape[3] == 2
        (finding,) = (f for f in found.findings if f.code == "dicom-unusable")
    assert f"series 4: 1 of its 3 images were not used ({reason})" in finding.message


def test_phase_images_in_the_series_are_not_reported(tmp_path: Path) -> None:
    folder = _three_mosaics(tmp_path)
    image = pydicom.dcmread(folder / "mosaic-2.dcm")
    image.ImageType = ["ORIGINAL", "PRIMARY", "P", "MOSAIC"]
    image.save_as(folder / "mosaic-2.dcm")
    with opened_folder(folder) as found:
        assert nib.load(found.files.dwi).shape[3] == 2
        assert "dicom-unusable" not in {finding.code for finding in found.findings}


def test_a_trace_with_its_adc_alone_is_a_case(tmp_path: Path) -> None:
    study = Study.new("Philips Medical Systems")
    save_classic(tmp_path, study, Protocol(3, "TRACE", TRACE), SMALL, [(1000, noise(400))])
    save_classic(tmp_path, study, Protocol(4, "dADC", ADC), SMALL, [(None, noise(800))])
    with opened_folder(tmp_path) as found:
        assert found.files.b0 is None
        assert found.files.adc.is_file()
        assert found.files.bvalue == 1000


def test_a_brain_mask_gets_a_neutral_name(visit: Path, tmp_path: Path, monkeypatch) -> None:
    brain = tmp_path / "Roe_Jane_brain.nii.gz"
    brain.write_bytes(b"mask")
    monkeypatch.setattr("infarct.dicom.study.open_case", Opened)
    with opened_folder(visit) as found:
        case = found.with_brain(brain).open()
        assert case.files.brain.name == "brain.nii.gz"
        assert case.files.brain.read_bytes() == b"mask"
        assert case.findings == found.findings
        assert found.with_brain(None) is found
    with opened_folder(visit) as found, pytest.raises(InputFileError, match="--brain"):
        found.with_brain(tmp_path / "nowhere.nii")


def test_the_output_folder_is_separate_from_the_input_folder(tmp_path: Path) -> None:
    for out in (tmp_path / "in", tmp_path / "in" / "results", tmp_path):
        with pytest.raises(OutputError, match="input folders are never modified"):
            check_outside(tmp_path / "in", out)
    check_outside(tmp_path / "in", tmp_path / "out")
