"""Scoring of weights after training."""

from dataclasses import replace
from pathlib import Path

import pytest
from test_loop import RECIPE, SphereStream

from infarct.lab.training import scoring
from infarct.lab.training.config import ValidationSettings
from infarct.lab.training.log import read_log
from infarct.lab.training.loop import train
from infarct.lab.training.scoring import score_run


def test_missing_scores_of_a_run_can_be_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "open_stream", lambda *_: SphereStream)
    train(RECIPE, SphereStream, tmp_path / "scored")
    unscored = replace(RECIPE, validation=ValidationSettings(samples=0))
    train(unscored, SphereStream, tmp_path / "unscored")
    before = read_log(tmp_path / "unscored/log.csv")
    assert not any(row["validation_dice"] for row in before)
    monkeypatch.setattr(scoring, "ValidationSettings", lambda: RECIPE.validation)
    scores = score_run(tmp_path / "unscored", None)
    *rows, last = read_log(tmp_path / "unscored/log.csv")
    assert rows == before
    assert last["samples"] == before[-1]["samples"]
    assert float(last["validation_dice"]) == pytest.approx(scores.dice, abs=1e-3)
    known = read_log(tmp_path / "scored/log.csv")[-1]
    assert float(last["validation_dice"]) == pytest.approx(
        float(known["validation_dice"]), abs=1e-3
    )


def test_weights_without_a_log_can_be_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "open_stream", lambda *_: SphereStream)
    train(replace(RECIPE, epochs=1), SphereStream, tmp_path)
    (tmp_path / "log.csv").unlink()
    scores = score_run(tmp_path, None)
    (row,) = read_log(tmp_path / "log.csv")
    assert float(row["validation_dice"]) == pytest.approx(scores.dice, abs=1e-3)
