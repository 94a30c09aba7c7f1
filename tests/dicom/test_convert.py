from pathlib import Path

import dcm2niix
import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_scanner import (
    ADC,
    MAKERS,
    SMALL,
    Plane,
    Protocol,
    Study,
    noise,
    save_classic,
    save_enhanced,
)

from infarct.core.errors import ContentError, InputFileError
from infarct.dicom import slice_order
from infarct.dicom.convert import Image, convert
from infarct.dicom.series import find_series

TURN = np.deg2rad(20)
PLANES = {
    "axial": SMALL,
    "head to feet": Plane((-48.0, -64.0, 15.0), row=(1, 0, 0), column=(0, -1, 0)),
    "oblique": Plane(
        (-40.0, -60.0, -20.0),
        row=(float(np.cos(TURN)), float(np.sin(TURN)), 0.0),
        column=(float(-np.sin(TURN)), float(np.cos(TURN)), 0.0),
        spacing=(2.5, 1.75, 4.0),
    ),
    "sagittal": Plane((-20.0, -60.0, 50.0), row=(0, 1, 0), column=(0, 0, -1)),
    "coronal": Plane((-48.0, -20.0, 60.0), row=(1, 0, 0), column=(0, 0, -1)),
}


def convert_all(folder: Path, into: Path) -> list[Image]:
    (series,) = find_series(folder)
    return convert(series, into)


@pytest.mark.parametrize("maker", MAKERS)
def test_signal_and_bvalues_are_preserved_for_every_manufacturer(
    maker: str, tmp_path: Path
) -> None:
    volumes = [(0, noise(900)), (1000, noise(400, seed=1)), (1000, noise(410, seed=2))]
    save_classic(tmp_path / "in", Study.new(maker), Protocol(3, "dwi"), SMALL, volumes)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "in").iterdir()}
    (image,) = convert_all(tmp_path / "in", tmp_path / "work")
    assert image.bvalues == (0, 1000, 1000)
    assert image.has_b0
    assert image.shell == (1, 2)
    data = nib.load(image.path).get_fdata()
    for index, (_, frames) in enumerate(volumes):
        assert np.array_equal(data[..., index][:, ::-1].transpose(2, 1, 0), frames)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "in").iterdir()}


@pytest.mark.parametrize("maker", MAKERS)
def test_b0_and_adc_map_are_distinguished(maker: str, tmp_path: Path) -> None:
    study = Study.new(maker)
    save_classic(tmp_path / "b0", study, Protocol(3, "dwi_b0"), SMALL, [(0, noise(900))])
    save_classic(tmp_path / "adc", study, Protocol(4, "ADC", ADC), SMALL, [(None, noise(800))])
    (b0,) = convert_all(tmp_path / "b0", tmp_path / "work-b0")
    (adc,) = convert_all(tmp_path / "adc", tmp_path / "work-adc")
    assert (b0.content, b0.bvalues, b0.shell) == ("signal", (0,), ())
    assert (adc.content, adc.bvalues) == ("adc", ())


@pytest.mark.parametrize("save", [save_classic, save_enhanced])
@pytest.mark.parametrize("plane", PLANES.values(), ids=PLANES)
def test_every_pixel_keeps_its_position_in_the_patient(plane: Plane, save, tmp_path: Path) -> None:
    frames = noise(400)
    save(tmp_path / "in", Study.new("CANON_MEC"), Protocol(3, "dwi"), plane, [(1000, frames)])
    (image,) = convert_all(tmp_path / "in", tmp_path / "work")
    data = np.squeeze(nib.load(image.path).get_fdata())
    voxel_from_world = np.linalg.inv(image.grid.affine)
    rng = np.random.default_rng(0)
    for k, r, c in rng.integers(0, frames.shape, (200, 3)):
        # Equation C.7.6.2.1-1 of the DICOM standard, part 3.
        lps = plane.position(k) + np.multiply(plane.row, c * plane.spacing[1])
        lps = lps + np.multiply(plane.column, r * plane.spacing[0])
        voxel = voxel_from_world @ [-lps[0], -lps[1], lps[2], 1]
        assert np.allclose(voxel[:3], np.round(voxel[:3]), atol=1e-3)
        assert data[tuple(np.round(voxel[:3]).astype(int))] == frames[k, r, c]
    assert image.is_axial == (plane not in (PLANES["sagittal"], PLANES["coronal"]))


def test_the_shell_nearest_b_1000_is_used() -> None:
    bvalues = (0.0, 500.0, 980.0, 1020.0, 2000.0)
    image = Image(None, None, "signal", bvalues, None)
    assert image.shell == (2, 3)
    assert image.bvalue == 1000.0


