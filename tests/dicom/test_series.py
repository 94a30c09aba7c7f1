import shutil
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from dicom_scanner import ADC, SMALL, Protocol, Study, noise, save_classic
from pydicom.uid import generate_uid

from infarct.core.errors import ContentError, InputFileError
from infarct.dicom.headers import read_header
from infarct.dicom.series import check_complete, find_series, read_folder


def test_a_study_is_grouped_into_series(visit: Path) -> None:
    found = find_series(visit)
    assert [(s.number, s.content) for s in found] == [
        *((2, "other"), (4, "signal"), (5, "signal"), (6, "adc"), (7, "other"))
    ]
    assert found[1].bvalues == (0, 1000)
    assert found[1].study_date == "2024-02-29 11:59"
    assert replace(found[1], studied=(0, 0)).study_date == "no date"
    assert len(found[1].files) == len(found[1].frames) == 4 * 8


def test_folders_without_dicom_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="no such folder"):
        find_series(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputFileError, match="none of its 1 files is a readable DICOM image"):
        find_series(tmp_path)


def test_two_patients_are_rejected_without_naming_them(visit: Path, tmp_path: Path) -> None:
    shutil.copytree(visit / "c", tmp_path / "one")
    other = Study.new("SIEMENS", patient_id="PAT-4712")
    save_classic(tmp_path / "two", other, Protocol(3, "dwi"), SMALL, [(1000, noise(400, 3))])
    with pytest.raises(ContentError, match="2 patients") as refusal:
        find_series(tmp_path)
    assert "PAT-" not in str(refusal.value)
    assert "Roe" not in str(refusal.value)


def save_without(folder: Path, *lost: tuple[int, int]) -> None:
    """Save b0 and two directions of 8 slices, without the files of (volume, slice)."""
    volumes = [(0, noise(900)), (1000, noise(400)), (1000, noise(410))]
    save_classic(folder, Study.new("SIEMENS"), Protocol(3, "dwi"), SMALL, volumes)
    numbers = {8 * volume + k + 1 for volume, k in lost}
    for path in folder.iterdir():
        if read_header(path).instance in numbers:
            path.unlink()


def test_a_complete_series_passes(tmp_path: Path) -> None:
    save_without(tmp_path)
    check_complete(find_series(tmp_path)[0])


def test_copies_of_a_file_count_once(tmp_path: Path) -> None:
    save_without(tmp_path / "once")
    (tmp_path / "again").mkdir()
    for path in sorted((tmp_path / "once").iterdir())[:5]:
        shutil.copyfile(path, tmp_path / "again" / path.name)
    (series,) = find_series(tmp_path)
    assert len(series.files) == 3 * 8
    check_complete(series)


def test_a_slice_missing_in_all_volumes_is_detected(tmp_path: Path) -> None:
    save_without(tmp_path, (0, 3), (1, 3), (2, 3))
    with pytest.raises(ContentError, match=r"5\.00 to 10\.00 mm apart"):
        check_complete(find_series(tmp_path)[0])


@pytest.mark.parametrize("lost", [(0, 0), (0, 3), (1, 7), (2, 3)])
def test_a_file_missing_in_one_volume_is_detected(lost: tuple[int, int], tmp_path: Path) -> None:
    save_without(tmp_path, lost)
    with pytest.raises(ContentError, match=r"files are missing|mm apart"):
        check_complete(find_series(tmp_path)[0])


def test_an_unidentified_b0_is_part_of_its_series(tmp_path: Path) -> None:
    volumes = [(0, noise(900)), (1000, noise(400))]
    protocol = Protocol(3, "head", ("ORIGINAL", "PRIMARY", "OTHER"))
    save_classic(tmp_path, Study.new("GE MEDICAL SYSTEMS"), protocol, SMALL, volumes)
    (series,) = find_series(tmp_path)
    assert series.bvalues == (0, 1000)
    assert len(series.frames) == 2 * 8


def test_a_slice_missing_in_an_adc_map_is_detected(tmp_path: Path) -> None:
    study, protocol = Study.new("SIEMENS"), Protocol(6, "dwi_ADC", ADC)
    save_classic(tmp_path, study, protocol, SMALL, [(None, noise(800))])
    next(path for path in tmp_path.iterdir() if read_header(path).instance == 4).unlink()
    with pytest.raises(ContentError, match="mm apart"):
        check_complete(find_series(tmp_path)[0])


def blank(folder: Path, **values: str) -> None:
    """Change elements of all files in a folder."""
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        for name, value in values.items():
            setattr(image, name, value)
        image.save_as(path)


@pytest.mark.parametrize(
    ("changes", "patients"),
    [
        ({"PatientID": "", "PatientName": ""}, 1),
        ({"PatientID": ""}, 1),
        ({"PatientID": "", "PatientName": "ROE^JANE^^^"}, 1),
        ({"PatientID": " pat-4711 ", "PatientName": "Roe-Doe^Jane"}, 1),
        ({"PatientID": "", "PatientName": "Doe^John"}, 2),
        ({"PatientID": "PAT-1"}, 2),
        ({"PatientID": "PAT-1", "Modality": "OT"}, 1),
        ({"PatientID": "PAT-1", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, 1),
    ],
)
def test_patients_are_distinguished_by_id_then_name_in_diffusion_series_only(
    changes: dict[str, str], patients: int, tmp_path: Path
) -> None:
    study = Study.new("SIEMENS")
    for number in (3, 4):
        protocol = Protocol(number, "dwi")
        save_classic(tmp_path / str(number), study, protocol, SMALL, [(1000, noise(400, 2))])
    blank(tmp_path / "4", **changes)
    if patients == 1:
        assert len(find_series(tmp_path)) == 2
        return
    with pytest.raises(ContentError, match=r"2 patients \(series 3 and series 4\)") as refusal:
        find_series(tmp_path)
    assert not any(name in str(refusal.value).lower() for name in ("pat-", "doe", "roe"))


def test_unreadable_files_are_counted(tmp_path: Path) -> None:
    save_without(tmp_path)
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "cut").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00UI\x00")
    (tmp_path / "README.TXT").write_text("a CD")
    contents = read_folder(tmp_path)
    assert len(contents.series[0].files) == 24
    assert contents.other_files == 1
    assert contents.losses.startswith("3 files could not be read (")
    assert "1 broken link" in contents.losses
    assert "1 empty" in contents.losses
    check_complete(contents.series[0])


def test_different_images_with_the_same_uid_are_not_copies(tmp_path: Path) -> None:
    save_without(tmp_path)
    blank(tmp_path, SOPInstanceUID="1.2.3")
    (series,) = find_series(tmp_path)
    assert len(series.files) == 24
    assert sum(bool(header.fault) for header in series.headers) == 23


def test_other_objects_in_a_signal_series_are_not_converted(tmp_path: Path) -> None:
    save_without(tmp_path)
    path = sorted(tmp_path.iterdir())[0]
    image = pydicom.dcmread(path)
    image.SOPClassUID, image.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.11.1", generate_uid()
    image.save_as(tmp_path / "presentation-state")
    (series,) = find_series(tmp_path)
    assert (len(series.headers), len(series.useful.headers)) == (25, 24)
