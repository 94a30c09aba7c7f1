import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infarct.core.errors import InfarctError, InputFileError
from infarct.core.input_files import check_file, is_file, kind_of
from infarct.core.nifti import read


def test_a_broken_link_names_the_command_that_fetches_it(tmp_path: Path) -> None:
    link = tmp_path / "dwi.nii.gz"
    link.symlink_to(".git/annex/objects/xx/key")
    with pytest.raises(InputFileError, match=r"broken link.*datalad get 'dwi\.nii\.gz'"):
        read(link)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Path.is_file, "no such file"),
        (Path.mkdir, "is a folder"),
        (Path.touch, "is empty"),
        (os.mkfifo, "not a regular file"),
    ],
)
def test_missing_and_invalid_files_are_rejected(tmp_path: Path, make, reason: str) -> None:
    path = tmp_path / "x.nii"
    make(path)
    with pytest.raises(InputFileError, match=reason):
        check_file(path, "an image")


def test_long_names_are_accepted(tmp_path: Path) -> None:
    longest = tmp_path / f"{'a' * 251}.nii"
    nib.Nifti1Image(np.ones((4, 4, 4), np.int16), np.eye(4)).to_filename(tmp_path / "x.nii")
    (tmp_path / "x.nii").rename(longest)
    assert read(longest).data.shape == (4, 4, 4)
    assert not is_file(tmp_path / ("a" * 300))
    with pytest.raises(InputFileError, match="too long"):
        read(tmp_path / ("a" * 300))


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"/annex/objects/MD5E-s1--0", "datalad get"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (bytes(128) + b"DICM", "--dicom"),
        (b"# === DATA DESCRIPTION FILE", "PAR"),
        (b"<?xml version='1.0'?>", "XML"),
        (b"\x00\x00\x00\x01\x00\x00\x00\x10", "MGH"),
    ],
)
def test_other_file_formats_are_named(tmp_path: Path, start: bytes, kind: str) -> None:
    path = tmp_path / "x.nii"
    path.write_bytes(start + bytes(600))
    named = kind_of(path)
    assert named
    assert kind in named
    with pytest.raises(InputFileError, match=kind):
        read(path)


@pytest.mark.parametrize(
    "suffix", ["mgh", "mgz", "par", "rec", "gii", "nii.zst", "nii.xz", "mnc", "HEAD", "trk", "img"]
)
@pytest.mark.parametrize("content", [b"text\n" * 200, bytes(range(256)) * 4, b"\0" * 999])
def test_damaged_files_of_any_name_are_rejected(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    with pytest.raises(InfarctError, match=r"x\."):
        read(path)
