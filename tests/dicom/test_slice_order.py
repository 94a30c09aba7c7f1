import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_scanner import ADC, MAKERS, SMALL, Protocol, Study, noise, save_classic, save_enhanced
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from infarct.core.errors import ContentError
from infarct.core.geometry import Grid
from infarct.core.nifti import read
from infarct.dicom.convert import convert
from infarct.dicom.series import Series, find_series
from infarct.dicom.slice_order import check_places, numbering, placing, volume_bvalues, volumes_told

SLICES = 8
ACQUIRED = [0, 2, 4, 6, 1, 3, 5, 7]
"""Interleaved acquisition: even slices first."""

VOLUMES = [(0, noise(900)), (1000, noise(400, seed=1)), (1000, noise(430, seed=2))]


def repeated(frame: Dataset, volume: int, k: int) -> None:
    frame.InstanceNumber = k + 1


def absent(frame: Dataset, volume: int, k: int) -> None:
    del frame.InstanceNumber


def interleaved(frame: Dataset, volume: int, k: int) -> None:
    frame.InstanceNumber = volume * SLICES + ACQUIRED.index(k) + 1


def shuffled(frame: Dataset, volume: int, k: int) -> None:
    frame.InstanceNumber = random.Random(volume * SLICES + k).randint(1, 100_000)


def by_place(frame: Dataset, volume: int, k: int) -> None:
    frame.InstanceNumber = k * len(VOLUMES) + volume + 1


def head_first(frame: Dataset, volume: int, k: int) -> None:
    frame.InstanceNumber = (volume + 1) * SLICES - k


def save(
    folder: Path,
    number: Callable[[Dataset, int, int], None],
    maker: str = "SIEMENS",
    volumes: list[tuple[float | None, np.ndarray]] = VOLUMES,
) -> Series:
    """Save a series after `number(file, volume, slice)` was applied to each file."""
    save_classic(folder, Study.new(maker), Protocol(3, "dwi"), SMALL, volumes)
    for path in folder.iterdir():
        frame = pydicom.dcmread(path)
        number(frame, *divmod(frame.InstanceNumber - 1, SLICES))
        frame.save_as(path)
    (series,) = find_series(folder)
    return series


@pytest.mark.parametrize("number", [repeated, absent, interleaved, shuffled, by_place, head_first])
@pytest.mark.parametrize("maker", MAKERS)
def test_slices_keep_volume_and_position_for_any_numbering(
    maker: str, number: Callable[[Dataset, int, int], None], tmp_path: Path
) -> None:
    series = save(tmp_path / "in", number, maker)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "in").iterdir()}
    (image,) = convert(series, tmp_path / "work")
    assert image.bvalues == (0, 1000, 1000)
    data = nib.load(image.path).get_fdata()
    for index, (_, frames) in enumerate(VOLUMES):
        volume = data[..., index] if image.grid.affine[2, 2] > 0 else data[:, :, ::-1, index]
        assert np.array_equal(volume[:, ::-1].transpose(2, 1, 0), frames)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "in").iterdir()}


@pytest.mark.parametrize(("number", "drift"), [(lambda *_: None, 1e-5), (interleaved, 0.06)])
def test_volumes_with_slightly_different_positions_form_one_stack(
    number: Callable[[Dataset, int, int], None], drift: float, tmp_path: Path
) -> None:
    def drifted(frame: Dataset, volume: int, k: int) -> None:
        number(frame, volume, k)
        frame.ImagePositionPatient = [-48 + drift * volume, -64, -20 + 5 * k - drift * volume]

    (image,) = convert(save(tmp_path / "in", drifted, volumes=VOLUMES[:2]), tmp_path / "work")
    data = nib.load(image.path).get_fdata()
    for index, (_, frames) in enumerate(VOLUMES[:2]):
        assert np.array_equal(data[..., index][:, ::-1].transpose(2, 1, 0), frames)
    assert np.allclose(image.grid.affine[:3, 3], (48, -62, -20), atol=1e-4)


def test_files_in_order_are_not_renumbered(tmp_path: Path) -> None:
    assert numbering(save(tmp_path / "up", lambda *_: None)) == {}
    assert numbering(save(tmp_path / "down", head_first)) == {}
    save_enhanced(tmp_path / "enhanced", Study.new("CANON_MEC"), Protocol(3, "d"), SMALL, VOLUMES)
    (enhanced,) = find_series(tmp_path / "enhanced")
    assert numbering(enhanced) == {}
    assert placing(enhanced) == placing(save(tmp_path / "plain", lambda *_: None)) == {}


