import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from infarct.cohort.case_log import COLUMNS, Ledger
from infarct.cohort.jobs import Outcome, Settings
from infarct.core.errors import OutputError

SETTINGS = Settings("cfuzzy")


def lines_of(ledger: Ledger) -> list[list[str]]:
    return [line.split("\t") for line in ledger.path.read_text().splitlines()]


def test_the_newest_record_of_a_case_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "new")
    assert ledger.read() == {}
    ledger.add(Outcome("a", "failed", 3, "no\tsuch\nfile"), SETTINGS)
    ledger.publish()
    assert lines_of(ledger)[1][3] == "no such file"
    ledger.add(Outcome("b", "done", volume_ml=0.0, lesions=0, warnings=2), SETTINGS)
    ledger.add(Outcome("a", "done", volume_ml=12.3456789), SETTINGS)
    ledger.publish()
    rows = Ledger(tmp_path / "new").read()
    assert rows["a"]["status"] == "done"
    assert rows["a"]["volume_ml"] == "12.3457"
    assert (rows["b"]["lesions"], rows["b"]["reason"]) == ("0", "n/a")
    header, *lines = lines_of(ledger)
    assert header == list(COLUMNS)
    assert sorted(line[0] for line in lines) == ["a", "b"]
    assert all(len(line) == len(COLUMNS) for line in lines)


def add_all(out: Path, names: list[str]) -> None:
    ledger = Ledger(out)
    for name in names:
        ledger.add(Outcome(name, "done"), SETTINGS)
    ledger.publish()


def test_runs_on_several_computers_lose_no_record_and_no_line(tmp_path: Path) -> None:
    shares = [[f"case-{run}-{number}" for number in range(40)] for run in range(4)]
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        list(pool.map(add_all, [tmp_path] * 4, shares))
    expected = {name for share in shares for name in share}
    assert set(Ledger(tmp_path).read()) == expected
    assert {line[0] for line in lines_of(Ledger(tmp_path))[1:]} == expected
    assert {path.name for path in tmp_path.iterdir()} == {"cases.tsv", ".cases"}


def test_the_last_writer_includes_records_of_other_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick, read = Ledger(tmp_path), Ledger(tmp_path), Ledger.read
    slow.add(Outcome("a", "done"), SETTINGS)

    def read_then_wait(self: Ledger) -> dict[str, dict[str, str]]:
        rows = read(self)
        if self is slow and "b" not in rows:
            quick.add(Outcome("b", "done"), SETTINGS)
        return rows

    monkeypatch.setattr(Ledger, "read", read_then_wait)
    slow.publish()
    assert [line[0] for line in lines_of(slow)[1:]] == ["a", "b"]


def test_a_table_that_an_earlier_version_appended_to_is_kept(tmp_path: Path) -> None:
    old = ["a", "failed", "3", "broken", *["n/a"] * 4, "0.1", "cfuzzy", "2026-01-01T00:00:00+00:00"]
    ledger = Ledger(tmp_path)
    rows = [list(COLUMNS), ["a", "done", *old[2:]], old, ["b", *old[1:]]]
    text = "".join("\t".join(row) + "\n" for row in rows)
    ledger.path.write_text(text + "c\tdone\t0")  # cut off by a full disk
    ledger.refuse_foreign()
    assert {name: row["status"] for name, row in ledger.read().items()} == {
        "a": "failed",
        "b": "failed",
    }
    ledger.add(Outcome("b", "done"), SETTINGS)
    ledger.publish()
    assert {line[0]: line[1] for line in lines_of(ledger)[1:]} == {"a": "failed", "b": "done"}


def test_a_damaged_record_costs_that_record_only(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for name in "abc":
        ledger.add(Outcome(name, "done"), SETTINGS)
    ledger.path.unlink()
    (ledger.records / "b").write_text("{")
    (ledger.records / "c").write_text("[]")
    (ledger.records / ".draft").write_text("{")
    assert set(Ledger(tmp_path).read()) == {"a"}


def test_a_full_disk_costs_no_earlier_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path)
    ledger.add(Outcome("a", "done"), SETTINGS)

    def full(stream: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="No space left"):
            ledger.add(Outcome("a", "failed"), SETTINGS)
    assert Ledger(tmp_path).read()["a"]["status"] == "done"
    assert [path.name for path in ledger.records.iterdir()] == ["a"]


def test_a_table_that_cannot_be_written_says_what_stays(tmp_path: Path) -> None:
    (tmp_path / "cases.tsv").mkdir()
    with pytest.raises(OutputError, match="completed cases are kept: make room and run the same"):
        Ledger(tmp_path).add(Outcome("a", "done"), SETTINGS)


def test_reasons_are_escaped(tmp_path: Path) -> None:
    ledger, name = Ledger(tmp_path), os.fsdecode(b"M\xfcller_dwi.nii.gz")
    ledger.add(Outcome("a", "failed", 3, f"{name}: no such file"), SETTINGS)
    ledger.add(Outcome("b" * 255, "failed", 3, "=cmd|' /C calc'!A0"), SETTINGS)
    ledger.publish()
    assert ledger.read()["a"]["reason"] == "M?ller_dwi.nii.gz: no such file"
    reasons = {line[0]: line[3] for line in lines_of(ledger)}
    assert reasons["b" * 255] == "'=cmd|' /C calc'!A0"


def test_a_foreign_table_is_not_replaced(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.refuse_foreign()
    ledger.add(Outcome("a", "done"), SETTINGS)
    ledger.refuse_foreign()
    for content in ("id\tdwi\n1\ta.nii\n", "\xff", "cases"):
        ledger.path.write_text(content, encoding="latin-1")
        with pytest.raises(OutputError, match="is not a table of results"):
            ledger.refuse_foreign()
    ledger.path.write_text("id\tstatus\tco")
    ledger.refuse_foreign()
