"""Written tables agree with each other, and undefined numbers are never written as numbers."""

import csv
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from infarct.core.serialization import plain_cell, write_json, write_tsv
from infarct.reporting.tables import numbers, write_tables
from infarct.segmentation.result import Segmentation


def test_summary_and_tables_agree(segmentation: Segmentation, tmp_path: Path) -> None:
    summary = numbers(segmentation.measurements, segmentation.anatomy)
    write_tables(segmentation.measurements, segmentation.anatomy.places, tmp_path)
    with (tmp_path / "lesions.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    for row, lesion in zip(rows, summary["lesions"], strict=True):
        assert float(row["volume_ml"]) == pytest.approx(lesion["volume_ml"], rel=1e-5)
        assert row["territory"] == lesion["territory"]
        assert row["compartment"] == lesion["compartment"]
        assert row["region"] == lesion["region"]
        assert (row["doubtful"] == "yes") is lesion["doubtful"]
    with (tmp_path / "regions.tsv").open() as stream:
        kinds = [row["kind"] for row in csv.DictReader(stream, delimiter="\t")]
    assert kinds.count("territory") == len(summary["territories"]) > 0
    assert kinds.count("region") == len(summary["regions"]) > 0


def test_volume_without_doubtful_lesions(segmentation: Segmentation) -> None:
    (lesion, *_) = segmentation.measurements.lesions
    (place, *_) = segmentation.anatomy.places.lesions
    lesions = [
        replace(lesion, volume_ml=ml, probability=p, adc_ratio=adc)
        for ml, p, adc in ((5.0, 0.5, 1.0), (3.0, 0.49, 0.5), (2.0, 0.9, 1.01), (1.0, None, 0.9))
    ]
    measurements = replace(segmentation.measurements, lesions=tuple(lesions))
    places = replace(segmentation.anatomy.places, lesions=(place,) * 4)
    summary = numbers(measurements, replace(segmentation.anatomy, places=places))
    assert [row["doubtful"] for row in summary["lesions"]] == [False, True, True, False]
    assert summary["doubtful_count"] == 2
    assert summary["volume_without_doubtful_ml"] == pytest.approx(6.0)


def test_undefined_numbers_become_null(segmentation: Segmentation) -> None:
    undefined = replace(segmentation.measurements, mean_adc=math.nan)
    summary = numbers(undefined, segmentation.anatomy)
    assert summary["mean_adc"] is None
    json.dumps(summary, allow_nan=False)


def test_names_that_are_not_utf8_are_replaced_in_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"M\xfcller.nii.gz")
    write_json({"networks": {name: "München"}, "created": None}, tmp_path / "x.json")
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"networks": {"M?ller.nii.gz": "München"}, "created": None}


@pytest.mark.parametrize(
    "cell",
    [
        *("=cmd|' /C calc'!A0", "=1+1", "+cmd", "-cmd", "@SUM(A1)", "\t=1", "\n=1", " =1", "-2+A1"),
        *("-1 +cmd|' /C calc'!A0", "\uff1d1", "+HYPERLINK(A1)", "-e5"),
    ],
)
def test_spreadsheet_formulas_are_written_as_text(tmp_path: Path, cell: str) -> None:
    assert plain_cell(cell) == f"'{cell}"
    assert plain_cell(plain_cell(cell)) == plain_cell(cell)
    write_tsv(tmp_path / "t.tsv", ["a", cell], [["b", cell]])
    with (tmp_path / "t.tsv").open(newline="") as stream:
        rows = list(csv.reader(stream, delimiter="\t"))
    assert rows == [["a", f"'{cell}"], ["b", f"'{cell}"]]


@pytest.mark.parametrize(
    "cell",
    [
        *("", "-", "n/a", "sub-1", "-1.5", "+3", "-1e-05", "-inf", "-3.20 to 1.50", "1 = 2"),
        *("-0.012 [-0.031, 0.004]", "-1,234.50 (2.1); -3.0 [-5.0, 1.0]", "<0.001", "M\u00fcller"),
    ],
)
def test_numbers_and_plain_text_are_unchanged(cell: str) -> None:
    assert plain_cell(cell) == cell


def test_csv_writers_are_used_only_where_expected() -> None:
    source = Path(__file__).parents[2] / "src/infarct"
    writers = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if "csv.writer(" in (text := path.read_text(encoding="utf-8")) or "csv.DictWriter(" in text
    }
    # A training log contains only numbers and is read back.
    assert writers == {"core/serialization.py", "lab/training/log.py"}


def test_carriage_return_does_not_end_a_row(tmp_path: Path) -> None:
    write_tsv(tmp_path / "t.tsv", ["a"], [["b\r=cmd"], ["\r=cmd"]])
    assert (tmp_path / "t.tsv").read_bytes() == b"a\nb =cmd\n' =cmd\n"
