"""The table of computational costs."""

import math
from pathlib import Path

import pytest

from infarct.core.errors import InputFileError
from infarct.evaluation.costs import Cost, read_costs


def test_decimal_commas_and_unknown_values(tmp_path: Path) -> None:
    text = "tool\tparameters\tseconds\na\t1000\t3,5\nb\tn/a\t\n"
    (tmp_path / "costs.tsv").write_text(text)
    found = read_costs(tmp_path / "costs.tsv")
    assert (found["a"].parameters, found["a"].seconds) == (1000, 3.5)
    assert all(math.isnan(cost) for cost in (found["a"].memory_gb, *vars(found["b"]).values()))
    assert read_costs(None) == {}


@pytest.mark.parametrize(
    "text", ["name\tseconds\na\t1\n", "tool\tseconds\na\tfast\n", 'tool\tseconds\n"a\t1\n']
)
def test_an_invalid_table_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "costs.tsv").write_text(text)
    with pytest.raises(InputFileError, match="columns tool"):
        read_costs(tmp_path / "costs.tsv")


def test_costs_are_unknown_by_default() -> None:
    assert math.isnan(Cost().seconds)
