"""Scores weights on the validation set of their network, long after they were trained.

A run on a GPU that is lent by the minute leaves its scores to a machine with time.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from infarct.lab.checkpoint import Position, Weights, read_weights, rounded
from infarct.lab.feed import open_stream
from infarct.lab.log import COLUMNS, draw_curve
from infarct.lab.recipes import ValidationSettings
from infarct.lab.validation import Scores, fixed_set, score


def score_weights(weights: Weights, bank: Path | None) -> Scores:
    """Score weights as a run is scored.

    Args:
        weights: Their recipe says on how many scans; where it asks for none, on the usual number.
        bank: What they learned from; the one ICBM head if None.
    """
    recipe = weights.recipe
    samples = recipe.validation.samples or ValidationSettings().samples
    recipe = replace(recipe, validation=replace(recipe.validation, samples=samples))
    kept = fixed_set(open_stream(bank, recipe), recipe, "cpu")
    return score(rounded(weights.network()), kept, recipe.loss, "cpu")


def score_run(run: Path, bank: Path | None) -> Scores:
    """Score the last weights of a run, add a row to its log, and draw its curve anew.

    Args:
        run: Its folder.
        bank: As in `score_weights`.

    Raises:
        InputFileError: If it has no weights.
    """
    weights = read_weights(run / "weights.pt")
    scores = score_weights(weights, bank)
    with (run / "log.csv").open("a", newline="") as file:
        csv.DictWriter(file, COLUMNS, restval="").writerow(row_of(weights.position, scores))
    draw_curve(run / "log.csv", run / "curve.png")
    return scores


def row_of(position: Position, scores: Scores) -> dict[str, str]:
    """Return what a log says of weights that are scored and no longer trained."""
    return {
        "minutes": f"{position.seconds / 60:.2f}",
        "samples": str(position.samples),
        "epoch": str(position.epochs),
        "validation_loss": f"{scores.loss:.4g}",
        "validation_dice": f"{scores.dice:.4g}",
        "false_voxels": f"{scores.false_voxels:.4g}",
    }
