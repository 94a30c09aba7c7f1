"""The same head saved in many ways gives the same lesion; bad input gets its own refusal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import infarct
from infarct.core.errors import ContentError, GeometryError, InfarctError, InputFileError
from infarct.core.geometry import Grid
from infarct.core.nifti import Volume
from infarct.core.resampling import resample
from infarct.evaluation.metrics import dice
from infarct.inference import backends
from infarct.segmentation.result import Segmentation

BVALUE = 1000.0
METHOD = "cfuzzy"
"""What is tested is the road there and back, on which every method goes; this one is quick."""


@pytest.fixture(scope="module")
def plain(head, tmp_path_factory: pytest.TempPathFactory) -> Segmentation:
    paths = head.save(tmp_path_factory.mktemp("head"), dwi=head.dwi, b0=head.b0)
    return infarct.segment(**paths, bvalue=BVALUE, model=METHOD)


def as_image(head, role: str) -> nib.Nifti1Image:
    return nib.Nifti1Image(getattr(head, role).astype(np.float32), head.affine)


def flip(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return image.as_reoriented([[0, -1], [1, -1], [2, 1]])


def permute(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return image.as_reoriented([[1, 1], [2, -1], [0, 1]])


def as_integers(image: nib.Nifti1Image) -> nib.Nifti1Image:
    data = image.get_fdata()
    stored = nib.Nifti1Image(np.round(data * 20).astype(np.int16), image.affine)
    stored.header.set_slope_inter(0.05, 0.0)
    return stored


def tilt(image: nib.Nifti1Image) -> nib.Nifti1Image:
    rotation = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.05, -0.04, 0.2))
    return nib.Nifti1Image(image.get_fdata(), rotation @ image.affine)


def turn(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Store the axes in another order, two of them backwards."""
    return permute(flip(image))


@pytest.mark.parametrize(
    ("change", "suffix"), [(turn, ".nii.gz"), (as_integers, ".nii"), (tilt, ".nii.gz")]
)
def test_geometry_and_storage_do_not_move_the_lesion(
    head, plain, tmp_path: Path, change, suffix: str
) -> None:
    paths = {role: tmp_path / f"{role}{suffix}" for role in ("dwi", "b0")}
    for role, path in paths.items():
        change(as_image(head, role)).to_filename(path)
    result = infarct.segment(**paths, bvalue=BVALUE, model=METHOD)
    world_from_world = np.eye(4)
    if change is tilt:  # the header alone turned: compare in voxels
        world_from_world = result.case.dwi.affine @ np.linalg.inv(head.affine)
    back = resample(result.lesion, plain.lesion.grid, world_from_world, labels=True)
    assert dice(plain.lesion.data, back) > 0.98
    assert result.measurements.lesion_volume_ml == pytest.approx(
        plain.measurements.lesion_volume_ml, rel=0.03
    )
    assert result.measurements.lesions[0].side == "left"


def test_the_network_finds_the_same_lesion_in_a_scan_stored_another_way(
    head, segmentation, tmp_path: Path
) -> None:
    paths = {role: tmp_path / f"{role}.nii.gz" for role in ("dwi", "b0", "adc")}
    for role, path in paths.items():
        turn(as_image(head, role)).to_filename(path)
    result = infarct.segment(**paths, model=segmentation.model.name)
    assert result.model.networks
    assert result.lesion.data.shape != segmentation.lesion.data.shape
    back = resample(result.lesion, segmentation.lesion.grid, np.eye(4), labels=True)
    assert dice(segmentation.lesion.data, back) > 0.98
    assert result.measurements.lesion_volume_ml == pytest.approx(
        segmentation.measurements.lesion_volume_ml, rel=0.03
    )
    assert result.measurements.lesions[0].side == "left"
    for found, expected in zip(
        result.measurements.lesions, segmentation.measurements.lesions, strict=True
    ):
        assert found.centroid_mm == pytest.approx(expected.centroid_mm, abs=1.0)


