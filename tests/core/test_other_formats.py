import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from infarct.core.errors import GeometryError, InfarctError, InputFileError
from infarct.core.nifti import files_of, read, write
from infarct.preprocessing.image_checks import check_grid

DATA = np.random.default_rng(0).integers(0, 900, (40, 44, 12)).astype(np.int16)
TURN = nib.eulerangles.euler2mat(0.1, 0.2, -0.15) @ np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]])
SPACING, ORIGIN_RAS = np.array([3.1, 3.0, 5.0]), np.array([33.3, -57.7, -20.5])
AFFINE = nib.affines.from_matvec(TURN * SPACING, ORIGIN_RAS)
ENDINGS = ["mha", "mhd", "nrrd", "nhdr"]


def save(path: Path, *, packed: bool = False) -> Path:
    """Write the image with SimpleITK, whose world is LPS."""
    image = sitk.GetImageFromArray(DATA.transpose(2, 1, 0))
    image.SetSpacing(SPACING.tolist())
    image.SetDirection((np.diag([-1, -1, 1]) @ TURN).ravel().tolist())
    image.SetOrigin((ORIGIN_RAS * (-1, -1, 1)).tolist())
    sitk.WriteImage(image, str(path), packed)
    return path


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("packed", [False, True])
def test_voxels_and_affine_are_exact_and_outputs_carry_them(
    tmp_path: Path, ending: str, packed: bool
) -> None:
    path = save(tmp_path / f"x.{ending}", packed=packed)
    volume = read(path)
    assert np.array_equal(volume.data, DATA)
    assert np.allclose(volume.affine, AFFINE, atol=1e-4)
    assert check_grid("DWI", volume) == []
    write(volume.like(DATA > 5), tmp_path / "mask.nii.gz", np.uint8)
    mask = nib.load(tmp_path / "mask.nii.gz")
    assert np.allclose(mask.affine, AFFINE, atol=1e-4)
    assert np.allclose(mask.get_qform(), AFFINE, atol=1e-3)
    assert (mask.header["sform_code"], mask.header["qform_code"]) == (1, 1)
    # SimpleITK, which counts in LPS, must see the mask on the voxels of the image.
    image, again = sitk.ReadImage(str(path)), sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    for voxel in ((0, 0, 0), (39, 43, 11)):
        places = [i.TransformIndexToPhysicalPoint(voxel) for i in (image, again)]
        assert np.allclose(*places, atol=1e-3)


@pytest.mark.parametrize("space", ["right-anterior-superior", "RAS", "LAS", "LPS"])
def test_nrrd_spaces_are_converted(tmp_path: Path, space: str) -> None:
    path = save(tmp_path / "x.nrrd")
    content = path.read_bytes().replace(b"left-posterior-superior", space.encode())
    path.write_bytes(content)
    signs = {"R": (-1, -1, 1, 1), "LA": (1, -1, 1, 1), "LP": (1, 1, 1, 1)}
    flip = next(v for k, v in signs.items() if space.upper().startswith(k))
    assert np.allclose(read(path).affine, np.diag(flip) @ AFFINE, atol=1e-4)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("packed", [False, True])
def test_missing_and_surplus_bytes_are_rejected(tmp_path: Path, ending: str, packed: bool) -> None:
    path = save(tmp_path / f"x.{ending}", packed=packed)
    voxels = files_of(path)[-1]
    assert (voxels == path) == (ending in ("mha", "nrrd"))
    content = voxels.read_bytes()
    damaged = [content[:-9]] if packed else [content[:-9], content + b"\0"]
    for each in damaged:
        voxels.write_bytes(each)
        with pytest.raises(InputFileError, match="cannot be read"):
            read(path)
    voxels.unlink()
    with pytest.raises(InputFileError, match="no such file"):
        read(path)


@pytest.mark.parametrize(
    ("ending", "line", "instead", "error"),
    [
        ("nrrd", "space: .*", "# no space", GeometryError),
        ("nrrd", "space: .*", "space: scanner-xyz", GeometryError),
        ("nrrd", "space directions: .*", "# none", GeometryError),
        ("nrrd", "dimension: 3", "dimension: 4", GeometryError),
        ("nrrd", "sizes: .*", "sizes: 40 44 13", InputFileError),
        ("nrrd", "sizes: .*", "sizes: 40000 44000 13000", InfarctError),
        ("nrrd", "type: short", "type: block", InputFileError),
        ("nrrd", "encoding: raw", "encoding: hex", InputFileError),
        ("nrrd", "encoding: raw", 'encoding: raw\nspace units: "m" "m" "m"', InputFileError),
        ("nrrd", "encoding: raw", "encoding: raw\ndata file: ../../secret", InputFileError),
        ("mha", "TransformMatrix = .*", "Comment = none", GeometryError),
        ("mha", "TransformMatrix = .*", "TransformMatrix = 0 0 0 0 0 0 0 0 0", GeometryError),
        ("mha", "ElementSpacing = .*", "Comment = none", GeometryError),
        ("mha", "NDims = 3", "NDims = 2", GeometryError),
        ("mha", "DimSize = .*", "DimSize = 40 44 11", InputFileError),
        ("mha", "DimSize = .*", "DimSize = 40 44 -12", InputFileError),
        (
            "mha",
            "ElementType = .*",
            "ElementType = MET_SHORT\nElementNumberOfChannels = 3",
            GeometryError,
        ),
        ("mhd", "ElementDataFile = .*", "ElementDataFile = ../x.raw", InputFileError),
        ("mhd", "ElementDataFile = .*", "ElementDataFile = LIST", InputFileError),
        ("mhd", "ElementDataFile = .*", "ElementDataFile = x%d.raw 1 12 1", InputFileError),
    ],
)
def test_unsupported_and_damaged_headers_are_rejected(
    tmp_path: Path, ending: str, line: str, instead: str, error: type[Exception]
) -> None:
    path = save(tmp_path / f"x.{ending}")
    content = path.read_bytes()
    changed = re.sub(line.encode(), instead.encode(), content, count=1)
    assert changed != content
    path.write_bytes(changed)
    with pytest.raises(error, match=rf"x\.{ending}"):
        read(path)
