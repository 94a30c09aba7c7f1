import os
from pathlib import Path

import pytest

from infarct.cohort.jobs import Outcome, Settings
from infarct.cohort.ledger import COLUMNS, Ledger
from infarct.errors import OutputError

SETTINGS = Settings("cfuzzy")


def test_the_last_line_about_a_case_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "new")
    assert ledger.read() == {}
    ledger.append(Outcome("a", "failed", 3, "no\tsuch\nfile"), SETTINGS)
    ledger.append(Outcome("b", "done", volume_ml=0.0, lesions=0, warnings=2), SETTINGS)
    ledger.append(Outcome("a", "done", volume_ml=12.3456789), SETTINGS)
    rows = ledger.read()
    assert rows["a"]["status"] == "done"
    assert rows["a"]["volume_ml"] == "12.3457"
    assert (rows["b"]["lesions"], rows["b"]["reason"]) == ("0", "n/a")
    lines = ledger.path.read_text().splitlines()
    assert lines[0].split("\t") == list(COLUMNS)
    assert all(line.count("\t") == len(COLUMNS) - 1 for line in lines)
    assert "no such file" in lines[1]


def test_a_line_cut_off_by_a_kill_costs_that_line_only(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for name in "ab":
        ledger.append(Outcome(name, "done"), SETTINGS)
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole[: whole.rindex(b"\tdone") + 3])
    assert set(ledger.read()) == {"a"}
    ledger.append(Outcome("c", "done"), SETTINGS)
    assert set(ledger.read()) == {"a", "c"}


def test_a_disk_that_takes_half_a_line_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, write = Ledger(tmp_path), os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda stream, text: write(stream, text[:20]))
        with pytest.raises(OutputError, match="No space left"):
            ledger.append(Outcome("a", "done"), SETTINGS)
    ledger.append(Outcome("b", "done"), SETTINGS)
    assert set(ledger.read()) == {"b"}


def test_a_ledger_that_cannot_be_written_says_what_stays(tmp_path: Path) -> None:
    (tmp_path / "cases.tsv").mkdir()
    with pytest.raises(OutputError, match="complete stay: make room and run the same command"):
        Ledger(tmp_path).append(Outcome("a", "done"), SETTINGS)


def test_a_reason_that_names_a_file_not_in_utf8_is_written(tmp_path: Path) -> None:
    ledger, name = Ledger(tmp_path), os.fsdecode(b"M\xfcller_dwi.nii.gz")
    ledger.append(Outcome("a", "failed", 3, f"{name}: no such file"), SETTINGS)
    assert ledger.read()["a"]["reason"] == "M?ller_dwi.nii.gz: no such file"


def test_a_table_of_that_name_that_is_somebody_elses_is_not_added_to(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.refuse_foreign()
    ledger.append(Outcome("a", "done"), SETTINGS)
    ledger.refuse_foreign()
    for content in ("id\tdwi\n1\ta.nii\n", "\xff", "cases"):
        ledger.path.write_text(content, encoding="latin-1")
        with pytest.raises(OutputError, match="is not the table of results"):
            ledger.refuse_foreign()
    ledger.path.write_text("id\tstatus\tco")
    ledger.refuse_foreign()
