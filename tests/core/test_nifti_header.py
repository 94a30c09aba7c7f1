import gzip
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infarct.core.errors import ContentError, GeometryError, InputFileError
from infarct.core.nifti import files_of, read, write
from infarct.core.nifti_header import halves
from infarct.preprocessing.image_checks import check_grid

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from fuzz import NIFTI1, judge, mutate

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -120], [0, 0, 5, -60], [0, 0, 0, 1]])
DATA = np.random.default_rng(0).integers(0, 900, (60, 64, 20), np.int16)


def save(path: Path, **fields: float) -> Path:
    """Write an image and set header fields to any value, bypassing the checks of nibabel."""
    image = nib.Nifti1Image(DATA, AFFINE)
    image.set_sform(AFFINE, code=1)
    image.set_qform(AFFINE, code=1)
    image.to_filename(path.with_suffix(".tmp.nii"))
    content = bytearray(path.with_suffix(".tmp.nii").read_bytes())
    for name, value in fields.items():
        at, form = NIFTI1[name]
        struct.pack_into(f"<{form}", content, at, value)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def codes(path: Path) -> set[str]:
    return {f.code for f in check_grid("DWI", read(path)) if f.level == "warning"}


def test_a_zero_offset_is_the_first_byte_that_voxels_can_have(tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii", vox_offset=0)
    assert np.array_equal(read(path).data, DATA)
    assert codes(path) == {"offset-repaired"}
    for offset in (1, 351, 353.5, -352, np.nan, np.inf, 1e30):
        with pytest.raises(InputFileError, match=r"vox_offset|ends before|bytes of voxels"):
            read(save(tmp_path / "x.nii", vox_offset=offset))


@pytest.mark.parametrize("form", ["sform", "qform"])
@pytest.mark.parametrize("code", [6, 1000])
def test_form_codes_above_5_count_as_set(tmp_path: Path, form: str, code: int) -> None:
    other = {"sform": "qform", "qform": "sform"}[form]
    path = save(tmp_path / "x.nii", **{f"{form}_code": code, f"{other}_code": 0})
    volume = read(path)
    assert np.allclose(volume.affine, AFFINE)
    assert codes(path) == {"form-code-invalid"}
    write(volume.like(DATA > 5), tmp_path / "mask.nii", np.uint8)
    at = NIFTI1[f"{form}_code"][0]
    assert struct.unpack_from("<h", (tmp_path / "mask.nii").read_bytes(), at) == (code,)


def test_an_sform_with_a_code_above_5_is_used(tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii", sform_code=6, srow_x3=130)
    assert read(path).affine[0, 3] == 130
    assert codes(path) == {"form-code-invalid", "sform-qform-mismatch"}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("axis", ["dim1", "dim2", "dim3"])
def test_more_voxels_than_the_header_states_are_rejected(
    tmp_path: Path, suffix: str, axis: str
) -> None:
    claimed = DATA.shape[int(axis[-1]) - 1] - 1
    with pytest.raises(InputFileError, match="more data than"):
        read(save(tmp_path / f"x{suffix}", **{axis: claimed}))


def test_zero_padding_is_tolerated_with_a_warning(tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii")
    content = path.read_bytes()
    path.write_bytes(content + bytes(100))
    assert np.array_equal(read(path).data, DATA)
    assert codes(path) == {"trailing-bytes"}
    for more in (bytes(513), b"\1"):
        path.write_bytes(content + more)
        with pytest.raises(InputFileError, match="more data than"):
            read(path)


def test_impossible_sizes_in_the_header_are_rejected_at_once(tmp_path: Path) -> None:
    for suffix in (".nii", ".nii.gz"):
        path = save(tmp_path / f"x{suffix}", dim1=2000, dim2=2000, dim3=250)
        start = time.perf_counter()
        with pytest.raises(InputFileError, match="cannot hold"):
            read(path)
        assert time.perf_counter() - start < 1


def test_decompression_stops_at_the_stated_size(tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii")
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    with (tmp_path / "bomb.nii.gz").open("wb") as stream:
        stream.write(packer.compress(path.read_bytes()))
        for _ in range(32):
            stream.write(packer.compress(bytes(2**24)))
        stream.write(packer.flush())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputFileError, match="more data than"):
        read(tmp_path / "bomb.nii.gz")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize(("unit", "factor"), [(1, 1000.0), (3, 0.001)])
def test_metres_and_micrometres_become_mm(tmp_path: Path, unit: int, factor: float) -> None:
    image = nib.Nifti1Image(DATA, None)
    scaled = AFFINE.copy()
    scaled[:3] /= factor
    image.set_sform(scaled, code=1)
    image.set_qform(scaled, code=1)
    image.header["xyzt_units"] = unit
    image.to_filename(tmp_path / "x.nii")
    volume = read(tmp_path / "x.nii")
    assert np.allclose(volume.affine, AFFINE, rtol=1e-5)
    assert codes(tmp_path / "x.nii") == set()
    write(volume.like(DATA > 5), tmp_path / "mask.nii", np.uint8)
    mask, again = nib.load(tmp_path / "mask.nii"), nib.load(tmp_path / "x.nii")
    assert np.array_equal(mask.affine, again.affine)
    assert mask.header["xyzt_units"] == unit
    assert np.allclose(read(tmp_path / "mask.nii").affine, AFFINE, rtol=1e-5)


def test_a_unit_implausible_for_a_head_is_ignored(tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii", xyzt_units=1)
    assert np.allclose(read(path).affine, AFFINE)
    assert codes(path) == {"unit-implausible"}
    assert codes(save(tmp_path / "x.nii", xyzt_units=5)) == {"unit-unknown"}


def test_contradictions_between_fields_are_reported(tmp_path: Path) -> None:
    assert "voxel-size-mismatch" in codes(save(tmp_path / "x.nii", pixdim1=3))
    assert codes(save(tmp_path / "x.nii", bitpix=32)) == {"bitpix-mismatch"}
    assert codes(save(tmp_path / "x.nii", pixdim0=-7)) == {"sform-qform-mismatch"}


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"dim0": 0}, InputFileError),
        ({"dim0": 9}, InputFileError),
        ({"dim2": -64}, InputFileError),
        ({"datatype": 1536}, InputFileError),
        ({"datatype": 3}, InputFileError),
        ({"datatype": 128}, ContentError),
        ({"magic1": 0}, InputFileError),
        ({"scl_slope": np.inf}, InputFileError),
        ({"scl_slope": 1, "scl_inter": np.nan}, InputFileError),
        ({"srow_x0": np.nan}, GeometryError),
        ({"srow_x3": 1e20}, GeometryError),
        ({"sform_code": 0, "pixdim0": -7}, GeometryError),
        ({"sform_code": 0, "pixdim1": -2}, GeometryError),
        ({"sform_code": 0, "quatern_b": np.nan}, GeometryError),
        ({"sform_code": 0, "quatern_b": 3}, GeometryError),
        ({"sform_code": 0, "qform_code": 0, "pixdim3": 0}, GeometryError),
    ],
)
def test_damaged_fields_are_rejected(
    tmp_path: Path, fields: dict[str, float], error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"x\.nii"):
        read(save(tmp_path / "x.nii", **fields))


