from __future__ import annotations

import pytest

from infarct.core.errors import InputFileError
from infarct.web.store import Job, Store, scan_id


def test_names_are_claimed_once(tmp_path) -> None:
    store = Store(tmp_path)
    (tmp_path / "scan-002").mkdir()
    assert [store.claim() for _ in range(3)] == ["scan-001", "scan-003", "scan-004"]


@pytest.mark.parametrize(
    "name", ["..", "../x", "a/b", "", ".hidden", "a" * 65, "-rf", "na me", "é", "a\n"]
)
def test_only_plain_names_become_folders(tmp_path, name: str) -> None:
    store = Store(tmp_path / "results")
    claimed = store.claim()
    with pytest.raises(InputFileError, match="cannot be the name"):
        store.rename(claimed, name)
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_a_taken_name_is_refused(tmp_path) -> None:
    store = Store(tmp_path)
    (tmp_path / "done").mkdir()
    store.rename(store.claim(), "waiting")
    for name in ("done", "waiting"):
        with pytest.raises(InputFileError, match="already a scan"):
            store.rename(store.claim(), name)


def test_records_survive_and_interrupted_uploads_do_not(tmp_path) -> None:
    store = Store(tmp_path)
    whole, cut = store.claim(), store.claim()
    (store.input(cut) / "000000").write_bytes(b"half")
    job = store.save(Job(whole, "cfuzzy", {"dwi": "dwi.nii.gz"}, state="queued"))
    assert Store(tmp_path).jobs() == [job]
    assert not store.folder(cut).exists()


def test_a_damaged_record_is_no_job(tmp_path) -> None:
    store = Store(tmp_path)
    for content in ("", "[]", '{"name": 1', '{"model": "x"}'):
        name = store.claim()
        (store.folder(name) / "job.json").write_text(content)
    assert store.jobs() == []


def test_only_results_are_found(tmp_path) -> None:
    store = Store(tmp_path)
    for place in ("a", "cohort/b", ".hidden/c", "a/inside"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "manifest.json").write_text("{}")
    found = [path.relative_to(tmp_path).as_posix() for path in store.result_folders()]
    assert found == ["a", "cohort/b"]


def test_identifiers_are_no_paths() -> None:
    assert scan_id("../..") != scan_id("..")
    assert scan_id("../..").isalnum()