def test_a_series_with_missing_slices_is_not_converted(tmp_path: Path) -> None:
    volumes = [(0, noise(900)), (1000, noise(400))]
    save_classic(tmp_path / "in", Study.new("GE MEDICAL SYSTEMS"), Protocol(3, "d"), SMALL, volumes)
    next((tmp_path / "in").iterdir()).unlink()
    with pytest.raises(ContentError, match="series 3"):
        convert_all(tmp_path / "in", tmp_path / "work")


@pytest.mark.parametrize("count", [1, 2])
def test_unknown_bvalues_are_not_guessed(count: int, tmp_path: Path) -> None:
    """dcm2niix writes 0 for them, so a DWI could be mistaken for b0."""
    volumes = [(None, noise(900)), (None, noise(400))][:count]
    save_classic(tmp_path / "in", Study.new("CANON_MEC"), Protocol(3, "DWI"), SMALL, volumes)
    with pytest.raises(ContentError, match="b-values are unknown"):
        convert_all(tmp_path / "in", tmp_path / "work")


def test_phase_images_in_the_same_series_are_ignored(tmp_path: Path) -> None:
    study, volumes = Study.new("SIEMENS"), [(0, noise(900)), (1000, noise(400))]
    uid = ""
    for part, first in (("M", 0), ("P", 100)):
        protocol = Protocol(3, "dwi", ("ORIGINAL", "PRIMARY", part, "ND"))
        made = save_classic(tmp_path / "in" / part, study, protocol, SMALL, volumes)
        uid = uid or made
        for path in (tmp_path / "in" / part).iterdir():
            frame = pydicom.dcmread(path)
            frame.SeriesInstanceUID, frame.InstanceNumber = uid, frame.InstanceNumber + first
            frame.save_as(path)
    (image,) = convert_all(tmp_path / "in", tmp_path / "work")
    assert image.path.name == "image.nii"


@pytest.mark.parametrize(("slope", "private"), [(1.0, 1.0), (1.4, 0.9), (0.5, 1.0)])
def test_a_philips_adc_map_keeps_its_display_unit(
    slope: float, private: float, tmp_path: Path
) -> None:
    frames = noise(800)
    study = Study.new("Philips Medical Systems")
    save_classic(tmp_path / "in", study, Protocol(6, "dADC", ADC), SMALL, [(None, frames)])
    for path in (tmp_path / "in").iterdir():
        frame = pydicom.dcmread(path)
        frame.RescaleSlope, frame.RescaleIntercept = slope, 0
        block = frame.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0E, "FL", private)
        frame.save_as(path)
    (adc,) = convert_all(tmp_path / "in", tmp_path / "work")
    data = nib.load(adc.path).get_fdata()[:, ::-1].transpose(2, 1, 0)
    assert np.allclose(data, frames * slope, rtol=1e-4)


def test_an_error_reported_by_dcm2niix_fails_the_conversion(tmp_path: Path, monkeypatch) -> None:
    """dcm2niix exits with code 0 if it could not sort the slices."""
    save_classic(tmp_path / "in", Study.new("UIH"), Protocol(3, "d"), SMALL, [(1000, noise(400))])
    tool = tmp_path / "tool"
    tool.write_text(f'#!/bin/sh\n"{dcm2niix.bin}" "$@"\necho "Error: Check sorted order"\n')
    tool.chmod(0o700)
    monkeypatch.setattr(dcm2niix, "bin", str(tool))
    with pytest.raises(InputFileError, match="it reports an error"):
        convert_all(tmp_path / "in", tmp_path / "work")


def test_volumes_omitted_by_dcm2niix_are_detected(tmp_path: Path, monkeypatch) -> None:
    volumes = [(0, noise(900)), (1000, noise(400))]
    save_classic(tmp_path / "in", Study.new("UIH"), Protocol(3, "d"), SMALL, volumes)
    (series,) = find_series(tmp_path / "in")
    monkeypatch.setattr(slice_order, "numbering", lambda _: {})
    # Half of the files no longer belong to the series during conversion.
    for header in series.headers[8:]:
        frame = pydicom.dcmread(header.frames[0].path)
        frame.SeriesInstanceUID = "1.2.3"
        frame.ImageType = ["ORIGINAL", "PRIMARY", "P", "ND"]
        frame.save_as(header.frames[0].path)
    with pytest.raises(
        ContentError, match="2 volumes according to the headers, but dcm2niix made 1"
    ):
        convert(series, tmp_path / "work")


