"""Train every network of the paper, and the default one without each of its ingredients, alike.

    python benchmarks/comparison.py --bank bank.npz --out OUT [--seeds 0 1] [--only NAME ...]

Each run is the recipe `comparison` with one thing changed: the same number of volumes of the same
stream (of DeepMedic, a window of each), the same validation scans. Done runs are not made again and
a broken one goes on, so the same command may be given as often as there is time. OUT/comparison.md
is written after each.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from infarct.lab import recipes, training
from infarct.lab.log import read_log
from infarct.lab.networks import build, parameters
from infarct.lab.recipes import Recipe, Stage

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

WITHOUT = ("attention gates", "deep supervision", "real backgrounds", "mimics", "artefacts")


def runs() -> dict[str, Recipe]:
    """Return every run by name, of seed 0."""
    base = recipes.read("comparison")
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


def last_scores(folder: Path, recipe: Recipe) -> tuple[float, float] | None:
    """Return validation Dice and false voxels at the end of a run; None while it has not ended."""
    log = folder / "log.csv"
    if not log.is_file():
        return None
    rows = read_log(log)
    if not rows or int(rows[-1]["samples"]) < recipe.epoch * recipe.epochs:
        return None
    return float(rows[-1]["validation_dice"]), float(rows[-1]["false_voxels"])


def write_table(out: Path, seeds: Sequence[int]) -> str:
    """Write and return the table of all runs that have ended."""
    lines = [
        f"Validation Dice and voxels falsely outlined in a sub-volume, seeds {seeds}",
        "",
        "| run | parameters | Dice | mean | false | mean |",
        "|---|---|---|---|---|---|",
    ]
    for name, recipe in runs().items():
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


def main() -> None:
    """Make the runs that are missing, the first seed of all before the second of any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", help="names of runs")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for name, recipe in runs().items():
            folder = options.out / f"{name}-{seed}"
            wanted = not options.only or name in options.only
            if not wanted or last_scores(folder, recipe):
                continue
            print(f"{name}, seed {seed}", flush=True)
            ours = replace(recipe, seed=seed)
            if (
                training.run(ours, options.bank, folder, again=True).samples
                < ours.epoch * ours.epochs
            ):
                raise SystemExit("stopped; the same command goes on from here")
            print(write_table(options.out, options.seeds), flush=True)
    print(write_table(options.out, options.seeds))


if __name__ == "__main__":
    main()
