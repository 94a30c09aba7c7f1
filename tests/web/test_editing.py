from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from infarct.core.errors import InputFileError
from infarct.web.editing import (
    EditConflictError,
    mask_version,
    pack,
    read_mask,
    save_edit,
    unpack,
    write_labels,
)


@given(arrays(bool, st.tuples(*[st.integers(1, 7)] * 3)))
def test_masks_survive_the_way_to_the_browser_and_back(mask) -> None:
    assert np.array_equal(unpack(pack(mask), mask.shape), mask)


def test_a_mask_of_another_size_is_refused() -> None:
    mask = np.ones((4, 5, 6), bool)
    for shape in ((4, 5, 5), (4, 5, 7), (400, 500, 600)):
        with pytest.raises(InputFileError, match="voxels"):
            unpack(pack(mask), shape)
    for text in ("", "no base64!", "AAAA"):
        with pytest.raises(InputFileError):
            unpack(text, (4, 5, 6))


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
@pytest.mark.parametrize("codes", [(1, 1), (2, 0), (0, 1), (4, 3)])
def test_the_mask_has_exactly_the_geometry_of_the_dwi(tmp_path, flips, codes) -> None:
    affine = np.array(
        [[1.9, 0.1, 0, -80], [-0.1, 1.9, 0.2, -110.5], [0, -0.2, 4.9, -40.25], [0, 0, 0, 1]]
    ) @ np.diag([*flips, 1])
    shape = (9, 7, 5)
    dwi = nib.Nifti1Image(np.ones(shape, np.float32), None)
    dwi.set_sform(affine, code=codes[0])
    dwi.set_qform(affine, code=codes[1], strip_shears=True)
    dwi.header.set_xyzt_units("mm")
    (tmp_path / "scan").mkdir()
    dwi.to_filename(tmp_path / "scan" / "dwi.nii.gz")
    # An object without any symmetry, addressed by voxel as the viewer does.
    mask = np.zeros(shape, bool)
    mask[1, 2:5, 3] = mask[1:7, 2, 3] = mask[6, 1, 0] = True
    voxels = np.zeros(mask.size, bool)
    for x, y, z in np.argwhere(mask):
        voxels[x + shape[0] * (y + shape[1] * z)] = True
    write_labels(tmp_path, pack(voxels.reshape(shape, order="F")), tmp_path / "mask.nii.gz")
    written, original = nib.load(tmp_path / "mask.nii.gz"), nib.load(tmp_path / "scan/dwi.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj) > 0, mask)
    for field in ("sform_code", "qform_code", "pixdim", "srow_x", "srow_y", "srow_z"):
        assert (
            np.array_equal(written.header[field][:4], original.header[field][:4])
            if (field == "pixdim")
            else np.array_equal(written.header[field], original.header[field])
        )
    for field in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
        assert written.header[field] == original.header[field]
    assert read_mask(str(tmp_path / "mask.nii.gz")) == {"shape": list(shape), "labels": pack(mask)}


@pytest.fixture
def case(written_quick: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written_quick, tmp_path / "case"))


def test_an_edit_is_measured_and_a_second_editor_is_told(case) -> None:
    version = mask_version(case)
    mask = nib.load(case / "lesion_mask.nii.gz")
    edited = np.asarray(mask.dataobj) > 0
    voxel = tuple(np.argwhere(edited)[0])
    edited[voxel] = False
    line = save_edit(str(case), pack(edited), version, " Anna  B.", "vessel\nin the mask")
    assert (line["by"], line["reason"]) == ("Anna B.", "vessel in the mask")
    assert line["ml_before"] - line["ml_after"] == pytest.approx(
        abs(np.linalg.det(mask.affine[:3, :3])) / 1000
    )
    assert not np.asarray(nib.load(case / "lesion_mask.nii.gz").dataobj)[voxel]
    assert json.loads((case / "summary.json").read_text())["corrections"] == [line]

    def state() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in sorted(case.rglob("*")) if p.is_file()}

    before = state()
    with pytest.raises(EditConflictError, match="nothing was overwritten"):
        save_edit(str(case), pack(edited), version, "Ben", "opened the same mask")
    for by, reason in (("", "why"), ("  ", "why"), ("Ben", "\n")):
        with pytest.raises(InputFileError, match="nothing was saved"):
            save_edit(str(case), pack(edited), mask_version(case), by, reason)
    assert state() == before