def test_directions_with_ambiguous_numbers_have_the_same_average(tmp_path: Path) -> None:
    def alike(frame: Dataset, volume: int, k: int) -> None:
        frame.InstanceNumber, frame.AcquisitionNumber = k + 1, 1

    (image,) = convert(save(tmp_path / "in", alike), tmp_path / "work")
    data = nib.load(image.path).get_fdata()
    assert image.bvalues == (0, 1000, 1000)
    mean = (VOLUMES[1][1].astype(float) + VOLUMES[2][1]) / 2
    assert np.array_equal(data[..., 0][:, ::-1].transpose(2, 1, 0), VOLUMES[0][1])
    assert np.allclose(data[..., 1:].mean(axis=-1)[:, ::-1].transpose(2, 1, 0), mean)


def test_files_without_bvalues_and_numbers_are_rejected(tmp_path: Path) -> None:
    def lost(frame: Dataset, volume: int, k: int) -> None:
        shuffled(frame, volume, k)
        frame.AcquisitionNumber = 1

    volumes = [(None, noise(900)), (None, noise(400))]
    series = save(tmp_path / "in", lost, "CANON_MEC", volumes)
    with pytest.raises(ContentError, match="cannot be sorted into volumes by number or b-value"):
        convert(series, tmp_path / "work")


@pytest.mark.parametrize("number", [interleaved, by_place])
def test_regular_numbers_suffice_without_bvalues(
    number: Callable[[Dataset, int, int], None], tmp_path: Path
) -> None:
    volumes = [(None, frames) for _, frames in VOLUMES]
    series = save(tmp_path / "in", number, "CANON_MEC", volumes)
    numbers = numbering(series)
    row = sorted(series.files, key=numbers.__getitem__)
    pixels = np.stack([pydicom.dcmread(path).pixel_array for path in row])
    assert np.array_equal(pixels, np.concatenate([frames for _, frames in VOLUMES]))


def test_bvalues_are_read_without_private_elements(tmp_path: Path) -> None:
    """Anonymised: only the Siemens sequence name contains the b-value."""

    def anonymous(frame: Dataset, volume: int, k: int) -> None:
        by_place(frame, volume, k)
        frame.remove_private_tags()

    series = save(tmp_path / "in", anonymous, volumes=[VOLUMES[1], VOLUMES[0]])
    (image,) = convert(series, tmp_path / "work")
    assert image.bvalues == (0, 1000)
    volume = read(image.path)
    for index, (_, frames) in enumerate(VOLUMES[:2]):
        assert np.array_equal(volume.data[:, ::-1, :, index].transpose(2, 1, 0), frames)
    # If volumes are not in the order of the headers, b-values are unknown.
    swapped = replace(volume, data=volume.data[..., ::-1])
    assert volume_bvalues(series, volume) == (0, 1000)
    assert volume_bvalues(series, swapped) is None
    unsaid = tuple(
        replace(h, frames=(replace(h.frames[0], bvalue=h.frames[0].bvalue or None),))
        for h in series.headers
    )
    assert volume_bvalues(replace(series, headers=unsaid), volume) == (None, 1000)


@pytest.mark.parametrize("bvalue", [1000, None])
def test_duplicated_slices_are_rejected(bvalue: float | None, tmp_path: Path) -> None:
    study = Study.new("GE MEDICAL SYSTEMS")
    protocol = Protocol(3, "dwi") if bvalue else Protocol(3, "ADC", ADC)
    save_classic(tmp_path / "in", study, protocol, SMALL, [(bvalue, noise(400))])
    for path in list((tmp_path / "in").iterdir()):
        frame = pydicom.dcmread(path)
        frame.SOPInstanceUID = frame.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        frame.save_as(path.with_name(f"again-{path.name}"))
    (series,) = find_series(tmp_path / "in")
    with pytest.raises(ContentError, match="series 3: every slice is duplicated"):
        convert(series, tmp_path / "work")


def test_an_image_whose_positions_differ_from_the_headers_is_rejected(tmp_path: Path) -> None:
    series = save(tmp_path / "in", interleaved)
    affine = np.array([[-2.0, 0, 0, 48], [0, 2, 0, -62], [0, 0, 5, -20], [0, 0, 0, 1]])
    check_places(series, Grid((48, 64, SLICES), affine))
    wide = affine @ np.diag([1, 1, 3, 1])
    for shape, wrong in (((48, 64, 7), affine), ((48, 64, 8), wide), ((48, 60, 8), affine)):
        with pytest.raises(ContentError, match="convert the series yourself"):
            check_places(series, Grid(shape, wrong))


def test_a_sheared_stack_is_rejected(tmp_path: Path) -> None:
    def sheared(frame: Dataset, volume: int, k: int) -> None:
        frame.ImagePositionPatient = [-48 + 2 * k, -64, -20 + 5 * k]

    series = save(tmp_path / "in", sheared)
    with pytest.raises(ContentError, match=r"shifted by up to 14\.0 mm in the slice plane"):
        convert(series, tmp_path / "work")


def test_the_headers_define_the_number_of_volumes(tmp_path: Path) -> None:
    assert volumes_told(save(tmp_path, repeated)) == len(VOLUMES)
