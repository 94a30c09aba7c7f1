"""Training log: CSV file, progress bar and curve."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import astuple
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor

from infarct.core.errors import TrainingError
from infarct.lab.training.checkpoint import Position
from infarct.lab.training.validation import Scores

_POSITION = ("minutes", "samples", "epoch")
_PROGRESS = ("rate", "samples_per_s", "loss", "dice", "waiting")
_SCORES = (
    *("validation_loss", "validation_dice", "false_voxels"),
    *("real_dice", "real_false_voxels", "real_loss"),
)

COLUMNS = (*_POSITION, *_PROGRESS, *_SCORES)
"""Columns of the log; scores are empty between two validations, and those of real cases if there
are none."""


class Tally:
    """Loss, Dice and speed since the last row; sums stay on the device until they are read.

    Args:
        seconds: Start time.
    """

    def __init__(self, seconds: float) -> None:
        self.since = seconds
        self.steps = 0
        self.volumes = 0
        self.waited = 0.0
        self.loss = torch.zeros(())
        self.dice = torch.zeros(())
        self.found = torch.zeros(())

    def add(self, volumes: int, loss: Tensor, dice: Tensor, waited: float = 0.0) -> None:
        """Count a step.

        Args:
            volumes: Number of volumes, over all devices.
            loss: Loss of the step.
            dice: (N,) Dice of each sample; NaN for lesion-free samples.
            waited: Seconds spent waiting for the volumes.
        """
        self.steps += 1
        self.volumes += volumes
        self.waited += waited
        self.loss = self.loss.to(loss.device) + loss
        self.dice = self.dice.to(loss.device) + dice.nansum()
        self.found = self.found.to(loss.device) + dice.isfinite().sum()

    def means(self, seconds: float) -> tuple[float, float, float, float]:
        """Return samples per second, loss, Dice and the fraction of time spent waiting.

        Args:
            seconds: Current time.

        Raises:
            TrainingError: If the loss is not finite.
        """
        loss = float(self.loss) / max(self.steps, 1)
        if not math.isfinite(loss):
            raise TrainingError(
                f"training diverged (loss {loss}); resume the run with a lower rate.peak"
            )
        spent = max(seconds - self.since, 1e-9)
        dice = float(self.dice / self.found) if self.found else math.nan
        return (self.volumes / spent, loss, dice, self.waited / spent)


class Log(AbstractContextManager["Log"]):
    """Writes `log.csv` and shows a progress bar.

    Args:
        out: Folder of the run.
        position: Progress at the start; later rows belong to lost work and are removed.
        silent: True for all but the first of several processes.
    """

    def __init__(self, out: Path, position: Position, silent: bool = False) -> None:
        self.path = out / "log.csv"
        self.silent = silent
        if not silent:
            kept = read_log(self.path) if position.samples and self.path.is_file() else []
            write_log(self.path, [row for row in kept if int(row["samples"]) <= position.samples])
        columns = (BarColumn(), TextColumn("{task.percentage:>3.0f}% {task.description}"))
        self.screen = Progress(*columns, console=Console(quiet=silent))
        self.bar = self.screen.add_task("starting", total=1.0)
        self.shown = -math.inf

    def __enter__(self) -> Log:
        """Show the bar."""
        self.screen.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the last state of the bar on the screen."""
        self.screen.stop()

    def show(self, progress: float, seconds: float, tally: Tally) -> None:
        """Move the bar.

        Args:
            progress: Completed fraction of the run.
            seconds: Training time so far.
            tally: Numbers to show next to the bar.
        """
        # Once a second: reading a value from a GPU forces a synchronisation.
        if seconds - self.shown < 1:
            return
        self.shown = seconds
        speed, loss, dice, _ = tally.means(seconds)
        left = seconds * (1 - progress) / max(progress, 1e-6) / 60
        text = f"loss {loss:.3f}  Dice {dice:.3f}  {speed:.2f} samples/s  {left:.0f} min left"
        self.screen.update(self.bar, completed=progress, description=text)

    def write(
        self, position: Position, rate: float, tally: Tally, scores: Scores | None = None
    ) -> None:
        """Add a row.

        Args:
            position: Progress of the run.
            rate: Learning rate.
            tally: Means since the last row.
            scores: Validation scores, at the end of an epoch.
        """
        if self.silent:
            return
        numbers = zip(_PROGRESS, (rate, *tally.means(position.seconds)), strict=True)
        row = position_columns(position) | {name: f"{x:.4g}" for name, x in numbers}
        row |= score_columns(scores) if scores else {}
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS, restval="").writerow(row)
        line = "  ".join(f"{name} {value}" for name, value in row.items())
        self.screen.console.print(line, soft_wrap=True)


def position_columns(position: Position) -> dict[str, str]:
    """Return the progress columns of a row."""
    values = (f"{position.seconds / 60:.2f}", str(position.samples), str(position.epochs))
    return dict(zip(_POSITION, values, strict=True))


def score_columns(scores: Scores) -> dict[str, str]:
    """Return the score columns of a row; scores that do not apply to the run are omitted."""
    values = zip(_SCORES, astuple(scores), strict=True)
    unscored = math.isnan(scores.loss)
    return {
        name: f"{x:.4g}"
        for name, x in values
        if not math.isnan(x) or not (unscored or name.startswith("real"))
    }


def read_log(path: Path) -> list[dict[str, str]]:
    """Read the rows of a log."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_log(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write a complete log; rows of older logs may lack columns."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)


def draw_curve(log: Path, picture: Path) -> None:
    """Draw loss and Dice over time.

    Args:
        log: The CSV file of a run.
        picture: PNG to write.
    """
    # Imported here: training does not need matplotlib.
    from matplotlib.figure import Figure  # noqa: PLC0415

    rows = read_log(log)

    def column(name: str) -> np.ndarray:
        return np.array([float(row.get(name) or "nan") for row in rows])

    minutes = column("minutes")
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, name in ((left, "loss"), (right, "dice")):
        axes.plot(minutes, column(name), color="0.6", label="training")
        for kind, marker in (("validation", "o-"), ("real", "s-")):
            values = column(f"{kind}_{name}")
            taken = np.isfinite(values)
            if taken.any():
                axes.plot(minutes[taken], values[taken], marker, ms=3, label=kind)
        axes.set(xlabel="minutes", ylabel=name)
        axes.grid(alpha=0.3)
    right.set_ylim(0, 1)
    right.legend()
    figure.savefig(picture, dpi=120)
