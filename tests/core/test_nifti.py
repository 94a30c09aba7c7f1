import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infarct.core.errors import ContentError, GeometryError, InputFileError
from infarct.core.nifti import (
    Volume,
    closest_axes,
    form_disagreement_mm,
    has_position,
    read,
    read_labels,
    write,
)

OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.1, 0.2, -0.15) @ np.diag([-1.2, 1.2, 5.0]), [100.3, -110.7, -52.1]
)


def save(path: Path, data: np.ndarray, affine: np.ndarray = OBLIQUE, **codes: int) -> Path:
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=codes.get("sform", 1))
    image.set_qform(affine, code=codes.get("qform", 1))
    image.to_filename(path)
    return path


@pytest.mark.parametrize(("sform", "qform"), [(1, 1), (2, 0), (0, 1), (4, 2)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_written_masks_carry_the_geometry_of_the_input_bit_for_bit(
    tmp_path: Path, suffix: str, sform: int, qform: int
) -> None:
    source = save(tmp_path / f"in{suffix}", np.ones((6, 5, 4), np.int16), sform=sform, qform=qform)
    volume = read(source)
    target = tmp_path / f"out{suffix}"
    write(volume.like(volume.data > 0), target, np.uint8)
    before, after = nib.load(source).header, nib.load(target).header
    for field in ("sform_code", "qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x"):
        assert before[field] == after[field]
    for field in ("srow_x", "srow_y", "srow_z", "pixdim"):
        assert np.array_equal(before[field], after[field])
    assert after.get_data_dtype() == np.uint8
    assert np.array_equal(nib.load(target).affine, nib.load(source).affine)


def test_free_text_of_the_header_is_not_written(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((6, 5, 4), np.int16), OBLIQUE)
    image.header["descrip"] = b"Doe^Jane"
    image.header["aux_file"] = b"19700101"
    image.to_filename(tmp_path / "in.nii")
    write(read(tmp_path / "in.nii"), tmp_path / "out.nii")
    content = (tmp_path / "out.nii").read_bytes()
    assert b"Doe" not in content
    assert b"19700101" not in content


def test_scaling_is_applied_and_steps_round_trip(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(5, 4, 3), OBLIQUE)
    image.header.set_slope_inter(0.5, 10)
    image.to_filename(tmp_path / "scaled.nii.gz")
    assert read(tmp_path / "scaled.nii.gz").data.max() == pytest.approx(59 * 0.5 + 10)
    values = np.random.default_rng(0).normal(0, 3, (5, 4, 3))
    write(Volume(values, OBLIQUE), tmp_path / "steps.nii.gz", np.int16, step=1e-3)
    assert read(tmp_path / "steps.nii.gz").data == pytest.approx(values, abs=5.1e-4)


def test_same_volume_gives_the_same_bytes(tmp_path: Path) -> None:
    volume = Volume(np.random.default_rng(0).normal(size=(8, 8, 4)), OBLIQUE)
    for name in ("a.nii.gz", "b.nii.gz"):
        write(volume, tmp_path / name)
    first, second = (gzip.decompress((tmp_path / n).read_bytes()) for n in ("a.nii.gz", "b.nii.gz"))
    assert first == second


def test_images_created_in_memory_are_in_mm(tmp_path: Path) -> None:
    write(Volume(np.zeros((4, 4, 4)), OBLIQUE), tmp_path / "a.nii.gz")
    assert nib.load(tmp_path / "a.nii.gz").header.get_xyzt_units()[0] == "mm"


def test_bad_files_are_rejected_with_the_reason(tmp_path: Path) -> None:
    good = save(tmp_path / "good.nii.gz", np.ones((32, 32, 8), np.int16)).read_bytes()
    bad = {
        "truncated.nii.gz": good[: len(good) // 2],
        "text.nii.gz": b"hello",
        "empty.nii": b"",
        "text.nii": b"x" * 1000,
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputFileError, match=name):
            read(tmp_path / name)
    with pytest.raises(InputFileError, match="no such file"):
        read(tmp_path / "missing.nii.gz")
    with pytest.raises(InputFileError):
        read(tmp_path)


def test_a_flipped_bit_in_a_compressed_file_is_detected(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "scan.nii.gz"
    nib.Nifti1Image(rng.integers(0, 900, (20, 20, 8), np.int16), np.eye(4)).to_filename(path)
    whole = path.read_bytes()
    for at in (*rng.integers(500, len(whole) - 8, 20), len(whole) - 6):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(InputFileError, match="cannot be read as NIfTI"):
            read(path)
    path.write_bytes(whole[:-4])
    with pytest.raises(InputFileError, match="cannot be read as NIfTI"):
        read(path)


@pytest.mark.parametrize("size", [-3, 32767])
def test_impossible_sizes_are_rejected(tmp_path: Path, size: int) -> None:
    path = tmp_path / "scan.nii"
    image = nib.Nifti1Image(np.ones((4, 4, 4), np.float64), np.eye(4))
    image.to_filename(path)
    header = bytearray(path.read_bytes())
    header[42:48] = np.full(3, size, np.int16).tobytes()
    path.write_bytes(header)
    with pytest.raises(InputFileError, match="cannot be read as NIfTI"):
        read(path)


def test_images_that_are_not_a_stack_of_slices_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="stack of slices"):
        read(save(tmp_path / "flat.nii.gz", np.ones((32, 32), np.int16)))
    with pytest.raises(GeometryError, match="stack of slices"):
        read(save(tmp_path / "one.nii.gz", np.ones((32, 32, 1), np.int16)))
    singular = nib.Nifti1Image(np.ones((8, 8, 8), np.int16), None)
    singular.header["sform_code"] = 1
    singular.header["srow_x"], singular.header["srow_y"] = [1, 0, 0, 0], [1, 0, 0, 0]
    singular.header["srow_z"] = [0, 0, 1, 0]
    (tmp_path / "singular.nii").write_bytes(singular.header.binaryblock + b"\0" * 4 + b"\1" * 1024)
    with pytest.raises(GeometryError, match="inverted"):
        read(tmp_path / "singular.nii")


def test_complex_images_are_rejected(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((8, 8, 8), np.complex64), OBLIQUE)
    image.to_filename(tmp_path / "complex.nii")
    with pytest.raises(ContentError, match="complex"):
        read(tmp_path / "complex.nii")


def test_trailing_axes_of_length_one_are_dropped(tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii.gz", np.ones((6, 5, 4, 1), np.int16))
    assert read(path).data.shape == (6, 5, 4)


def test_like_rejects_another_shape() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Volume(np.zeros((4, 4, 4)), np.eye(4)).like(np.zeros((4, 4, 5)))


def test_disagreeing_forms_are_measured(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((10, 10, 10), np.int16), np.eye(4))
    image.set_sform(np.eye(4), code=1)
    shifted = np.eye(4)
    shifted[0, 3] = 7.0
    image.set_qform(shifted, code=1)
    image.to_filename(tmp_path / "forms.nii")
    assert form_disagreement_mm(read(tmp_path / "forms.nii")) == pytest.approx(7.0)
    nowhere = save(tmp_path / "nowhere.nii", np.ones((4, 4, 4), np.int16), sform=0, qform=0)
    assert not has_position(read(nowhere))


@pytest.mark.parametrize("quaternion", [0.9, np.nan])
def test_an_invalid_qform_disagrees_with_the_sform(tmp_path: Path, quaternion: float) -> None:
    image = nib.Nifti1Image(np.ones((8, 8, 8), np.float32), np.eye(4))
    image.set_sform(np.eye(4), 1)
    image.set_qform(np.eye(4), 1)
    for name in ("quatern_b", "quatern_c", "quatern_d"):
        image.header[name] = quaternion
    volume = Volume(np.ones((8, 8, 8), np.float32), np.eye(4), image.header)
    assert form_disagreement_mm(volume) == np.inf
    write(volume, tmp_path / "mask.nii.gz", np.uint8)
    assert np.array_equal(read(tmp_path / "mask.nii.gz").affine, np.eye(4))


def test_a_quaternion_of_five_digits_is_accepted(tmp_path: Path) -> None:
    turned = np.array([[0, 2, 0, 5], [2, 0, 0, 6], [0, 0, -5, 7], [0, 0, 0, 1]], dtype=float)
    image = nib.Nifti1Image(np.ones((5, 6, 7), np.float32), turned)
    image.set_sform(turned, code=1)
    image.set_qform(turned, code=1)
    image.header["quatern_b"] = image.header["quatern_c"] = 0.70711  # squares: 1.0000090
    image.header["quatern_d"] = 0
    image.to_filename(tmp_path / "rounded.nii")
    assert form_disagreement_mm(read(tmp_path / "rounded.nii")) < 0.01


def test_closest_axes_names_every_world_axis_once() -> None:
    axes = closest_axes(OBLIQUE)
    assert np.array_equal(np.abs(axes).sum(axis=0), [1, 1, 1])
    assert np.array_equal(axes, np.diag([-1, 1, 1]))


@pytest.mark.parametrize(
    ("background", "inside", "label"),
    [(0, 1, 1), (np.nan, 1, 1), (-1, 1, 1), (0, 0.99999, 1), (1e-5, 254.9999, 255), (np.nan, 3, 3)],
)
def test_masks_of_other_tools_are_cleaned(
    tmp_path: Path, background: float, inside: float, label: int
) -> None:
    lesion = np.zeros((4, 5, 6), bool)
    lesion[1:3, 2:4, 1:5] = True
    data = np.where(lesion, inside, background).astype(np.float32)
    nib.Nifti1Image(data, np.eye(4)).to_filename(tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(read_labels(tmp_path / "m.nii.gz").data, lesion * label)


@pytest.mark.parametrize("values", [(0, 0.5), (0, -1), (0, -2), (0, np.inf), (np.nan, np.nan)])
def test_images_that_are_not_masks_are_rejected(
    tmp_path: Path, values: tuple[float, float]
) -> None:
    data = np.full((4, 5, 6), values[0], np.float32)
    data[1:3] = values[1]
    nib.Nifti1Image(data, np.eye(4)).to_filename(tmp_path / "m.nii.gz")
    with pytest.raises(ContentError, match="a mask holds 0 where there is no lesion"):
        read_labels(tmp_path / "m.nii.gz")
    data[:] = -1
    nib.Nifti1Image(data, np.eye(4)).to_filename(tmp_path / "m.nii.gz")
    assert not read_labels(tmp_path / "m.nii.gz").data.any()
