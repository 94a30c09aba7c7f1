"""Replay buffer ("shelf"): uses every volume several times if rendering is slower than training.

A head takes seconds to render on one core, but less to train on. The buffer keeps rendered volumes,
draws random batches from them and mirrors them at random. Each volume is used several times, mostly
in different batches.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from infarct.lab.training.config import DeviceSettings, Recipe
from infarct.lab.training.data_loader import Example, Fed, Order, feed, feed_ahead, padded

_LEFT_RIGHT = 2
"""Left-right axis of a batch, along which a head is nearly symmetric."""


def open_feed(
    order: Order, recipe: Recipe, generator: torch.Generator
) -> Generator[Fed, None, None]:
    """Open the feed of a recipe: in this process or in the background, with or without a shelf.

    Args:
        order: Stream to open, and the state to continue from.
        recipe: Settings of processes and shelf.
        generator: Random generator of the shelf.
    """
    shelf, device = order.state, order.device
    if recipe.shelf.size and shelf is not None:
        order = replace(order, state=shelf["stream"])
    made = _made(replace(order, packed=bool(recipe.shelf.size)), recipe.device)
    if not recipe.shelf.size:
        return made
    return from_shelf(made, recipe, generator, shelf, device)


def _made(order: Order, settings: DeviceSettings) -> Generator[Fed, None, None]:
    if not settings.second_process:
        return feed(order)
    where = order.device if settings.render_on == "gpu" else "cpu"
    return feed_ahead(replace(order, device=where), settings.ahead, settings.streams)


def from_shelf(
    made: Generator[Fed, None, None],
    recipe: Recipe,
    generator: torch.Generator,
    state: Mapping[str, Any] | None,
    device: str = "cpu",
) -> Generator[Fed, None, None]:
    """Draw batches from a shelf whose volumes are replaced one at a time.

    Args:
        made: Yields single volumes, each with the state of the stream after it.
        recipe: Size of the shelf and of a batch, and how often each volume is used.
        generator: Random generator; the caller saves its state.
        state: State of the shelf to continue from; None starts with an empty shelf.
        device: Device of the shelf; should be the training device, to avoid a copy in every step.

    Yields:
        A batch, and the state of shelf and stream after it.
    """
    settings, batch = recipe.shelf, recipe.batch
    shelf: list[Example] = []
    fetched = drawn = 0
    stream: Mapping[str, Any] | None = None
    if state is not None:
        shelf = [Example(*tensors).to(device) for tensors in state["shelf"]]
        fetched, drawn, stream = state["fetched"], state["drawn"], state["stream"]
    with closing(made):
        while True:
            while len(shelf) < batch or fetched * settings.reuse < drawn + batch:
                example, stream = next(made)
                kept = example.packed().to(device)
                if len(shelf) < settings.size:
                    shelf.append(kept)
                else:
                    shelf[int(torch.randint(settings.size, (), generator=generator))] = kept
                fetched += 1
            picks = _pick(shelf, batch, generator)
            mirrored = (torch.rand(batch, generator=generator) < 0.5).tolist()
            drawn += batch
            chosen = [_mirror(shelf[k], flip) for k, flip in zip(picks, mirrored, strict=True)]
            contents = [(e.image, e.target, e.brain) for e in shelf]
            after = {"shelf": contents, "fetched": fetched, "drawn": drawn, "stream": stream}
            yield _together(chosen), after


def _pick(shelf: list[Example], batch: int, generator: torch.Generator) -> list[int]:
    """Choose volumes at random, with similar numbers of slices if these differ.

    All volumes of a batch are padded to the largest one, and computing on padding is wasted.
    """
    order: list[int] = torch.randperm(len(shelf), generator=generator).tolist()
    slices = [example.image.shape[-1] for example in shelf]
    if len(set(slices)) > 1:
        first = slices[order[0]]
        order.sort(key=lambda k: abs(slices[k] - first))  # stable: ties stay at random
    return order[:batch]


def _mirror(example: Example, flip: bool) -> Example:
    if not flip:
        return example
    parts = (example.image, example.target, example.brain)
    return Example(*(x.flip(_LEFT_RIGHT) for x in parts))


def _together(examples: list[Example]) -> Example:
    sides = [max(e.image.shape[axis] for e in examples) for axis in (2, 3, 4)]

    def join(parts: list[Tensor]) -> Tensor:
        return torch.cat([padded(part, sides) for part in parts]).float()

    return Example(
        join([e.image for e in examples]),
        join([e.target for e in examples]),
        join([e.brain for e in examples]),
    )
