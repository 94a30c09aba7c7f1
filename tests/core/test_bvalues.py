from pathlib import Path

import pytest

from infarct.core.bvalues import bvalue_file, bvalue_name, read_bvalues
from infarct.core.errors import InputFileError


@pytest.mark.parametrize("encoding", ["ascii", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    "text",
    ["0 1000 1000", "0,1000,1000\n", "0; 1000; 1000;", "0\r\n1000\r\n1000\r\n", "0\t1e3 1000"],
)
def test_b_values_are_read_in_all_common_formats(tmp_path: Path, encoding: str, text: str) -> None:
    path = tmp_path / "x.bval"
    path.write_bytes(text.encode(encoding))
    assert read_bvalues(path).tolist() == [0, 1000, 1000]


@pytest.mark.parametrize(
    "content", [b"0 b", b"0 nan", b"0 -5", b"\xff\xfe\xff", b"\xc3\x28", b"1" * 2**21]
)
def test_other_content_is_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.bval"
    path.write_bytes(content)
    with pytest.raises(InputFileError, match="cannot be read as b-values"):
        read_bvalues(path)


@pytest.mark.parametrize("image", ["x.nii", "x.nii.gz", "x.NII.GZ", "x.Nii", "x.img", "x.hdr.gz"])
@pytest.mark.parametrize("ending", [".bval", ".bvals", ".BVAL"])
def test_the_b_value_file_of_an_image_is_found(tmp_path: Path, image: str, ending: str) -> None:
    assert bvalue_file(tmp_path / image) is None
    (tmp_path / f"x{ending}").touch()
    assert bvalue_file(tmp_path / image) == tmp_path / f"x{ending}"
    assert bvalue_name(tmp_path / image) == "x.bval"


def test_a_name_of_255_bytes_has_no_b_value_file(tmp_path: Path) -> None:
    assert bvalue_file(tmp_path / f"{'a' * 251}.nii") is None
