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
    cut = Finding(FindingCode.BRAIN_CROPPED, "warning", "Cut.")
    clipped = Finding(FindingCode.SATURATED, "note", "Clipped.")
    assert void_reason([]) == ""
    assert void_reason([cut, clipped]) == ""
    assert void_reason([cut, poor]) == FindingCode.REGISTRATION_POOR.void_reason
    assert FindingCode.MISALIGNED.voids_confidence
    assert not FindingCode.BRAIN_CROPPED.voids_confidence


def test_unknown_codes_and_levels_are_rejected() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        Finding("nonsense", "note", "")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="never a note"):
        Finding(FindingCode.BRAIN_CROPPED, "note", "")


def test_codes_of_other_versions_are_unknown_not_errors() -> None:
    assert stored_code("brain-cropped") is FindingCode.BRAIN_CROPPED
    assert stored_code("from-the-future") is None
    assert FindingCode.NEGATIVE_VOXELS.severity == "warning"
