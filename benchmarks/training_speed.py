"""How many volumes a second a recipe's network learns from, stream left out.

    python benchmarks/training_speed.py gpu [--batches 2 4 8 16] [--steps 10]

Beside `benchmarks/stream_speed.py` it tells which of the two to mend, and which batch fits.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch

from infarct.lab.networks import DESIGNS
from infarct.lab.training import config
from infarct.lab.training.checkpoint import make_learner
from infarct.lab.training.data_loader import Example
from infarct.lab.training.distributed import join_team
from infarct.lab.training.loop import as_trained, learn


def main() -> None:
    """Print one row for each size of a batch, for windows and whole volumes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("--batches", type=int, nargs="+", default=[1])
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    recipe = config.read(options.recipe)
    design = DESIGNS[recipe.network]
    print("| batch | window | volumes/s | GB |\n|---|---|---|---|")
    with join_team() as team:
        gpu = team.device != "cpu"
        learner = make_learner(recipe, team.rank, team.device)
        forward = as_trained(recipe, learner.network, team)
        for stage in recipe.stages:
            window = tuple(min(a, b) for a, b in zip(stage.window, design.shape, strict=True))
            for batch in options.batches:
                parts = batch * stage.per_volume
                image = torch.randn(parts, len(design.channels), *window, device=team.device)
                target = (image[:, :1] > 2.5).float()
                example = Example(image, target, torch.ones_like(target))
                chosen = replace(recipe, batch=batch)
                for count in (2, options.steps):
                    # The first two do not count: kernels are chosen, and memory is taken.
                    start = time.perf_counter()
                    for _ in range(count):
                        loss, _ = learn(example, forward, learner, chosen)
                    float(loss)
                speed = batch * options.steps / (time.perf_counter() - start)
                memory = torch.cuda.max_memory_allocated() / 1e9 if gpu else float("nan")
                size = " x ".join(map(str, window))
                print(f"| {batch} | {size} | {speed:.2f} | {memory:.1f} |", flush=True)


if __name__ == "__main__":
    main()
