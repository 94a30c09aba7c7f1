"""The mean of the weights of several runs: one network that errs less than each of them.

Runs that go on from one another end in one valley of the loss, at different places of its floor.
What each outlines falsely is its own and vanishes in the mean; what all have learned stays. It
costs nothing at inference, unlike the mean of their answers.

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
    """Return the mean of the weights of runs of one network; the recipe is that of the last.

    Runs narrower than the last are widened first, see `widening`.

    Args:
        several: In the order in which they were trained.

    Raises:
        InputFileError: If there are fewer than two, or they are not of one network, or the last is
            narrower than another.
    """
    designs = {w.recipe.network for w in several}
    if len(several) < 2 or len(designs) > 1:
        raise InputFileError(
            f"cannot average {len(several)} weights of {'; '.join(sorted(designs)) or 'nothing'}; "
            "give two or more runs of the same network"
        )
    last = several[-1]
    # As the last was when it went on from a narrower one: the same seed shares out the same.
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
    """Average the last weights of some runs, and score the mean as a run is scored.

    Writes into `out` what a run writes: `weights.pt`, `log.csv` (the logs of the runs one after the
    other, and the scores of the mean), `curve.png`, `data.md`.

    Args:
        runs: Their folders, in the order in which they were trained.
        bank: What the last of them learned from; the one ICBM head if None.
        out: New folder.

    Raises:
        InputFileError: If a run has no weights, or they do not fit together.
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
    return f"Mean of the weights of {len(several)} runs ({runs}). Of the last: {note}."


def _write_log(runs: Sequence[Path], position: Position, scores: Scores, path: Path) -> None:
    """Join the logs, minutes and samples counted on, and end with the mean."""
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
