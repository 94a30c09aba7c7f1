"""Recording the origin of the files in a folder."""

from pathlib import Path

import pytest

from infarct.core.errors import InputFileError, OutputError
from infarct.lab.provenance import claim

FACTS = {"bank": "ab", "cases": 3}


def test_a_record_accepts_only_the_same_origin(tmp_path: Path) -> None:
    note = tmp_path / "new" / "note.json"
    claim(note, FACTS, "go elsewhere")
    claim(note, FACTS, "go elsewhere", used=True)
    with pytest.raises(InputFileError, match="different values of bank, seed; go elsewhere"):
        claim(note, {"bank": "cd", "cases": 3, "seed": 1}, "go elsewhere")
    for half in ('{"bank"', "[]"):
        note.write_text(half)
        with pytest.raises(InputFileError, match="go elsewhere"):
            claim(note, FACTS, "go elsewhere")


def test_results_of_unknown_origin_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"no note\.json that records .*; go elsewhere"):
        claim(tmp_path / "note.json", FACTS, "go elsewhere", used=True)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        claim(tmp_path / "file" / "note.json", FACTS, "go elsewhere")
