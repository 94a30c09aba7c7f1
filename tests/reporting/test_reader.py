import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from infarct.core.errors import InputFileError
from infarct.reporting.reader import ELSEWHERE, FILES, OUTLINE, manual_work, read_stored, settle


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def test_reading_restores_the_written_result(segmentation, stored) -> None:
    assert np.array_equal(stored.lesion.data, segmentation.lesion.data)
    assert np.array_equal(stored.brain.data, segmentation.brain.data)
    assert np.allclose(stored.dwi.affine, segmentation.case.dwi.affine, atol=1e-5)
    assert np.allclose(
        stored.mni_from_native, segmentation.prepared.registration.mni_from_native, atol=1e-6
    )
    assert stored.summary["lesions"][0]["label"] == 1


@pytest.mark.parametrize("name", ["scan/adc.nii.gz", "summary.json", "mni/mni_from_native.txt"])
def test_error_names_the_missing_file(copy, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(InputFileError, match=f"{re.escape(name)} not found"):
        read_stored(copy)


def test_result_of_an_old_version_is_rejected(copy) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["outputs"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputFileError, match="re-run the original command"):
        read_stored(copy)


def test_invalid_json_is_rejected(copy) -> None:
    (copy / "summary.json").write_text("{")
    with pytest.raises(InputFileError, match=r"summary\.json is damaged"):
        read_stored(copy)


@pytest.mark.parametrize("name", ["manifest.json", "summary.json"])
@pytest.mark.parametrize("text", ["[]", "{}", '{"outputs": null}'])
def test_json_without_the_expected_keys_is_rejected(copy, name: str, text: str) -> None:
    (copy / name).write_text(text)
    with pytest.raises(InputFileError, match=rf"{name} is damaged"):
        read_stored(copy)


def test_image_on_a_different_grid_is_rejected(copy) -> None:
    shutil.copyfile(copy / "mni" / "adc.nii.gz", copy / "scan" / "adc.nii.gz")
    with pytest.raises(InputFileError, match=r"scan/adc\.nii\.gz .* is not on the grid of its DWI"):
        read_stored(copy)


@pytest.mark.parametrize("text", ["", "1 0 0 x", "1 0 0 0\n0 1 0 0\n"])
def test_damaged_transform_is_rejected(copy, text: str) -> None:
    (copy / "mni" / "atlas_from_native.txt").write_text(text)
    with pytest.raises(InputFileError, match=r"atlas_from_native\.txt is damaged"):
        read_stored(copy)


def test_mask_edited_in_place_is_rejected(copy) -> None:
    shutil.copyfile(copy / "brain_mask.nii.gz", copy / OUTLINE)
    with pytest.raises(InputFileError, match="was edited after it was written"):
        read_stored(copy)


def test_unchanged_result_has_no_manual_work(copy) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    names = {p.relative_to(copy).as_posix() for p in copy.rglob("*") if p.is_file()}
    assert set(manifest[FILES]) == names - {"manifest.json"}
    for name in (".DS_Store", "mni/Thumbs.db", "._summary.json"):
        (copy / name).touch()
    assert manual_work(copy) == []


USER_FILES = (
    *("notes.txt", ".notes", "manifest.json.bak", "summary.json~", "mni/mine.nii.gz", "new/deep"),
    *("a\nb", "._lesion", "lesion_mask.nii", "LESIONS.TSV", "caf\u00e9", " "),
)


@pytest.mark.parametrize("name", USER_FILES)
def test_user_files_are_listed_as_manual_work(copy, name: str) -> None:
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).touch()
    (copy / "link").symlink_to(copy / "mni")
    shown = name.replace("\n", "?")
    assert set(manual_work(copy)) == {
        f"{shown} (not written by infarct)",
        "link (not written by infarct)",
    }


@pytest.mark.parametrize("name", [OUTLINE, "lesions.tsv", "scan/dwi.nii.gz"])
def test_edited_files_are_listed_as_manual_work(copy, name: str) -> None:
    with (copy / name).open("ab") as stream:
        stream.write(b"x")
    assert manual_work(copy) == [f"{name} (edited)"]
    (copy / name).unlink()
    assert manual_work(copy) == []


def test_manifest_without_file_list_falls_back_to_known_names(copy) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest[FILES]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert manual_work(copy) == []
    (copy / "notes.txt").touch()
    (copy / OUTLINE).write_bytes(b"drawn by hand")
    assert manual_work(copy) == [f"{OUTLINE} (edited)", "notes.txt (not written by infarct)"]


def test_settle_moves_files_only_within_the_dataset(copy) -> None:
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
