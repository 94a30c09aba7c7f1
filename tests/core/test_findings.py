from pathlib import Path

import pytest

from infarct.core.findings import Finding, FindingCode, stored_code, void_reason


def test_every_code_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "findings.md").read_text(
        encoding="utf-8"
    )
    assert [code for code in FindingCode if f"`{code}`" not in text] == []


def test_confidence_is_void_under_a_warning_only() -> None:
    poor = Finding(FindingCode.REGISTRATION_POOR, "warning", "Poor.")
    cut = Finding(FindingCode.BRAIN_CUT, "warning", "Cut.")
    clipped = Finding(FindingCode.SATURATED, "note", "Clipped.")
    assert void_reason([]) == ""
    assert void_reason([cut, clipped]) == ""
    assert void_reason([cut, poor]) == FindingCode.REGISTRATION_POOR.void_reason
    assert FindingCode.OUT_OF_PLACE.voids_confidence
    assert not FindingCode.BRAIN_CUT.voids_confidence


def test_unknown_codes_and_levels_are_rejected() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        Finding("nonsense", "note", "")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="never a note"):
        Finding(FindingCode.BRAIN_CUT, "note", "")


def test_codes_of_other_versions_are_unknown_not_errors() -> None:
    assert stored_code("brain-cut") is FindingCode.BRAIN_CUT
    assert stored_code("from-the-future") is None
    assert FindingCode.NEGATIVE.severity == "warning"
