"""Compare every frame of a SEG with the source frame it refers to."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from dicom_scanner import MAKERS, Protocol, Study, noise, save_classic, save_enhanced
from test_convert import PLANES

from infarct.core.nifti import read
from infarct.dicom.seg import from_frames, segmentation, to_frames
from infarct.dicom.source_images import find_source_images
from infarct.dicom.study import opened_folder


def segment_bright(folder: Path, out: Path) -> tuple[Path, np.ndarray, float]:
    """Segment the bright voxels of the weighted volume in a folder and save them as a SEG.

    Returns:
        The SEG, the mask on the dcm2niix grid, and the threshold.
    """
    with opened_folder(folder) as found:
        volume = read(found.choice.dwi.path)
        shown = volume.data[..., found.choice.dwi.shell[0]]
        threshold = float(np.percentile(shown, 80))
        lesion, brain = volume.like(shown > threshold), volume.like(shown > 0.5 * threshold)
        sources = find_source_images(found.choice, keep_identity=False)
        made = segmentation(lesion, brain, sources, "test")
    made.save_as(out / "seg.dcm")
    return out / "seg.dcm", lesion.data, threshold


def check_against_source(seg_path: Path, folder: Path, threshold: float) -> int:
    """Compare each frame of segment 1 with pixels and position of the frame it refers to.

    Uses pydicom and numpy only, neither this package nor highdicom.

    Returns:
        The number of frames compared.
    """
    sources = {}
    for path in folder.rglob("*"):
        if path.is_file():
            image = pydicom.dcmread(path)
            sources[image.SOPInstanceUID] = image
    seg = pydicom.dcmread(seg_path)
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    frames = bits[: seg.NumberOfFrames * seg.Rows * seg.Columns]
    frames = frames.reshape(seg.NumberOfFrames, seg.Rows, seg.Columns)
    shared = seg.SharedFunctionalGroupsSequence[0]
    compared = 0
    for shown, group in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        if group.SegmentIdentificationSequence[0].ReferencedSegmentNumber != 1:
            continue
        (reference,) = group.DerivationImageSequence[0].SourceImageSequence
        image = sources[reference.ReferencedSOPInstanceUID]
        pixels, plane, measures = image.pixel_array, image, image
        position = image.get("ImagePositionPatient")
        if "ReferencedFrameNumber" in reference:
            index = reference.ReferencedFrameNumber - 1
            pixels = pixels[index]
            frame = image.PerFrameFunctionalGroupsSequence[index]
            common = image.SharedFunctionalGroupsSequence[0]
            position = frame.PlanePositionSequence[0].ImagePositionPatient
            plane, measures = (
                (frame if name in frame else common)[name].value[0]
                for name in ("PlaneOrientationSequence", "PixelMeasuresSequence")
            )
        assert np.array_equal(shown > 0, pixels > threshold)
        mine = group.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(np.array(mine, float), np.array(position, float), atol=1e-3)
        turned = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        assert np.allclose(
            np.array(turned, float), np.array(plane.ImageOrientationPatient, float), atol=1e-4
        )
        spacing = shared.PixelMeasuresSequence[0].PixelSpacing
        assert np.allclose(np.array(spacing, float), np.array(measures.PixelSpacing, float))
        compared += 1
    return compared


@pytest.mark.parametrize("save", [save_classic, save_enhanced], ids=["classic", "enhanced"])
@pytest.mark.parametrize("plane", PLANES.values(), ids=PLANES)
def test_every_frame_matches_its_source_frame(plane, save, tmp_path: Path) -> None:
    volumes = [(0, noise(900)), (1000, noise(400, seed=1)), (1000, noise(400, seed=2))]
    save(tmp_path / "in", Study.new("CANON_MEC"), Protocol(3, "dwi"), plane, volumes)
    path, lesion, threshold = segment_bright(tmp_path / "in", tmp_path)
    assert check_against_source(path, tmp_path / "in", threshold) == 8
    volume = hd.seg.segread(path).get_volume(combine_segments=False, segment_numbers=[1])
    assert volume.array.sum() == lesion.sum()


@pytest.mark.parametrize("maker", ["SIEMENS", "GE MEDICAL SYSTEMS"])
def test_the_seg_belongs_to_the_study_and_has_coded_segments(maker: str, tmp_path: Path) -> None:
    assert maker in MAKERS
    study = Study.new(maker)
    volumes = [(0, noise(900)), (1000, noise(400))]
    save_classic(tmp_path / "in", study, Protocol(3, "dwi"), PLANES["oblique"], volumes)
    path, lesion, _ = segment_bright(tmp_path / "in", tmp_path)
    seg = hd.seg.segread(path)
    assert seg.StudyInstanceUID == study.uid
    assert seg.FrameOfReferenceUID == study.frame_of_reference
    infarct, brain = (seg.get_segment_description(n) for n in (1, 2))
    assert infarct.segmented_property_type.value == "55641003"
    assert infarct.segmented_property_category.value == "49755003"
    assert brain.segmented_property_type.value == "12738006"
    assert {s.scheme_designator for s in (infarct.segmented_property_type,)} == {"SCT"}
    frames = seg.get_volume(combine_segments=False, segment_numbers=[1]).array[..., 0]
    # highdicom may stack in the opposite direction.
    mine = to_frames(lesion)
    assert np.array_equal(frames, mine) or np.array_equal(frames, mine[::-1])


def save_and_segment(folder: Path, method: str, *, keep_identity: bool = False) -> pydicom.Dataset:
    """Save a series and segment its bright voxels."""
    volumes = [(0, noise(900)), (1000, noise(400))]
    save_classic(folder, Study.new("UIH"), Protocol(3, "d"), PLANES["axial"], volumes)
    with opened_folder(folder) as found:
        volume = read(found.choice.dwi.path)
        mask = volume.like(volume.data[..., 1] > 420)
        sources = find_source_images(found.choice, keep_identity=keep_identity)
        return segmentation(mask, mask, sources, method)


@pytest.mark.parametrize("keep", [True, False])
def test_keep_identity_controls_the_patient_identity(keep: bool, tmp_path: Path) -> None:
    made = save_and_segment(tmp_path / "in", "test", keep_identity=keep)
    assert (made.PatientID == "PAT-4711") == keep
    assert ("Roe^Jane" in str(made)) == keep


@pytest.mark.parametrize("alphabets", ["ISO_IR 192", ["", "ISO 2022 IR 87"]])
def test_a_name_in_another_character_set_is_preserved(alphabets, tmp_path: Path) -> None:
    name, folder = "Yamada^Tarou=山田^太郎", tmp_path / "in"
    volumes = [(0, noise(900)), (1000, noise(400))]
    save_classic(folder, Study.new("CANON_MEC"), Protocol(3, "d"), PLANES["axial"], volumes)
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        image.SpecificCharacterSet, image.PatientName = alphabets, name
        image.save_as(path)
    with opened_folder(folder) as found:
        volume = read(found.choice.dwi.path)
        mask = volume.like(volume.data[..., 1] > 420)
        sources = find_source_images(found.choice, keep_identity=True)
        segmentation(mask, mask, sources, "test").save_as(tmp_path / "seg.dcm")
    assert str(pydicom.dcmread(tmp_path / "seg.dcm").PatientName) == name


def test_an_empty_mask_is_stored(tmp_path: Path) -> None:
    volumes = [(0, noise(900)), (1000, noise(400))]
    save_classic(tmp_path / "in", Study.new("UIH"), Protocol(3, "d"), PLANES["axial"], volumes)
    with opened_folder(tmp_path / "in") as found:
        volume = read(found.choice.dwi.path)
        shape = volume.data.shape[:3]
        sources = find_source_images(found.choice, keep_identity=False)
        lesion, brain = volume.like(np.zeros(shape, bool)), volume.like(np.ones(shape, bool))
        made = segmentation(lesion, brain, sources, "test")
    assert made.NumberOfFrames == 2 * 8
    made.save_as(tmp_path / "seg.dcm")
    seg = hd.seg.segread(tmp_path / "seg.dcm")
    assert seg.get_volume(combine_segments=False, segment_numbers=[1]).array.sum() == 0
    assert seg.get_volume(combine_segments=False, segment_numbers=[2]).array.all()


def test_a_long_method_name_is_truncated(tmp_path: Path) -> None:
    made = save_and_segment(tmp_path / "in", ",".join(["dagmnet-ch3-brief"] * 4))
    for segment in made.SegmentSequence:
        assert segment.SegmentAlgorithmName.startswith("infarct dagmnet-ch3-brief,")
        assert len(segment.SegmentAlgorithmName) <= 64


def test_from_frames_is_the_inverse_of_to_frames() -> None:
    data = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    assert np.array_equal(from_frames(to_frames(data)), data)
    # The first pixel of a frame is the first column of the last row of voxels.
    assert to_frames(data)[1, 0, 0] == data[0, -1, 1]


@pytest.mark.parametrize("name", ["canon-galan-enhanced", "siemens-prisma-xa30", "ge-nine-slices"])
def test_frames_of_real_scans_match_their_source_frames(
    name: str, real_data: Path, tmp_path: Path
) -> None:
    folder = real_data / "dicom" / name
    path, lesion, threshold = segment_bright(folder, tmp_path)
    assert check_against_source(path, folder, threshold) == lesion.shape[2]


def test_a_seg_of_a_mosaic_has_positions_but_no_source_frames(
    real_data: Path, tmp_path: Path
) -> None:
    path, lesion, _ = segment_bright(real_data / "dicom" / "united-imaging-770", tmp_path)
    seg = pydicom.dcmread(path)
    assert not any(g.get("DerivationImageSequence") for g in seg.PerFrameFunctionalGroupsSequence)
    assert seg.FrameOfReferenceUID
    assert seg.pixel_array[: lesion.shape[2]].sum() == lesion.sum()
