"""Averages the weights of several runs into one network with fewer errors than each of them.

Runs fine-tuned from one another end in the same basin of the loss. Their false positives differ and
largely cancel in the mean, while common features remain. Unlike averaging predictions, averaging
weights costs nothing at inference.

References:
    Izmailov et al. 2018, Averaging weights leads to wider optima and better generalization.
    Wortsman et al. 2022, Model soups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from infarct.core.errors import InputFileError, OutputError
from infarct.lab.training.checkpoint import Position, Weights, read_weights, write_weights
from infarct.lab.training.log import (
    draw_curve,
    position_columns,
    read_log,
    score_columns,
    write_log,
)
from infarct.lab.training.scoring import score_weights
from infarct.lab.training.sources import describe_stream
from infarct.lab.training.validation import Scores
from infarct.lab.training.widening import widened


def average(several: Sequence[Weights]) -> Weights:
    """Return the mean weights of runs of the same network, with the recipe of the last run.

    Narrower networks are widened first, see `widening`.

    Args:
        several: Weights in training order.

    Raises:
        InputFileError: If there are fewer than two, if the networks differ, or if the last is
            narrower than another.
    """
    designs = {w.recipe.network for w in several}
    if len(several) < 2 or len(designs) > 1:
        raise InputFileError(
            f"cannot average {len(several)} weights of {'; '.join(sorted(designs)) or 'nothing'}; "
            "give two or more runs of the same network"
        )
    last = several[-1]
    # The seed of the last run: it widens in the same way as when that run was started.
    alike = [widened(w.weights, last.network(), last.recipe.seed) for w in several]
    weights = {
        name: torch.stack([w[name] for w in alike]).mean(0)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in last.weights.items()
    }
    position = Position(
        step=sum(w.position.step for w in several),
        samples=sum(w.position.samples for w in several),
        seconds=sum(w.position.seconds for w in several),
        epochs=sum(w.position.epochs for w in several),
    )
    return Weights(replace(last.recipe, note=_note(several)), position, weights)


def write_average(runs: Sequence[Path], bank: Path | None, out: Path) -> Scores:
    """Average the last weights of several runs, and score the mean.

    Writes the files of a run into `out`: `weights.pt`, `log.csv` (the concatenated logs of the
    runs and the scores of the mean), `curve.png` and `data.md`.

    Args:
        runs: Folders of the runs, in training order.
        bank: Bank of the last run; the ICBM head only if None.
        out: Output folder; must not exist.

    Returns:
        Scores of the mean on the validation set.

    Raises:
        InputFileError: If a run has no weights, or the networks do not match.
        OutputError: If `out` exists.
    """
    if out.exists():
        raise OutputError(f"{out} already exists; choose another folder")
    mean = average([read_weights(run / "weights.pt") for run in runs])
    scores = score_weights(mean, bank)
    position = replace(mean.position, best=scores.dice, lowest=scores.loss)
    out.mkdir(parents=True)
    write_weights(out / "weights.pt", mean.recipe, position, mean.network())
    (out / "data.md").write_text(describe_stream(bank, mean.recipe))
    _write_log(runs, position, scores, out / "log.csv")
    draw_curve(out / "log.csv", out / "curve.png")
    return scores


def _note(several: Sequence[Weights]) -> str:
    runs = "; ".join(
        f"seed {w.recipe.seed}, {w.position.samples:,} volumes in {w.position.seconds / 60:.0f} min"
        for w in several
    )
    note = several[-1].recipe.note.rstrip(".")
    return f"Mean of the weights of {len(several)} runs ({runs}). Note of the last run: {note}."


def _write_log(runs: Sequence[Path], position: Position, scores: Scores, path: Path) -> None:
    """Concatenate the logs with cumulative minutes and samples, and append the scores."""
    rows: list[dict[str, str]] = []
    minutes, samples = 0.0, 0
    for log in (read_log(run / "log.csv") for run in runs if (run / "log.csv").is_file()):
        for row in log:
            counted = {
                "minutes": f"{float(row['minutes']) + minutes:.2f}",
                "samples": str(int(row["samples"]) + samples),
            }
            rows.append({**row, **counted})
        if rows:
            minutes, samples = float(rows[-1]["minutes"]), int(rows[-1]["samples"])
    write_log(path, [*rows, position_columns(position) | score_columns(scores)])