def test_an_adc_map_with_several_volumes_is_rejected(tmp_path: Path) -> None:
    volumes = [(None, noise(800)), (None, noise(810))]
    save_classic(tmp_path / "in", Study.new("UIH"), Protocol(3, "ADC", ADC), SMALL, volumes)
    with pytest.raises(ContentError, match="the ADC map has several volumes"):
        convert_all(tmp_path / "in", tmp_path / "work")


def test_the_error_for_a_single_slice_names_the_series(tmp_path: Path) -> None:
    volumes = [(0, noise(900, 1)), (1000, noise(400, 1))]
    save_classic(tmp_path / "in", Study.new("SIEMENS"), Protocol(3, "d"), SMALL, volumes)
    with pytest.raises(ContentError, match=r"series 3: .*stack of slices") as refusal:
        convert_all(tmp_path / "in", tmp_path / "work")
    assert str(tmp_path) not in str(refusal.value)


def save_partly(folder: Path, second: np.ndarray, *, multi_frame: bool, lost: int = 0) -> None:
    """Save a DWI at b = 1000 and a volume with no b-value (in the first `lost` slices only)."""
    volumes = [(0, second), (1000, noise(400, seed=1))]
    save = save_enhanced if multi_frame else save_classic
    save(folder, Study.new("CANON_MEC"), Protocol(3, "dwi"), SMALL, volumes)
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        if multi_frame:
            for group in image.PerFrameFunctionalGroupsSequence[:8]:
                del group.MRDiffusionSequence
        elif image.InstanceNumber <= (lost or 8):
            del image.DiffusionBValue
        image.save_as(path)


def test_a_multi_frame_b0_without_a_bvalue_is_rejected(tmp_path: Path) -> None:
    """dcm2niix does not report the source frames of its volumes."""
    save_partly(tmp_path / "in", noise(900), multi_frame=True)
    with pytest.raises(ContentError, match="8 of its 16 images have none"):
        convert_all(tmp_path / "in", tmp_path / "work")


def test_a_b0_without_a_bvalue_is_identified_by_its_signal(tmp_path: Path) -> None:
    """The b-values must not become (1000, 1000): the b0 would be averaged into the DWI."""
    save_partly(tmp_path / "in", noise(900), multi_frame=False)
    (image,) = convert_all(tmp_path / "in", tmp_path / "work")
    assert sorted(image.bvalues) == [0, 1000]
    data = nib.load(image.path).get_fdata()
    assert data[..., image.bvalues.index(0)].mean() > 800
    (finding,) = image.findings
    assert (finding.code, finding.level) == ("dicom-b0-by-signal", "warning")
    assert "1 of its 2 volumes have no b-value" in finding.message


@pytest.mark.parametrize("multi_frame", [False, True])
def test_a_dark_volume_without_a_bvalue_is_rejected(multi_frame: bool, tmp_path: Path) -> None:
    save_partly(tmp_path / "in", noise(410), multi_frame=multi_frame)
    with pytest.raises(ContentError, match="8 of its 16 images have none"):
        convert_all(tmp_path / "in", tmp_path / "work")


def test_single_slices_without_a_bvalue_are_rejected(tmp_path: Path) -> None:
    save_partly(tmp_path / "in", noise(900), multi_frame=False, lost=3)
    with pytest.raises(ContentError, match="3 of its 16 images have no b-value"):
        convert_all(tmp_path / "in", tmp_path / "work")


def test_pixels_above_32767_stay_positive(tmp_path: Path) -> None:
    volumes = [(0, noise(60_000)), (1000, noise(40_000, seed=1))]
    save_classic(tmp_path / "in", Study.new("UIH"), Protocol(3, "d"), SMALL, volumes)
    (image,) = convert_all(tmp_path / "in", tmp_path / "work")
    data = nib.load(image.path).get_fdata()
    for index, (_, frames) in enumerate(volumes):
        assert np.array_equal(data[..., index][:, ::-1].transpose(2, 1, 0), frames)


@pytest.mark.parametrize("kept", [132, 0])
def test_files_without_preamble_are_read(kept: int, tmp_path: Path) -> None:
    volumes = [(0, noise(900)), (1000, noise(400, seed=1))]
    save_classic(tmp_path / "in", Study.new("CANON_MEC"), Protocol(3, "d"), SMALL, volumes)
    for path in (tmp_path / "in").iterdir():
        content = path.read_bytes()
        start = kept or content.index(b"\x08\x00\x08\x00")
        path.write_bytes(content[start:])
    (image,) = convert_all(tmp_path / "in", tmp_path / "work")
    data = nib.load(image.path).get_fdata()
    for index, (_, frames) in enumerate(volumes):
        assert np.array_equal(data[..., index][:, ::-1].transpose(2, 1, 0), frames)
