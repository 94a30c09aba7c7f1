from __future__ import annotations

import json
import shutil

import pytest

from infarct.web.readings import DoubleReading, Reader
from infarct.web.worklist import attention


def test_results_of_the_command_line_appear_and_disappear(client, root) -> None:
    shutil.copytree(root / "case", root / "cohort" / "scan-10")
    shutil.copytree(root / "case", root / "cohort" / "scan-9")
    names = [row["name"] for row in client.get("/api/scans").json()["scans"]]
    assert names == ["case", "cohort/scan-9", "cohort/scan-10"]
    shutil.rmtree(root / "cohort")
    assert len(client.get("/api/scans").json()["scans"]) == 1


def test_a_row_says_what_the_summary_says(client, root) -> None:
    summary = json.loads((root / "case" / "summary.json").read_text())
    (row,) = client.get("/api/scans").json()["scans"]
    assert row["volume_ml"] == summary["lesion_volume_ml"]
    assert row["lesions"] == summary["lesion_count"]
    assert row["warnings"] == [each["message"] for each in summary["warnings"]]
    details = client.get(f"/api/scans/{row['id']}").json()
    assert details["lesion_list"] == summary["lesions"]
    assert "report.html" in details["files"]


@pytest.mark.parametrize("content", ["", "{}", '{"lesion_volume_ml": "many"}'])
def test_a_damaged_result_is_named_and_stops_nothing_else(client, root, content: str) -> None:
    shutil.copytree(root / "case", root / "broken")
    (root / "broken" / "summary.json").write_text(content)
    rows = {row["name"]: row for row in client.get("/api/scans").json()["scans"]}
    assert rows["case"]["state"] == "done"
    assert rows["broken"]["state"] == "damaged"
    assert "damaged" in rows["broken"]["error"]
    assert client.get(f"/api/scans/{rows['broken']['id']}/report").status_code == 409


def test_what_needs_attention_comes_first() -> None:
    clear = {"warnings": [], "confidence": {"infarct_probability": 0.99}}
    warned = {**clear, "warnings": [{"code": "x", "message": "y"}]}
    unsure = {**clear, "confidence": {"infarct_probability": 0.5}}
    corrected = {**clear, "corrections": [{}]}
    none = DoubleReading()
    ranks = [attention(summary, none) for summary in (warned, unsure, clear, corrected)]
    assert ranks == sorted(set(ranks))
    both = tuple(Reader(name, submitted="today") for name in "ab")
    assert attention(clear, DoubleReading(readers=both)) == ranks[0]
