"""What is kept of the cases a calibration rests on."""

from pathlib import Path

import numpy as np
from test_calibrating import made

from infarct.lab.candidates import Order, make_rows, read_row, true_candidates, write_row


def test_a_candidate_is_an_infarct_by_its_share_of_one_or_ones_share_of_it() -> None:
    candidates, reference = np.zeros((2, 30, 5, 3), dtype=bool)
    candidates[0:12] = True  # a sixth of it is lesion, but it holds a whole infarct
    reference[0:2] = True
    candidates[14:17] = True  # beside everything
    candidates[20:22], reference[21:29] = True, True  # half inside, an eighth of the infarct
    assert true_candidates(candidates, reference).tolist() == [True, False, True]
    assert true_candidates(np.zeros_like(candidates), reference).tolist() == []
    assert not true_candidates(candidates, np.zeros_like(reference)).any()


def test_a_row_is_read_back_as_written(tmp_path) -> None:
    row = made(4, 3)[3]
    write_row(row, tmp_path / "rows" / "a.json")
    assert read_row(tmp_path / "rows" / "a.json") == row
    assert [path.name for path in (tmp_path / "rows").iterdir()] == ["a.json"]


def test_a_case_that_all_methods_have_read_is_not_made_again(tmp_path: Path) -> None:
    order = Order(tmp_path / "no-bank", 3, 7, ("one", "other"), tmp_path)
    rows = dict(zip(order.models, made(2, 1), strict=True))
    for name, row in rows.items():
        write_row(row, tmp_path / name / "calibration-0003-0007.json")
    assert make_rows(order) == rows
