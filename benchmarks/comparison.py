"""Train every network of the paper, and the default one without each of its ingredients, alike.

    python benchmarks/comparison.py --bank bank.npz --out OUT [--seeds 0 1] [--only NAME ...]
        [--jobs 2] [--recipe comparison] [--at-once]

Each run is the recipe `comparison` with one thing changed: the same number of volumes of the same
stream (of DeepMedic, a window of each), the same validation scans. Every scan is rendered once,
into OUT/records, for all that learn from it. Done runs are not made again and a broken one goes on,
so the same command may be given as often as there is time. OUT/comparison.md is written after each.

On a large GPU small networks fit side by side: `--recipe comparison-gpu --at-once` trains those
that `--only` names for the same minutes. They are scored by the same command where there is time,
without `--at-once`.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from infarct.lab.networks import build, parameters
from infarct.lab.training import config, loop
from infarct.lab.training.checkpoint import Position
from infarct.lab.training.config import Recipe, Stage
from infarct.lab.training.data_loader import one_thread_each
from infarct.lab.training.log import read_log
from infarct.lab.training.recorded_stream import open_recorded
from infarct.lab.training.scoring import score_run
from infarct.lab.training.validation import SEED as VALIDATION_SEED

# Widths that give every network about the parameters of DAGMNet's 8 features.
NETWORKS = {
    "DAGMNet_CH3": 8,
    "DAGMNet_CH2": 8,
    "UNet_CH3": 11,
    "UNet_CH2": 11,
    "FCN_CH3": 14,
    "FCN_CH2": 14,
    "DeepMedic": 0,
}

# A volume costs DeepMedic ten times what it costs DAGMNet; windows of this size cost about as much,
# and are what its authors train it on: half of them about a lesion.
DEEPMEDIC_WINDOW = (40, 40, 24)

ROUNDED_S = 0.6
"""A log keeps hundredths of a minute."""

WITHOUT = ("attention gates", "deep supervision", "real backgrounds", "mimics", "artefacts")


def runs(base: Recipe) -> dict[str, Recipe]:
    """Return every run by name: a recipe with one thing changed."""
    found = {n: replace(base, network=n, features=width) for n, width in NETWORKS.items()}
    windows = (Stage(window=DEEPMEDIC_WINDOW),)
    found["DeepMedic"] = replace(found["DeepMedic"], stages=windows)
    for what in WITHOUT:
        found[f"DAGMNet_CH3 without {what}"] = without(base, what)
    return found


def without(base: Recipe, what: str) -> Recipe:
    """Return the recipe less one ingredient; less the IS map it is DAGMNet_CH2."""
    changed: dict[str, dict[str, object]] = {
        "real backgrounds": {"real_background": 0.0},
        "mimics": {"mimics": False},
        "artefacts": {"artefacts": False},
    }
    return replace(
        base,
        network="DAGMNet_CH3_ungated" if what == "attention gates" else base.network,
        loss=replace(base.loss, side=0.0) if what == "deep supervision" else base.loss,
        stream={**base.stream, **changed.get(what, {})},
    )


def is_over(folder: Path, recipe: Recipe) -> bool:
    """Tell from its log whether a run has come to its end."""
    rows = read_log(folder / "log.csv") if (folder / "log.csv").is_file() else []
    if not rows:
        return False
    reached = Position(
        samples=int(rows[-1]["samples"]), seconds=60 * float(rows[-1]["minutes"]) + ROUNDED_S
    )
    return loop.progress_of(recipe, reached) >= 1


def last_scores(folder: Path, recipe: Recipe) -> tuple[float, float] | None:
    """Return validation Dice and false voxels at the end of a run; None while there are none."""
    if not is_over(folder, recipe):
        return None
    last = read_log(folder / "log.csv")[-1]
    if not last["validation_dice"]:
        return None
    return float(last["validation_dice"]), float(last["false_voxels"])


def write_table(out: Path, base: Recipe, seeds: Sequence[int]) -> str:
    """Write and return the table of all runs that have ended."""
    lines = [
        f"Validation Dice and voxels falsely outlined in a sub-volume, seeds {seeds}",
        "",
        "| run | parameters | Dice | mean | false | mean |",
        "|---|---|---|---|---|---|",
    ]
    for name, recipe in runs(base).items():
        ended = [last_scores(out / f"{name}-{seed}", recipe) for seed in seeds]
        scores = np.array([s or (math.nan, math.nan) for s in ended])
        if np.isnan(scores).all():
            continue
        size = parameters(build(recipe.network, recipe.features or None))
        dices, false = (
            ", ".join(f"{x:.{n}f}" for x in c) for c, n in zip(scores.T, (3, 0), strict=True)
        )
        dice, voxels = np.nanmean(scores, axis=0)
        lines.append(f"| {name} | {size:,} | {dices} | {dice:.3f} | {false} | {voxels:.0f} |")
    text = "\n".join(lines) + "\n"
    (out / "comparison.md").write_text(text)
    return text


def record(recipe: Recipe, bank: Path, out: Path) -> None:
    """Render what a run will learn from and be scored on, as far as that is not done yet."""
    opened = open_recorded(bank, recipe, out / "records")
    train = opened(loop.stream_seed(recipe), "train", "cpu")
    fetched = math.ceil(recipe.epochs * recipe.epoch / recipe.shelf.reuse)
    scored = opened(VALIDATION_SEED, "validation", "cpu")
    for source, count in ((train, fetched), (scored, recipe.validation.samples)):
        for _ in islice(source.batches(), count):
            pass


def train(recipe: Recipe, bank: Path, out: Path, name: str) -> bool:
    """Make a run, or go on with it; return whether it has come to its end."""
    opened = open_recorded(bank, recipe, out / "records")
    reached = loop.run(recipe, bank, out / name, again=True, open_source=opened)
    return loop.progress_of(recipe, reached) >= 1


def side_by_side(
    work: Iterable[tuple[str, Callable[..., object], tuple[object, ...]]], jobs: int
) -> Iterable[str]:
    """Do pieces of work, so many at a time on one core each; give the name of each that is done.

    Raises:
        SystemExit: If one was stopped before its end.
    """
    context = multiprocessing.get_context("spawn")
    with (
        one_thread_each(),
        ProcessPoolExecutor(jobs, context, torch.set_num_threads, (1,)) as pool,
    ):
        names = {pool.submit(do, *given): name for name, do, given in work}
        try:
            for done in as_completed(names):
                if done.result() is False:
                    raise SystemExit("stopped; the same command goes on from here")
                yield names[done]
        finally:
            pool.shutdown(cancel_futures=True)


def train_at_once(open_runs: dict[Path, Recipe], bank: Path) -> None:
    """Train side by side on one GPU, which renders too, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=loop.run, args=(recipe, bank, folder, True))
        for folder, recipe in open_runs.items()
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    failed = [f.name for f, p in zip(open_runs, processes, strict=True) if p.exitcode]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; their messages are above")


