import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from infarct.core.errors import InputFileError
from infarct.reporting.reader import ELSEWHERE, FILES, OUTLINE, manual_work, read_stored, settle


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def test_what_was_written_is_read_back(segmentation, stored) -> None:
    assert np.array_equal(stored.lesion.data, segmentation.lesion.data)
    assert np.array_equal(stored.brain.data, segmentation.brain.data)
    assert np.allclose(stored.dwi.affine, segmentation.case.dwi.affine, atol=1e-5)
    assert np.allclose(
        stored.mni_from_native, segmentation.prepared.registration.mni_from_native, atol=1e-6
    )
    assert stored.summary["lesions"][0]["label"] == 1


@pytest.mark.parametrize("name", ["scan/adc.nii.gz", "summary.json", "mni/mni_from_native.txt"])
def test_a_missing_file_is_named(copy, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(InputFileError, match=Path(name).name):
        read_stored(copy)


def test_a_folder_of_an_earlier_version_is_refused(copy) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["outputs"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputFileError, match="made it"):
        read_stored(copy)


def test_damaged_numbers_are_refused(copy) -> None:
    (copy / "summary.json").write_text("{")
    with pytest.raises(InputFileError, match=r"summary\.json is damaged"):
        read_stored(copy)


@pytest.mark.parametrize("name", ["manifest.json", "summary.json"])
@pytest.mark.parametrize("text", ["[]", "{}", '{"outputs": null}'])
def test_numbers_of_another_kind_are_refused(copy, name: str, text: str) -> None:
    (copy / name).write_text(text)
    with pytest.raises(InputFileError, match=rf"{name} is damaged"):
        read_stored(copy)


def test_an_image_of_another_grid_is_refused(copy) -> None:
    shutil.copyfile(copy / "mni" / "adc.nii.gz", copy / "scan" / "adc.nii.gz")
    with pytest.raises(InputFileError, match=r"scan/adc\.nii\.gz .* lies on another grid"):
        read_stored(copy)


@pytest.mark.parametrize("text", ["", "1 0 0 x", "1 0 0 0\n0 1 0 0\n"])
def test_a_damaged_transform_is_refused(copy, text: str) -> None:
    (copy / "mni" / "atlas_from_native.txt").write_text(text)
    with pytest.raises(InputFileError, match=r"atlas_from_native\.txt is damaged"):
        read_stored(copy)


def test_an_outline_changed_in_place_is_noticed(copy) -> None:
    shutil.copyfile(copy / "brain_mask.nii.gz", copy / OUTLINE)
    with pytest.raises(InputFileError, match="was edited after it was written"):
        read_stored(copy)


def test_of_an_untouched_result_there_is_nothing_to_lose(copy) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    names = {p.relative_to(copy).as_posix() for p in copy.rglob("*") if p.is_file()}
    assert set(manifest[FILES]) == names - {"manifest.json"}
    for name in (".DS_Store", "mni/Thumbs.db", "._summary.json"):
        (copy / name).touch()
    assert manual_work(copy) == []


SURPRISING = (
    *("notes.txt", ".notes", "manifest.json.bak", "summary.json~", "mni/mine.nii.gz", "new/deep"),
    *("a\nb", "._lesion", "lesion_mask.nii", "LESIONS.TSV", "caf\u00e9", " "),
)


@pytest.mark.parametrize("name", SURPRISING)
def test_files_of_the_user_are_named(copy, name: str) -> None:
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).touch()
    (copy / "link").symlink_to(copy / "mni")
    shown = name.replace("\n", "?")
    assert set(manual_work(copy)) == {
        f"{shown} (not written by infarct)",
        "link (not written by infarct)",
    }


@pytest.mark.parametrize("name", [OUTLINE, "lesions.tsv", "scan/dwi.nii.gz"])
def test_what_was_edited_is_named(copy, name: str) -> None:
    with (copy / name).open("ab") as stream:
        stream.write(b"x")
    assert manual_work(copy) == [f"{name} (edited)"]
    (copy / name).unlink()
    assert manual_work(copy) == []


def test_a_result_that_lists_no_files_is_known_by_their_names(copy) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest[FILES]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert manual_work(copy) == []
    (copy / "notes.txt").touch()
    (copy / OUTLINE).write_bytes(b"drawn by hand")
    assert manual_work(copy) == [f"{OUTLINE} (edited)", "notes.txt (not written by infarct)"]


def test_files_are_brought_out_of_a_result_within_its_dataset_only(copy) -> None:
    inside, outside = "../../sub-1/mask.nii.gz", "../../../profile"
    out = copy.parent / "derivatives" / "reports" / "s1"
    out.parent.mkdir(parents=True)
    copy.rename(out)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest[ELSEWHERE] = {OUTLINE: inside, "lesions.tsv": outside}
    (out / "manifest.json").write_text(json.dumps(manifest))
    settle(out)
    assert (out.parents[1] / "sub-1" / "mask.nii.gz").is_file()
    assert not (out / OUTLINE).exists()
    assert (out / "lesions.tsv").is_file()
    assert not (out / outside).exists()
    settle(out.parent / "absent")
