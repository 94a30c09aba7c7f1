from pathlib import Path

import pytest
from datasets import dataset

from infarct.bids.dataset import find_scans
from infarct.bids.participants import join_participants
from infarct.core.errors import InputFileError


def test_rows_are_joined_to_scans(tmp_path: Path) -> None:
    root = dataset(
        tmp_path / "d",
        "sub-1/ses-a/dwi/sub-1_ses-a_dwi.nii.gz",
        "sub-2/dwi/sub-2_dwi.nii.gz",
        "participants.tsv=participant_id\tage\nsub-1\t70\n",
    )
    joined = join_participants(find_scans(root), root)
    assert joined["sub-1_ses-a"] == {"participant_id": "sub-1", "session_id": "ses-a", "age": "70"}
    assert joined["sub-2"] == {"participant_id": "sub-2", "session_id": "n/a"}
    (root / "participants.tsv").write_text("name\tage\nsub-1\t70\n")
    with pytest.raises(
        InputFileError, match="expected a tab-separated table with a column participant_id"
    ):
        join_participants(find_scans(root), root)


def test_several_rows_need_a_session_column(tmp_path: Path) -> None:
    scans = ("sub-1/ses-a/dwi/sub-1_ses-a_dwi.nii.gz", "sub-1/ses-b/dwi/sub-1_ses-b_dwi.nii.gz")
    root = dataset(tmp_path / "d", *scans)
    table = root / "participants.tsv"
    table.write_text("participant_id\tsession_id\tage\nsub-1\tses-a\t70\nsub-1\tb\t71\n\t\t\n")
    joined = join_participants(find_scans(root), root)
    assert [joined[name]["age"] for name in ("sub-1_ses-a", "sub-1_ses-b")] == ["70", "71"]
    assert joined["sub-1_ses-b"]["session_id"] == "ses-b"
    table.write_text("participant_id\tage\nsub-1\t70\nsub-1\t71\n")
    with pytest.raises(InputFileError, match=r"several rows for sub-1 \(1 in total\).*session_id"):
        join_participants(find_scans(root), root)


def test_a_row_applies_only_to_its_session(tmp_path: Path) -> None:
    scans = ("sub-1/ses-a/dwi/sub-1_ses-a_dwi.nii.gz", "sub-1/ses-b/dwi/sub-1_ses-b_dwi.nii.gz")
    root = dataset(tmp_path / "d", *scans, "sub-2/dwi/sub-2_dwi.nii.gz")
    table = "participant_id\tsession_id\tnihss\nsub-1\t{}\t14\nsub-2\tses-a\t3\n"
    (root / "participants.tsv").write_text(table.format("ses-a"))
    joined = join_participants(find_scans(root), root)
    assert joined["sub-1_ses-a"]["nihss"] == "14"
    assert "nihss" not in joined["sub-1_ses-b"]
    assert joined["sub-2"]["nihss"] == "3"
    for none in ("", "n/a"):
        (root / "participants.tsv").write_text(table.format(none))
        joined = join_participants(find_scans(root), root)
        assert [row["nihss"] for row in joined.values()] == ["14", "14", "3"]


def test_an_unclosed_quotation_mark_is_an_error(tmp_path: Path) -> None:
    root = dataset(
        tmp_path / "d",
        "sub-1/dwi/sub-1_dwi.nii.gz",
        'participants.tsv=participant_id\tage\nsub-1\t"70\nsub-2\t60\n',
    )
    with pytest.raises(InputFileError, match="cannot be read"):
        join_participants(find_scans(root), root)


def test_a_trailing_tab_adds_no_column(tmp_path: Path) -> None:
    root = dataset(
        tmp_path / "d",
        "sub-1/dwi/sub-1_dwi.nii.gz",
        "participants.tsv=participant_id\tage\nsub-1\t70\t\n",
    )
    joined = join_participants(find_scans(root), root)
    assert set(joined["sub-1"]) == {"participant_id", "session_id", "age"}


def test_cells_may_contain_other_line_separators(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d", "sub-1/dwi/sub-1_dwi.nii.gz")
    table = "participant_id\tnote\tage\r\nsub-1\ta\x0bb\u2028c\t70\r\n"
    (root / "participants.tsv").write_text(table, encoding="utf-8", newline="")
    rows = join_participants(find_scans(root), root)
    assert rows["sub-1"]["age"] == "70"
    assert rows["sub-1"]["note"] == "a\x0bb\u2028c"
