"""Scores weights on the validation set of their network after training.

A run on a GPU that is available only briefly can leave scoring to another machine.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from infarct.lab.training.checkpoint import Weights, read_weights, rounded
from infarct.lab.training.config import ValidationSettings, changed
from infarct.lab.training.log import (
    draw_curve,
    position_columns,
    read_log,
    score_columns,
    write_log,
)
from infarct.lab.training.sources import open_stream
from infarct.lab.training.validation import Scores, fixed_set, score


def score_weights(weights: Weights, bank: Path | None, validate_on: Path | None = None) -> Scores:
    """Score weights in the same way as during a run.

    Args:
        weights: Weights with their recipe, which sets the number of validation scans; the default
            number if it has none.
        bank: Bank of the training run; the ICBM head only if None.
        validate_on: Folder of prepared real cases; overrides the recipe.
    """
    recipe = changed(weights.recipe, None, validate_on)
    samples = recipe.validation.samples or ValidationSettings().samples
    recipe = replace(recipe, validation=replace(recipe.validation, samples=samples))
    kept = fixed_set(open_stream(bank, recipe), recipe, "cpu")
    return score(rounded(weights.network()), kept, recipe.loss, "cpu")


def score_run(run: Path, bank: Path | None, validate_on: Path | None = None) -> Scores:
    """Score the last weights of a run, add a row to its log, and redraw its curve.

    Args:
        run: Folder of the run.
        bank: As in `score_weights`.
        validate_on: As in `score_weights`.

    Raises:
        InputFileError: If the run has no weights.
    """
    weights = read_weights(run / "weights.pt")
    scores = score_weights(weights, bank, validate_on)
    log = run / "log.csv"
    row = position_columns(weights.position) | score_columns(scores)
    # Weights may have been copied without their log.
    write_log(log, [*(read_log(log) if log.is_file() else []), row])
    draw_curve(log, run / "curve.png")
    return scores
