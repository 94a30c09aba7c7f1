import shutil

import nibabel as nib
import numpy as np
import pytest

from infarct.cli.commands.export import Target
from infarct.core.errors import InputFileError, OutputError
from infarct.reporting.lesion_export import Tool, export_lesions


@pytest.fixture
def cohort(written, tmp_path):
    """Two results of a cohort: one with a name of digits, one with a space and brackets."""
    for name in ("0042", "case (b)"):
        shutil.copytree(written, tmp_path / "cohort" / name)
    return tmp_path / "cohort"


def rows(path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()]


def test_command_and_library_know_the_same_tools() -> None:
    assert list(map(str, Target)) == list(map(str, Tool))


def test_masks_are_where_the_lesion_is_and_keep_its_volume(written, stored, tmp_path) -> None:
    assert export_lesions(written, Tool.nemo, tmp_path / "out") == (1, 0)
    image = nib.load(tmp_path / "out" / "lesions" / "case.nii.gz")
    assert image.shape == (182, 218, 182)
    assert nib.aff2axcodes(image.affine) == ("L", "A", "S")
    # Voxel (90, 126, 72) of the FSL template is the origin.
    assert np.allclose(image.affine @ (90, 126, 72, 1), (0, 0, 0, 1))
    mask = np.asarray(image.dataobj)
    assert set(np.unique(mask)) == {0, 1}
    assert mask.sum() / 1000 == pytest.approx(stored.summary["lesion_volume_ml"], rel=0.25)
    centre = (image.affine @ [*np.argwhere(mask).mean(axis=0), 1])[:3]
    native = np.argwhere(stored.lesion.data).mean(axis=0)
    world = stored.atlas_from_native @ stored.lesion.affine @ [*native, 1]
    assert np.allclose(centre, world[:3], atol=1.5)
    assert centre[0] < 0  # the patient's left


def test_names_and_design_file_suit_niistat(cohort, tmp_path) -> None:
    export_lesions(cohort, Tool.niistat, tmp_path / "out")
    header, *cases = rows(tmp_path / "out" / "design.tab")
    assert header == ["image", "lesion_volume_ml"]
    assert [image for image, _ in cases] == ["P0042.nii", "case__b_.nii"]
    for image, volume in cases:
        assert (tmp_path / "out" / image).is_file()
        assert float(volume) > 0


def test_lesymap_gets_a_list_of_files_in_the_order_of_the_table(cohort, tmp_path) -> None:
    export_lesions(cohort, Tool.lesymap, tmp_path / "out")
    files = (tmp_path / "out" / "lesions.txt").read_text().split("\n")[:-1]
    assert files == [row[1] for row in rows(tmp_path / "out" / "participants.tsv")[1:]]
    assert all((tmp_path / "out" / file).is_file() for file in files)


def test_empty_masks_are_left_out_where_they_would_fail(written, tmp_path, monkeypatch) -> None:
    empty = np.zeros((182, 218, 182), bool)
    monkeypatch.setattr("infarct.reporting.lesion_export._mask_on_grid", lambda _: empty)
    assert export_lesions(written, Tool.bcb, tmp_path / "bcb") == (0, 1)
    assert list((tmp_path / "bcb" / "Lesions").iterdir()) == []
    assert rows(tmp_path / "bcb" / "participants.tsv")[1][:2] == ["case", ""]
    assert export_lesions(written, Tool.lesymap, tmp_path / "lesymap") == (1, 0)


def test_output_is_complete_or_absent(cohort, tmp_path) -> None:
    (cohort / "case (b)" / "summary.json").write_text("{")
    with pytest.raises(InputFileError, match=r"summary\.json is damaged"):
        export_lesions(cohort, Tool.nemo, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match="already exists"):
        export_lesions(cohort, Tool.nemo, cohort)
    with pytest.raises(InputFileError, match="contains no results"):
        export_lesions(tmp_path, Tool.nemo, tmp_path / "out")
    with pytest.raises(InputFileError, match="is not a folder"):
        export_lesions(tmp_path / "absent", Tool.nemo, tmp_path / "out")


def test_two_results_with_the_same_name_are_refused(cohort, written, tmp_path) -> None:
    shutil.copytree(written, cohort / "case [b]")
    with pytest.raises(InputFileError, match="would both be called case__b_"):
        export_lesions(cohort, Tool.nemo, tmp_path / "out")
