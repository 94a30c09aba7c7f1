"""Rows stored for the cases of a calibration."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_fit import made

from infarct.core.errors import InputFileError
from infarct.lab.calibration import collect as candidates
from infarct.lab.calibration.collect import (
    NOTE,
    Order,
    collect,
    make_rows,
    read_row,
    true_candidates,
    write_row,
)


def test_a_candidate_is_an_infarct_if_either_overlap_is_large_enough() -> None:
    candidates, reference = np.zeros((2, 30, 5, 3), dtype=bool)
    candidates[0:12] = True  # a sixth of it is lesion, but it covers a complete infarct
    reference[0:2] = True
    candidates[14:17] = True  # no overlap
    candidates[20:22], reference[21:29] = True, True  # half inside, an eighth of the infarct
    assert true_candidates(candidates, reference).tolist() == [True, False, True]
    assert true_candidates(np.zeros_like(candidates), reference).tolist() == []
    assert not true_candidates(candidates, np.zeros_like(reference)).any()


def test_a_row_survives_a_round_trip(tmp_path) -> None:
    row = made(4, 3)[3]
    write_row(row, tmp_path / "rows" / "a.json")
    assert read_row(tmp_path / "rows" / "a.json") == row
    assert [path.name for path in (tmp_path / "rows").iterdir()] == ["a.json"]


def test_a_complete_case_is_not_simulated_again(tmp_path: Path) -> None:
    order = Order(tmp_path / "no-bank", 3, 7, ("one", "other"), tmp_path)
    rows = dict(zip(order.models, made(2, 1), strict=True))
    for name, row in rows.items():
        write_row(row, tmp_path / name / "calibration-0003-0007.json")
    assert make_rows(order) == rows


def test_rows_of_another_bank_or_network_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pool:
        """Stands in for the processes: they make nothing here."""

        def __init__(self, _: int, **__: object) -> None:
            pass

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def submit(self, *_: object) -> Future:
            done: Future = Future()
            done.set_result({"mine": row})
            return done

    (row,) = made(1, 5)
    bank, network, out = (tmp_path / name for name in ("bank.npz", "Mine.onnx", "out"))
    bank.write_bytes(b"a bank")
    network.write_bytes(b"a network")
    method = SimpleNamespace(networks=(network,))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(candidates, "get_model", lambda _: method)
    monkeypatch.setattr(candidates, "ProcessPoolExecutor", Pool)
    order = Order(bank, 0, 0, ("mine",), out)
    assert list(collect([order], 1)) == [{"mine": row}]
    write_row(row, out / "mine" / "calibration-0000-0000.json")
    assert list(collect([order], 1)) == [{"mine": row}]
    for changed, told in ((network, r"Mine\.onnx"), (bank, "bank")):
        before = changed.read_bytes()
        changed.write_bytes(b"another")
        with pytest.raises(
            InputFileError, match=f"different values of {told}; calibrate into another"
        ):
            list(collect([order], 1))
        changed.write_bytes(before)
    for note in (out / "mine" / NOTE, out / NOTE):
        note.unlink()
        with pytest.raises(InputFileError, match="contains results, but no made-from"):
            list(collect([order], 1))
