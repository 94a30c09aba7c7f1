"""Training loop for a CPU, a GPU or several devices.

Needs only torch, numpy, scipy and rich, so a machine with a GPU needs no more than a checkout and a
packed bank: `PYTHONPATH=src python -m infarct.lab.training.loop RECIPE ...`, or
`torchrun --nproc-per-node 2 -m infarct.lab.training.loop RECIPE ...` for several devices.

References:
    Liu et al. 2021, Methods, "Loss function", "Hyperparameter".
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from infarct.core.errors import InputFileError, OutputError
from infarct.lab.networks import DESIGNS
from infarct.lab.sources.bank import digest
from infarct.lab.training import checkpoint, config
from infarct.lab.training.checkpoint import Learner, Position, make_learner, rounded, write_weights
from infarct.lab.training.config import RateSettings, Recipe
from infarct.lab.training.data_loader import Example, Fed, OpenSource, Order, look
from infarct.lab.training.distributed import Team, join_team
from infarct.lab.training.log import Log, Tally, draw_curve, read_log
from infarct.lab.training.losses import hybrid
from infarct.lab.training.real_cases import on_patients
from infarct.lab.training.replay_buffer import open_feed
from infarct.lab.training.sources import describe_stream, open_stream
from infarct.lab.training.validation import Scores, ValidationSet, dice, fixed_set, score

SAVE_EVERY_S = 60.0
"""Seconds between two checkpoints: the most that is lost if the machine fails."""


def train(
    recipe: Recipe, open_source: OpenSource, out: Path, again: bool = False, bank: str = ""
) -> Position:
    """Train a network until the end of the recipe or a request to stop.

    Writes into `out`: `last.pt` for resuming, `weights.pt` (the candidate, float16, in parts if
    large), `best.pt` (highest validation Dice), `snapshots/`, `log.csv` and `curve.png`.

    Args:
        recipe: All settings of the run.
        open_source: Opens the stream.
        out: Folder of the run.
        again: Resume from `last.pt` if it exists.
        bank: SHA-256 of the bank of the stream; empty if unknown.

    Returns:
        The progress of the run.

    Raises:
        OutputError: If `out` contains a run that would be overwritten.
        InputFileError: If the run to resume has other settings or data.
        TrainingError: If the loss is not finite.
    """
    last, this = _last_of(out, again), checkpoint.Run(recipe, bank)
    out.mkdir(parents=True, exist_ok=True)
    with join_team() as team, stop_requests() as stopped:
        learner = make_learner(recipe, team.rank, team.device)
        order = Order(open_source, recipe.network, stream_seed(recipe) + team.rank, team.device)
        if last.exists():
            before = checkpoint.resume(last, this, learner, team.rank, team.device)
            order = replace(order, state=before)
        forward = as_trained(recipe, learner.network, team)
        kept = fixed_set(open_source, recipe, team.device) if team.rank == 0 else None
        position, state = learner.position, order.state
        started = time.monotonic() - position.seconds
        saved, tally = position.seconds, Tally(position.seconds)

        def record(scores: Scores | None) -> None:
            log.write(position, learner.optimiser.param_groups[0]["lr"], tally, scores)
            own = {"stream": state, "windows": learner.windows.get_state()}
            streams = team.gather(own)
            if team.rank == 0:
                checkpoint.save(last, this, learner, streams)
                write_weights(out / "weights.pt", recipe, position, learner.candidate)

        examples = open_feed(order, recipe, learner.windows)
        with Log(out, position, team.rank > 0) as log, closing(examples) as feed:
            while not (team.agree(stopped()) or is_over(recipe, position)):
                progress = progress_of(recipe, position)
                asked = time.monotonic()
                (example, volumes), state = fetch(feed, recipe, progress, learner, team)
                waited = time.monotonic() - asked
                if recipe.rate.schedule == "cosine":
                    set_rate(learner, cosine_rate(progress, recipe.rate))
                elif recipe.rate.schedule == "steps":
                    set_rate(learner, stepped_rate(position.epochs, recipe.rate))
                tally.add(volumes, *learn(example, forward, learner, recipe), waited)
                position.samples += volumes
                position.seconds = team.agree(time.monotonic() - started)
                log.show(progress, position.seconds, tally)
                ends_epoch = position.samples >= (position.epochs + 1) * recipe.epoch
                if ends_epoch:
                    position.epochs += 1
                if ends_epoch or position.seconds - saved > SAVE_EVERY_S:
                    scored = ends_epoch or is_over(recipe, position)
                    record(validate(recipe, learner, kept, out, team) if scored else None)
                    saved, tally = position.seconds, Tally(position.seconds)
            if tally.volumes:
                ended = is_over(recipe, position)
                record(validate(recipe, learner, kept, out, team) if ended else None)
        if team.rank == 0 and importlib.util.find_spec("matplotlib"):
            draw_curve(out / "log.csv", out / "curve.png")
    return position


def _last_of(out: Path, again: bool) -> Path:
    """Return the path of the checkpoint; raise if an existing run would be overwritten."""
    last, log = out / "last.pt", out / "log.csv"
    if last.exists():
        if not again:
            raise OutputError(f"{last} already exists; use --resume, or choose another folder")
        return last
    # A log without rows belongs to a run that was killed before it produced anything.
    left = [*out.glob("weights.pt*"), *out.glob("best.pt*")]
    left += [log] if log.is_file() and read_log(log) else []
    if left:
        raise OutputError(
            f"{left[0]} already exists, but last.pt is missing and the run cannot be resumed; "
            "choose another folder"
        )
    return last


def fetch(
    feed: Iterator[Fed], recipe: Recipe, progress: float, learner: Learner, team: Team
) -> tuple[tuple[Example, int], dict[str, Any]]:
    """Take the next volumes from the feed and crop them as the recipe requests.

    On a GPU this uses a separate CUDA stream and overlaps with the previous training step:
    otherwise the first read of a value would wait for all queued work.

    Args:
        feed: From `open_feed`.
        recipe: Settings of the windows.
        progress: Completed fraction of the run.
        learner: Provides the random generator of the windows.
        team: Device, and number of processes that each take as many volumes.

    Returns:
        The cropped example on the device with the number of volumes over all processes, and the
        state of the feed after them.
    """
    side = _side_queue(team.device) if team.device.startswith("cuda") else None
    with torch.cuda.stream(side):  # does nothing where there is no GPU
        example, state = next(feed)
        volumes = len(example.image) * team.size
        stage = recipe.stage(progress)
        slices = DESIGNS[recipe.network].slices
        example = look(example, stage, learner.windows, recipe.device.box, slices).to(team.device)
    if side is not None:
        learns = torch.cuda.current_stream(side.device)
        learns.wait_stream(side)
        for part in (example.image, example.target, example.brain):
            part.record_stream(learns)  # keeps the memory until the training step is done
    return (example, volumes), state


@cache
def _side_queue(device: str) -> torch.cuda.Stream:
    # High priority: otherwise each of its small kernels waits for a large one of the network.
    return torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]


def stream_seed(recipe: Recipe) -> int:
    """Return the seed of the stream of the first process; the other seeds follow from it."""
    return recipe.seed * 1000


def as_trained(recipe: Recipe, network: nn.Module, team: Team) -> nn.Module:
    """Return the network for the forward pass: compiled, or distributed over processes."""
    if recipe.device.compile:
        network = torch.compile(network)  # type: ignore[assignment]
    if team.size > 1:
        on_gpu = team.device.startswith("cuda")
        network = DistributedDataParallel(network, [torch.device(team.device)] if on_gpu else None)
    return network


def learn(
    example: Example, forward: nn.Module, learner: Learner, recipe: Recipe
) -> tuple[Tensor, Tensor]:
    """Run one training step.

    Args:
        example: Training batch.
        forward: Network returned by `as_trained`.
        learner: Network and optimiser; changed in place.
        recipe: Settings of loss and precision.

    Returns:
        The loss, and the (N,) Dice of each sample; both still on the device.
    """
    image = example.image
    if recipe.device.channels_last:
        image = image.contiguous(memory_format=torch.channels_last_3d)
    bfloat16 = recipe.device.precision == "bfloat16"
    with torch.autocast(image.device.type, torch.bfloat16, enabled=bfloat16):
        outputs = forward(image)
    loss = hybrid(outputs, example.target, recipe.loss)
    learner.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if recipe.rate.clip:
        nn.utils.clip_grad_norm_(learner.network.parameters(), recipe.rate.clip)
    learner.optimiser.step()
    learner.position.step += 1
    if learner.mean is not None:
        update_mean(learner.mean, learner.network, learner.position.step, recipe.ema)
    return loss.detach(), dice(outputs[0].detach(), example.target)


@torch.no_grad()
def update_mean(mean: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    """Update the running mean of weights and batch normalisation statistics.

    Args:
        mean: Network with the mean weights; changed in place.
        network: Network with the current weights.
        step: Updates so far; the decay is smaller at the start, to forget the random initial
            weights.
        decay: Decay after many updates.
    """
    keep = min(decay, (1 + step) / (10 + step))
    pairs = list(zip(mean.state_dict().values(), network.state_dict().values(), strict=True))
    numbers = [(old, new) for old, new in pairs if old.is_floating_point()]
    # In one call: hundreds of small calls would keep a GPU waiting.
    torch._foreach_lerp_([old for old, _ in numbers], [new for _, new in numbers], 1 - keep)
    for old, new in pairs:
        if not old.is_floating_point():
            old.copy_(new)


def progress_of(recipe: Recipe, position: Position) -> float:
    """Return the completed fraction (0 - 1) of the run, by samples or by minutes."""
    by_samples = position.samples / (recipe.epochs * recipe.epoch)
    by_minutes = position.seconds / (60 * recipe.minutes) if recipe.minutes else 0.0
    return min(max(by_samples, by_minutes), 1.0)


def is_over(recipe: Recipe, position: Position) -> bool:
    """Return whether the run has reached its end or stops early."""
    v = recipe.validation
    scored = position.epochs - position.epochs % v.every
    guided = v.samples > 0 or recipe.cases.validation > 0
    stale = guided and scored - position.lowest_epoch >= v.stop_patience
    early = v.stop_after > 0 and position.epochs >= v.stop_after and stale
    return early or progress_of(recipe, position) >= 1


def cosine_rate(progress: float, settings: RateSettings) -> float:
    """Return the learning rate at a fraction (0 - 1) of the run: warm-up, then cosine decay."""
    if progress < settings.warmup:
        return settings.peak * progress / settings.warmup
    fraction = min((progress - settings.warmup) / (1 - settings.warmup), 1.0)
    return settings.peak * 0.5 * (1 + math.cos(math.pi * fraction))


def stepped_rate(epochs: int, settings: RateSettings) -> float:
    """Return the learning rate after an epoch: multiplied by `factor` at each of the `drops`."""
    lowered = sum(drop <= epochs for drop in settings.drops)
    return max(settings.peak * settings.factor**lowered, min(settings.floor, settings.peak))


def set_rate(learner: Learner, rate: float) -> None:
    """Set the learning rate."""
    for group in learner.optimiser.param_groups:
        group["lr"] = rate


def validate(
    recipe: Recipe, learner: Learner, kept: ValidationSet | None, out: Path, team: Team
) -> Scores | None:
    """Score the candidate after an epoch, save the best weights and update the plateau schedule.

    Args:
        recipe: Validation settings.
        learner: Its position and plateau schedule are changed in place.
        kept: Validation set in the first process; None in the others.
        out: Folder of the run.
        team: Receives the scores from the first process.

    Returns:
        The scores; None in an epoch without validation. The end of a run is always scored.
    """
    settings, position = recipe.validation, learner.position
    due = position.epochs % settings.every == 0 or is_over(recipe, position)
    guided = settings.samples or recipe.cases.validation
    if not due or not (guided or settings.cases):
        return None
    scores = Scores(math.nan, math.nan, math.nan)
    if kept is not None:
        scores = score(rounded(learner.candidate), kept, recipe.loss, team.device)
    scores = Scores(*(team.agree(x) for x in astuple(scores)))
    loss, found = scores.deciding(recipe)
    if recipe.rate.schedule == "plateau" and guided:
        learner.plateau.step(loss)
    # With snapshots, the best weights are one of them or the final weights, as in the paper.
    every = settings.snapshot_every
    kept_now = not every or position.epochs % every == 0 or is_over(recipe, position)
    if loss < position.lowest:
        position.lowest, position.lowest_epoch = loss, position.epochs
    better = kept_now and found > position.best
    position.best = found if better else position.best
    if team.rank == 0:
        if better:
            write_weights(out / "best.pt", recipe, position, learner.candidate)
        if settings.snapshot_every and position.epochs % settings.snapshot_every == 0:
            folder = out / "snapshots"
            folder.mkdir(exist_ok=True)
            name = f"epoch-{position.epochs:04d}.pt"
            write_weights(folder / name, recipe, position, learner.candidate)
    return scores


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a flag that the loop checks between two steps."""
    asked: list[int] = []
    before = {
        number: signal.signal(number, lambda seen, _: asked.append(seen))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(
    recipe: Recipe,
    bank: Path | None,
    out: Path,
    again: bool = False,
    open_source: OpenSource | None = None,
) -> Position:
    """Train on the synthetic stream and record the origin of the data in `data.md`.

    Args:
        recipe: All settings of the run.
        bank: Packed anatomies, lesions and backgrounds; the ICBM head only if None.
        out: Folder of the run.
        again: Resume from `last.pt` if it exists.
        open_source: Opens another stream, such as a recorded one; None renders scans.

    Returns:
        The progress of the run.

    Raises:
        OutputError: If `out` contains a run that would be overwritten.
        InputFileError: If the run to resume has other settings or data.
        TrainingError: If the loss is not finite.
    """
    # Check first: a rejected run must not overwrite the `data.md` of an existing one.
    last, source = _last_of(out, again), digest(bank)
    if last.exists():
        checkpoint.make_sure_it_goes_on(last, checkpoint.Run(recipe, source))
    about = describe_stream(bank, recipe)
    out.mkdir(parents=True, exist_ok=True)
    (out / "data.md").write_text(about)
    return train(recipe, open_source or open_stream(bank, recipe), out, again, source)


def final_recipe(run: Path) -> Recipe:
    """Return the recipe for training on all patients, based on a run with held-out patients.

    The final run takes as many epochs as the best weights of `run`. A plateau schedule becomes
    steps after the same epochs, because no held-out patients remain to trigger them.

    Args:
        run: Folder of a run with held-out patients.

    Raises:
        InputFileError: If the run has no best weights or no held-out patients.

    References:
        Liu et al. 2021, Methods, "Hyperparameter".
    """
    best = checkpoint.read_weights(run / "best.pt")
    recipe, epochs = best.recipe, best.position.epochs
    if not recipe.cases.validation or epochs < 1:
        raise InputFileError(
            f"{run}: not a run with held-out patients; train one with cases.validation above 0"
        )
    rate = recipe.rate
    if rate.schedule == "plateau":
        rates = {
            int(row["epoch"]): float(row["rate"])
            for row in read_log(run / "log.csv")
            if int(row["epoch"]) <= epochs
        }
        seen = pairwise([(0, rate.peak), *sorted(rates.items())])
        drops = tuple(epoch for (_, before), (epoch, after) in seen if after < 0.99 * before)
        rate = replace(rate, schedule="steps", drops=drops)
    cases = replace(recipe.cases, validation=0.0)
    longer = replace(recipe, epochs=epochs, minutes=0.0, rate=rate, cases=cases)
    if cases.share >= 1:
        longer = on_patients(longer, None, None)
    return longer


def main(arguments: list[str] | None = None) -> None:
    """Run `python -m infarct.lab.training.loop`."""
    parser = argparse.ArgumentParser(prog="infarct.lab.training.loop", description=__doc__)
    parser.add_argument("recipe", help="TOML file, or name of a bundled recipe")
    parser.add_argument("--bank", type=Path, help="packed bank; default: the ICBM head only")
    parser.add_argument("--out", type=Path, required=True, help="output folder of the run")
    parser.add_argument("--minutes", type=float, help="overrides the recipe; 0: no limit")
    parser.add_argument("--validate-on", help="prepared real cases; overrides the recipe")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    options = parser.parse_args(arguments)
    recipe = config.read(options.recipe)
    recipe = config.changed(recipe, options.minutes, options.validate_on)
    run(recipe, options.bank, options.out, options.resume)


if __name__ == "__main__":
    main()
