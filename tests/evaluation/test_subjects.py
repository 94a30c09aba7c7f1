"""The table of subjects and the strata."""

import math
from pathlib import Path

import pytest

from infarct.core.errors import InputFileError
from infarct.evaluation.subjects import read_subjects, stratify, volume_level


def table(path: Path, text: str) -> Path:
    file = path / "subjects.tsv"
    file.write_text(text.replace(" | ", "\t"), encoding="utf-8")
    return file


def test_subject_names_match_with_prefix_session_and_folder(tmp_path: Path) -> None:
    file = table(
        tmp_path,
        "participant_id | session_id | age\nsub-1 | ses-1 | 50\nsub-1 | ses-2 | 51\n2 |  | 60\n",
    )
    names = ["sub-1_ses-1", "sub-1_ses-2", "sub-2", "test/2", "sub-2_run-1", "sub-9"]
    known = read_subjects(file, names)
    assert [known.number(name, "age") for name in names[:5]] == [50, 51, 60, 60, 60]
    assert math.isnan(known.number("sub-9", "age"))


def test_columns_have_alternative_names_and_missing_ones_are_listed(tmp_path: Path) -> None:
    file = table(
        tmp_path, "Participant_ID | Vendor | MagneticFieldStrength | Age\na | GE | 3 | n/a\n"
    )
    known = read_subjects(file, ["a"])
    assert known.value("a", "manufacturer") == "GE"
    assert known.value("a", "field_strength") == "3"
    assert known.value("a", "age") is None
    assert set(known.missing) == {
        *("cohort", "territory", "hemisphere", "race", "sex", "onset", "nihss")
    }


@pytest.mark.parametrize("cell", ["n/a", "NA", "NaN", ""])
def test_unknown_values_do_not_form_a_group(tmp_path: Path, cell: str) -> None:
    file = table(tmp_path, f"participant_id | sex | age\na | {cell} | 4\nb | F | {cell}\n")
    known = read_subjects(file, ["a", "b"])
    assert known.value("a", "sex") is known.value("b", "age") is None
    assert known.unread == ()


def test_a_table_without_participants_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="participant_id"):
        read_subjects(table(tmp_path, "name | age\na | 3\n"), ["a"])
    with pytest.raises(InputFileError, match="cannot be read"):
        read_subjects(tmp_path / "absent.tsv", ["a"])


@pytest.mark.parametrize(
    ("column", "cell", "level"),
    [
        ("field_strength", "2.89", "3 T"),
        ("field_strength", "1.494", "1.5 T"),
        ("field_strength", "3T", "3 T"),
        ("field_strength", "2,89", "3 T"),
        ("field_strength", "1,494 T", "1.5 T"),
        ("field_strength", ".55", "0.55 T"),
        ("onset_to_scan", "3,5", "2-6 h"),
        ("onset_to_scan", "early, in sleep", "early, in sleep"),
        ("onset_to_scan", "1.99", "<2 h"),
        ("onset_to_scan", "3,5 h", "2-6 h"),
        ("onset_to_scan", "7 hours", "6-12 h"),
        ("onset_to_scan", "0-6 h", "0-6 h"),
        ("onset_to_scan", "2", "2-6 h"),
        ("onset_to_scan", "6", "6-12 h"),
        ("onset_to_scan", "23.9", "12-24 h"),
        ("onset_to_scan", "48", ">24 h"),
        ("sex", "M", "male"),
        ("sex", "Female", "female"),
        ("hemisphere", "L", "left"),
        ("territory", "MCA", "MCA"),
    ],
)
def test_levels(tmp_path: Path, column: str, cell: str, level: str) -> None:
    key = "onset" if column == "onset_to_scan" else column
    known = read_subjects(table(tmp_path, f"participant_id | {column}\na | {cell}\n"), ["a"])
    assert stratify(key, known, ["a"], {}).levels == (level,)


def test_non_numeric_cells_are_unknown_and_listed(tmp_path: Path) -> None:
    file = table(
        tmp_path,
        "participant_id | age | nihss | field_strength\n"
        "a | 67,5 | 4 | 15000\nb | 67 years | n/a | 1.5/3\nc | 70 |  | high\nd | ? | ? | 4\n",
    )
    known = read_subjects(file, ["a", "b", "c"])
    assert known.number("a", "age") == 67.5
    assert math.isnan(known.number("b", "age"))
    assert stratify("field_strength", known, ["a", "b", "c"], {}).levels == ()
    assert set(known.unread) == {
        "field_strength of a ('15000')",
        "field_strength of b ('1.5/3')",
        "field_strength of c ('high')",
        "age of b ('67 years')",
    }


def test_duplicate_rows_are_refused(tmp_path: Path) -> None:
    visits = "participant_id | age\nsub-1 | 66\nsub-2 | 50\n1 | 77\n"
    with pytest.raises(InputFileError, match=r"several rows for 1 \(1 in total\).*session_id"):
        read_subjects(table(tmp_path, visits), ["sub-2"])
    blank = "participant_id | age\nsub-1 | 66\n | \n | \n"
    assert read_subjects(table(tmp_path, blank), ["sub-1"]).number("sub-1", "age") == 66