@pytest.mark.parametrize("thickness", [1.0, 8.0])
def test_slices_may_be_thin_or_thick(head, tmp_path: Path, thickness: float) -> None:
    affine = head.affine.copy()
    affine[2, 2] = thickness
    grid = Grid((112, 128, int(170 / thickness)), affine)

    def at(image: np.ndarray) -> np.ndarray:
        return resample(Volume(image.astype(np.float32), head.affine), grid)

    paths = replace(head, affine=affine).save(tmp_path, dwi=at(head.dwi), b0=at(head.b0))
    result = infarct.segment(**paths, bvalue=BVALUE, model=METHOD)
    assert dice(at(head.lesion) > 0.5, result.lesion.data) > 0.9
    assert result.measurements.lesions[0].side == "left"


def test_a_series_gives_the_same_lesion(head, plain, tmp_path: Path) -> None:
    series = np.stack([head.b0, head.dwi * 1.1, head.dwi / 1.1], axis=-1).astype(np.float32)
    nib.Nifti1Image(series, head.affine).to_filename(tmp_path / "series.nii.gz")
    (tmp_path / "series.bval").write_text("0 1000 1000\n")
    result = infarct.segment(tmp_path / "series.nii.gz", model=METHOD)
    assert dice(plain.lesion.data, result.lesion.data) > 0.99


def test_dwi_and_adc_alone_give_the_same_lesion(head, plain, tmp_path: Path) -> None:
    paths = head.save(tmp_path)
    result = infarct.segment(paths["dwi"], adc=paths["adc"], bvalue=BVALUE, model=METHOD)
    assert dice(plain.lesion.data, result.lesion.data) > 0.95


def _ct(head) -> np.ndarray:
    return np.where(head.brain, 35.0, -1000.0)


def _phantom(head) -> np.ndarray:
    return head.b0 * np.exp(-BVALUE * 2.1e-3)


BAD = {
    "constant": (lambda head: np.full(head.dwi.shape, 7.0), ContentError),
    "NaN": (lambda head: np.full(head.dwi.shape, np.nan), ContentError),
    "one slice": (lambda head: head.dwi[:, :, 15:16], GeometryError),
    "two slices": (lambda head: head.dwi[:, :, 15:17], GeometryError),
    "CT": (_ct, ContentError),
    "phantom": (_phantom, ContentError),
    "swapped": (lambda head: head.b0 * 3, ContentError),
    "noise": (lambda head: np.random.default_rng(0).random(head.dwi.shape), InfarctError),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_images_are_refused(head, tmp_path: Path, what: str) -> None:
    make, error = BAD[what]
    paths = head.save(tmp_path, dwi=make(head), b0=head.b0)
    with pytest.raises(error):
        infarct.segment(**paths, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"text", b"\x1f\x8b\x08\x00broken"])
def test_bad_files_are_refused(head, tmp_path: Path, content: bytes) -> None:
    paths = head.save(tmp_path)
    (tmp_path / "bad.nii.gz").write_bytes(content)
    with pytest.raises(InputFileError, match=r"bad\.nii\.gz"):
        infarct.segment(tmp_path / "bad.nii.gz", paths["b0"])


def test_no_diffusion_weighting_is_refused(head, tmp_path: Path) -> None:
    paths = head.save(tmp_path)
    with pytest.raises(ContentError, match="diffusion weighting"):
        infarct.segment(paths["dwi"], paths["b0"], bvalue=0)


def test_the_large_real_infarct_is_found_on_its_side(
    real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The quicker engine: that both answer alike is seen in test_engines.
    monkeypatch.setenv(backends.ENGINE, "openvino")
    scan = real_data / "real" / "openads-02e8eb42"
    result = infarct.segment(scan / "dwi.nii.gz", scan / "b0.nii.gz", scan / "adc.nii.gz")
    reference = nib.load(scan / "lesion_manual.nii.gz").get_fdata() > 0.5
    assert dice(reference, result.lesion.data) > 0.6
    assert result.measurements.left_ml > 20 * result.measurements.right_ml
