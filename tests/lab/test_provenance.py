"""A folder tells what its files are made from."""

from pathlib import Path

import pytest

from infarct.core.errors import InputFileError, OutputError
from infarct.lab.provenance import claim

FACTS = {"bank": "ab", "cases": 3}


def test_a_folder_is_claimed_once_and_for_one_thing(tmp_path: Path) -> None:
    note = tmp_path / "new" / "note.json"
    claim(note, FACTS, "go elsewhere")
    claim(note, FACTS, "go elsewhere", used=True)
    with pytest.raises(InputFileError, match="different values of bank, seed; go elsewhere"):
        claim(note, {"bank": "cd", "cases": 3, "seed": 1}, "go elsewhere")
    for half in ('{"bank"', "[]"):
        note.write_text(half)
        with pytest.raises(InputFileError, match="go elsewhere"):
            claim(note, FACTS, "go elsewhere")


def test_results_of_which_nothing_is_known_are_nobodys(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"no note\.json that records .*; go elsewhere"):
        claim(tmp_path / "note.json", FACTS, "go elsewhere", used=True)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        claim(tmp_path / "file" / "note.json", FACTS, "go elsewhere")