def test_a_row_does_not_match_two_folders_of_the_same_name(tmp_path: Path) -> None:
    file = table(tmp_path, "participant_id | age\ncase-1 | 61\ntest/case-2 | 70\ncase-3 | 5\n")
    names = ["test/case-1", "train/case-1", "test/case-2", "train/case-2", "test/case-3"]
    known = read_subjects(file, names)
    assert known.unlisted == ("test/case-1", "train/case-1", "train/case-2")
    assert known.number("test/case-2", "age") == 70
    assert known.number("test/case-3", "age") == 5


def test_a_row_with_too_many_cells_is_refused(tmp_path: Path) -> None:
    file = table(tmp_path, "participant_id | sex | age\na | F | 50\nb |  | M | 60\n")
    with pytest.raises(InputFileError, match="row 3 has more cells than the header"):
        read_subjects(file, ["a", "b"])
    # A trailing tab is harmless.
    assert read_subjects(table(tmp_path, "participant_id | age\na | 50 | \n"), ["a"]).unread == ()


@pytest.mark.parametrize("cell", ["n/a", "", "NA"])
def test_an_unknown_session_is_ignored(tmp_path: Path, cell: str) -> None:
    file = table(tmp_path, f"participant_id | session_id | age\nsub-1 | {cell} | 50\n")
    assert read_subjects(file, ["sub-1"]).number("sub-1", "age") == 50


def test_an_index_column_written_by_pandas_is_ignored(tmp_path: Path) -> None:
    file = table(tmp_path, " | participant_id | age\n0 | a | 50\n1 | b | 60\n")
    known = read_subjects(file, ["a", "b", "c"])
    assert [known.number(name, "age") for name in "ab"] == [50, 60]
    assert known.unlisted == ("c",)


def test_an_unclosed_quotation_mark_is_refused(tmp_path: Path) -> None:
    file = table(tmp_path, 'participant_id | age\na | "5\nb | 6\n')
    with pytest.raises(InputFileError, match="unclosed quotation mark"):
        read_subjects(file, ["a", "b"])


def test_groups_are_case_insensitive(tmp_path: Path) -> None:
    cells = {"a": "SIEMENS", "b": "Siemens", "c": "siemens", "d": "GE", "e": "Siemens"}
    rows = "".join(f"{name} | {cell}\n" for name, cell in cells.items())
    known = read_subjects(table(tmp_path, f"participant_id | vendor\n{rows}"), cells)
    stratum = stratify("manufacturer", known, list(cells), {})
    assert stratum.levels == ("Siemens", "GE")
    assert stratum.members("Siemens", cells) == ["a", "b", "c", "e"]


def test_volume_strata_of_the_paper() -> None:
    assert [volume_level(ml)[0] for ml in (0.1, 1.69, 1.7, 13.9, 14.0, 200)] == list("SSMMLL")
    stratum = stratify("volume", read_subjects(None, []), ["a", "b"], {"a": 20.0, "b": 0.0})
    assert dict(stratum.level_of) == {"a": "L (≥14 ml)"}


def test_rare_levels_are_merged(tmp_path: Path) -> None:
    names = [f"s{i}" for i in range(40)]
    makers = ["Siemens"] * 20 + [f"maker {i}" for i in range(20)]
    rows = "".join(f"{n} | {m}\n" for n, m in zip(names, makers, strict=True))
    known = read_subjects(table(tmp_path, "participant_id | manufacturer\n" + rows), names)
    stratum = stratify("manufacturer", known, names, {})
    assert len(stratum.levels) == 6
    assert stratum.levels[0] == "Siemens"
    assert len(stratum.members("other", names)) == 16
    assert set(stratum.level_of) == set(names)


@pytest.mark.parametrize("word", ["other", "Other"])
def test_rare_levels_are_merged_into_an_existing_level_other(tmp_path: Path, word: str) -> None:
    races = ["A"] * 9 + ["B"] * 8 + [word] * 7 + ["C"] * 6 + ["D"] * 5 + ["E"] * 4 + ["F", "G"]
    names = [f"s{i}" for i in range(len(races))]
    rows = "".join(f"{n} | {r}\n" for n, r in zip(names, races, strict=True))
    known = read_subjects(table(tmp_path, "participant_id | race\n" + rows), names)
    stratum = stratify("race", known, names, {})
    assert stratum.levels == ("A", "B", "C", "D", "E", word)
    assert len(stratum.members(word, names)) == 9
    assert sum(len(stratum.members(level, names)) for level in stratum.levels) == len(names)


def test_the_outermost_folder_is_the_cohort_unless_the_table_gives_one(tmp_path: Path) -> None:
    names = ["late/case-1", "test/case-2"]
    known = read_subjects(None, names)
    assert [known.value(name, "cohort") for name in names] == ["late", "test"]
    assert "cohort" not in known.missing
    assert read_subjects(None, ["case-1"]).value("case-1", "cohort") is None
    file = table(tmp_path, "participant_id | cohort\ncase-1 | mine\n")
    assert read_subjects(file, names).value("late/case-1", "cohort") == "mine"