@pytest.mark.parametrize("suffix", [".img", ".hdr", ".img.gz", ".IMG"])
def test_either_half_of_a_pair_is_read(tmp_path: Path, suffix: str) -> None:
    nib.Nifti1Pair(DATA, AFFINE).to_filename(tmp_path / "x.img")
    if suffix.endswith(".gz"):
        for half in (".img", ".hdr"):
            plain = tmp_path / f"x{half}"
            plain.with_name(f"x{half}.gz").write_bytes(gzip.compress(plain.read_bytes()))
            plain.unlink()
    if suffix.isupper():
        for half in (".img", ".hdr"):
            (tmp_path / f"x{half}").rename(tmp_path / f"x{half.upper()}")
    path = tmp_path / f"x{suffix}"
    assert np.array_equal(read(path).data, DATA)
    assert np.array_equal(read(path).affine, AFFINE)
    assert len(files_of(path)) == 2
    other = next(half for half in halves(path) if half != path)
    other.unlink()
    with pytest.raises(InputFileError, match="other half"):
        read(path)


@pytest.mark.parametrize(
    "stored", [np.int16, np.uint8, np.float32, np.float64, np.uint16, np.int64]
)
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_values_agree_with_nibabel(
    tmp_path: Path, stored: type, kind: Callable[..., nib.Nifti1Image]
) -> None:
    for order in "<>":
        data = DATA.astype(np.dtype(stored).newbyteorder(order))
        image = kind(data, AFFINE, dtype=data.dtype)
        image.header.set_slope_inter(0.37, 11)
        image.to_filename(tmp_path / "x.nii.gz")
        expected = nib.load(tmp_path / "x.nii.gz").get_fdata(dtype=np.float32)
        assert np.array_equal(read(tmp_path / "x.nii.gz").data, expected)


def test_a_slice_of_the_fuzz_campaign_finds_nothing(tmp_path: Path) -> None:
    outcomes = set()
    for seed in range(500):
        mutant = mutate(seed)
        path = tmp_path / mutant.name
        path.write_bytes(mutant.content)
        outcome = judge(path, mutant)
        assert not outcome.split()[0].isupper(), f"{mutant.name} ({mutant.change}): {outcome}"
        outcomes.add(outcome)
        path.unlink()
    assert outcomes == {"refused", "read exactly", "accepted with a warning"}
