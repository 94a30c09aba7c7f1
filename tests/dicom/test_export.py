from pathlib import Path
from types import SimpleNamespace

import pytest

from infarct.core.errors import OutputError
from infarct.dicom.export import DicomObjects, write_objects


def stub(*, fails: bool = False) -> SimpleNamespace:
    def save_as(path: Path) -> None:
        if fails:
            raise OSError(28, "No space left on device")
        path.write_bytes(b"DICM")

    return SimpleNamespace(save_as=save_as)


def test_both_files_are_written(tmp_path: Path) -> None:
    folder = write_objects(DicomObjects(stub(), stub()), tmp_path)
    assert sorted(p.name for p in folder.iterdir()) == ["measurements.dcm", "segmentation.dcm"]


def test_no_file_remains_if_the_second_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left"):
        write_objects(DicomObjects(stub(), stub(fails=True)), tmp_path)
    assert list(tmp_path.iterdir()) == []