def main() -> None:
    """Make the runs that are missing, the first seed of all before the second of any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", help="names of runs")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time, a core each")
    parser.add_argument("--recipe", default="comparison", help="what all have in common")
    parser.add_argument("--at-once", action="store_true", help="train all, score none")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    base = config.read(options.recipe)
    wanted = {
        options.out / f"{name}-{seed}": replace(recipe, seed=seed)
        for seed in options.seeds
        for name, recipe in runs(base).items()
        if not options.only or name in options.only
    }
    if options.at_once:
        train_at_once({f: r for f, r in wanted.items() if not is_over(f, r)}, options.bank)
        return
    given = options.bank, options.out
    open_runs = {f.name: r for f, r in wanted.items() if not is_over(f, r)}
    streams = {repr((r.stream, r.seed)): r for r in open_runs.values()}
    rendering = [(key, record, (recipe, *given)) for key, recipe in streams.items()]
    for _ in side_by_side(rendering, options.jobs):
        print("a stream is rendered", flush=True)
    learning = [(name, train, (recipe, *given, name)) for name, recipe in open_runs.items()]
    for name in side_by_side(learning, options.jobs):
        print(f"{name} is trained", flush=True)
        print(write_table(options.out, base, options.seeds), flush=True)
    for folder, recipe in wanted.items():
        if not last_scores(folder, recipe):
            score_run(folder, options.bank)
    print(write_table(options.out, base, options.seeds))


if __name__ == "__main__":
    main()
