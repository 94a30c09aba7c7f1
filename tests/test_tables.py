"""What goes on disk says the same everywhere, and nothing undefined as a number."""

import csv
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from infarct.pipeline import Segmentation
from infarct.tables import numbers, write_json, write_tables


def test_the_summary_and_the_tables_say_the_same(
    segmentation: Segmentation, tmp_path: Path
) -> None:
    summary = numbers(segmentation.measurements, segmentation.anatomy)
    write_tables(segmentation.measurements, segmentation.anatomy.places, tmp_path)
    with (tmp_path / "lesions.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    for row, lesion in zip(rows, summary["lesions"], strict=True):
        assert float(row["volume_ml"]) == pytest.approx(lesion["volume_ml"], rel=1e-5)
        assert row["territory"] == lesion["territory"]
        assert row["compartment"] == lesion["compartment"]
    with (tmp_path / "regions.tsv").open() as stream:
        kinds = [row["kind"] for row in csv.DictReader(stream, delimiter="\t")]
    assert kinds.count("territory") == len(summary["territories"]) > 0
    assert kinds.count("region") == len(summary["regions"]) > 0


def test_undefined_numbers_become_null(segmentation: Segmentation) -> None:
    undefined = replace(segmentation.measurements, mean_adc=math.nan)
    summary = numbers(undefined, segmentation.anatomy)
    assert summary["mean_adc"] is None
    json.dumps(summary, allow_nan=False)


def test_json_holds_no_name_that_is_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"M\xfcller.nii.gz")
    write_json({"networks": {name: "München"}, "made": None}, tmp_path / "x.json")
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"networks": {"M?ller.nii.gz": "München"}, "made": None}
