from __future__ import annotations

import json
from typing import Any

import pytest

from infarct.core.errors import InputFileError
from infarct.web import worker
from infarct.web.editing import EditConflictError


def answer(monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> dict[str, Any]:
    def task(number: float) -> dict[str, float]:
        if error is not None:
            raise error
        return {"number": number}

    monkeypatch.setitem(worker.TASKS, "task", task)
    return worker.answer(json.dumps({"task": "task", "arguments": {"number": 2.5}}))


def test_results_are_plain_json(monkeypatch) -> None:
    assert answer(monkeypatch) == {"result": {"number": 2.5}}


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (InputFileError("bad image"), "input", "bad image"),
        (EditConflictError("changed"), "conflict", "changed"),
        (MemoryError(), "input", "not enough memory"),
        (ValueError("secret name"), "internal", "ValueError"),
    ],
)
def test_errors_have_a_kind_and_show_no_internals(monkeypatch, error, kind, text) -> None:
    found = answer(monkeypatch, error)
    assert found["kind"] == kind
    assert text in found["error"]
    assert "secret" not in found["error"]
