"""What a run writes and continues from: checkpoints to resume, weights to ship.

A checkpoint holds everything the next step depends on, so that a resumed run is the run that was
never interrupted, bit for bit. Weights hold only what answers, with the recipe that made them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from infarct import assets
from infarct.errors import InputFileError
from infarct.lab import recipes
from infarct.lab.networks import build
from infarct.lab.recipes import Recipe
from infarct.lab.widening import widened
from infarct.whole import written_whole

PIECE_BYTES = 15 * 2**20
"""Largest piece of a weights file: below what mail, forges and lent machines let through."""


@dataclass
class Position:
    """How far a run has come.

    Attributes:
        step: Weight updates done.
        samples: Volumes seen, over all devices.
        seconds: Time spent training, over all sittings.
        epochs: Epochs completed.
        best: Highest validation Dice so far.
        lowest: Lowest validation loss so far.
        lowest_epoch: Epoch of the lowest validation loss.
    """

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    epochs: int = 0
    best: float = -1.0
    lowest: float = math.inf
    lowest_epoch: int = 0


@dataclass
class Learner:
    """Everything that learning changes.

    Attributes:
        network: The weights that are trained.
        mean: Running mean of them; None without.
        optimiser: Adam, with its moments.
        plateau: Lowers the rate, in a recipe that wants that.
        windows: Draws where to look.
        position: How far the run is.
    """

    network: nn.Module
    mean: nn.Module | None
    optimiser: torch.optim.Optimizer
    plateau: torch.optim.lr_scheduler.ReduceLROnPlateau
    windows: torch.Generator
    position: Position

    @property
    def candidate(self) -> nn.Module:
        """The network to be scored and shipped: the mean where there is one."""
        return self.network if self.mean is None else self.mean


def make_learner(recipe: Recipe, rank: int, device: str) -> Learner:
    """Build network and optimiser from the recipe and its seed."""
    # First weights come from torch's global generator, which is left as it was found.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = build(recipe.network, recipe.features or None).to(device)
    if recipe.start:
        known = read_weights(_weights_of(recipe.start)).weights
        network.load_state_dict(widened(_fitting(known, network), network, recipe.seed))
    if recipe.device.channels_last:
        network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    rate = recipe.rate
    optimiser = torch.optim.AdamW(network.parameters(), rate.peak, weight_decay=rate.weight_decay)
    return Learner(
        network=network,
        mean=deepcopy(network).requires_grad_(False) if recipe.ema else None,
        optimiser=optimiser,
        plateau=torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimiser, factor=rate.factor, patience=rate.patience, min_lr=rate.floor
        ),
        windows=torch.Generator().manual_seed(recipe.seed + rank),
        position=Position(),
    )


def _fitting(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Leave out what weights know of images that a network does not read.

    The IS map is the last image of every design: a network without it can go on from one with it.
    """
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    return {
        name: tensor[:, : shapes[name][1]] if tensor.ndim > 1 and name in shapes else tensor
        for name, tensor in weights.items()
    }


def _weights_of(start: str) -> Path:
    """Return the file a recipe means: its path, or that of a network that ships, by name."""
    shipped = f"networks/{start}.pt"
    return assets.path(shipped) if shipped in assets.index() else Path(start)


def save(path: Path, recipe: Recipe, learner: Learner, streams: list[Any]) -> None:
    """Write a checkpoint; a crash while writing leaves the one before.

    Args:
        path: Where to.
        recipe: Goes along, so that a checkpoint says what it is.
        learner: What has been learned.
        streams: State of the stream and of the windows of each process, see `training`.
    """
    content = {
        "recipe": recipes.to_dict(recipe),
        "position": asdict(learner.position),
        "network": learner.network.state_dict(),
        "mean": None if learner.mean is None else learner.mean.state_dict(),
        "optimiser": learner.optimiser.state_dict(),
        "plateau": learner.plateau.state_dict(),
        "streams": streams,
    }
    with written_whole(path) as draft:
        torch.save(content, draft)


def resume(path: Path, learner: Learner, rank: int, device: str) -> Mapping[str, Any]:
    """Bring a learner to where a checkpoint was.

    Returns:
        The state of the stream of process `rank`.

    Raises:
        InputFileError: If the checkpoint is of another network than the learner.
    """
    content = torch.load(path, map_location=device, weights_only=True)
    before = recipes.parse(Recipe, content["recipe"])
    known = {name: tensor.shape for name, tensor in content["network"].items()}
    if known != {name: tensor.shape for name, tensor in learner.network.state_dict().items()}:
        raise InputFileError(
            f"{path}: is a run of {before.network} with {before.features or 'its own'} features, "
            "not of the network of this recipe; resume with the recipe it was begun with, or "
            "choose another folder"
        )
    learner.network.load_state_dict(content["network"])
    if learner.mean is not None:
        learner.mean.load_state_dict(content["mean"])
    learner.optimiser.load_state_dict(content["optimiser"])
    learner.plateau.load_state_dict(content["plateau"])
    learner.position = Position(**content["position"])
    own: Mapping[str, Any] = content["streams"][rank]
    learner.windows.set_state(own["windows"].cpu())
    stream: Mapping[str, Any] = own["stream"]
    return stream


@dataclass(frozen=True)
class Weights:
    """A trained network as it is passed on.

    Attributes:
        recipe: What it was trained by.
        position: After how much training.
        weights: Tensors by name, float32.
    """

    recipe: Recipe
    position: Position
    weights: dict[str, Tensor]

    def network(self) -> nn.Module:
        """Build the network these weights belong to, ready to answer.

        Raises:
            InputFileError: If they are not those of the network of the recipe.
        """
        network = build(self.recipe.network, self.recipe.features or None)
        try:
            network.load_state_dict(self.weights)
        except RuntimeError as error:
            raise InputFileError(
                f"the weights are not those of a {self.recipe.network}: {error}"
            ) from error
        return network.eval()


def rounded(network: nn.Module) -> nn.Module:
    """Return a copy whose kernels are float16 numbers, though stored and computed as float32.

    What is scored must be what ships: only this makes scores and ONNX file agree to the last bit
    that matters. Biases and normalisations are few and stay exact.
    """
    copy = deepcopy(network).eval()
    for tensor in copy.state_dict().values():
        if tensor.ndim > 1:
            tensor.copy_(tensor.half())
    return copy


def write_weights(path: Path, recipe: Recipe, position: Position, network: nn.Module) -> list[Path]:
    """Write weights, kernels as float16, in pieces small enough to travel.

    Args:
        path: Ends in `.pt`; a file larger than `PIECE_BYTES` becomes `.pt.000`, `.pt.001` ....
        recipe: What they were trained by.
        position: After how much training.
        network: Whose weights.

    Returns:
        The files written.
    """
    weights = {
        name: (tensor.half() if tensor.ndim > 1 else tensor).cpu().contiguous()
        for name, tensor in network.state_dict().items()
    }
    content = {
        "recipe": recipes.to_dict(recipe),
        "position": asdict(position),
        "weights": weights,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getvalue()
    for stale in [path, *_pieces(path)]:
        stale.unlink(missing_ok=True)
    if len(data) <= PIECE_BYTES:
        path.write_bytes(data)
        return [path]
    pieces = []
    for k, start in enumerate(range(0, len(data), PIECE_BYTES)):
        piece = path.with_name(f"{path.name}.{k:03d}")
        piece.write_bytes(data[start : start + PIECE_BYTES])
        pieces.append(piece)
    return pieces


def _pieces(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.[0-9][0-9][0-9]"))


def joined(path: Path) -> bytes:
    """Return a file of weights, whole or in pieces, as one.

    Args:
        path: What `write_weights` was given.

    Raises:
        InputFileError: If there is no such file.
    """
    pieces = [path] if path.is_file() else _pieces(path)
    if not pieces:
        raise InputFileError(f"{path}: no such weights; give the .pt file that training wrote")
    return b"".join(piece.read_bytes() for piece in pieces)


def read_weights(path: Path) -> Weights:
    """Read weights, whole or in pieces, or those of a checkpoint.

    Args:
        path: What `write_weights` or `save` was given.

    Raises:
        InputFileError: If there is no such file, or it is damaged or something else.
    """
    data = io.BytesIO(joined(path))
    try:
        content = torch.load(data, map_location="cpu", weights_only=True)
        weights = content.get("weights") or content["mean"] or content["network"]
        return Weights(
            recipes.parse(Recipe, content["recipe"]),
            Position(**content["position"]),
            {n: w.float() if w.is_floating_point() else w for n, w in weights.items()},
        )
    except (
        *(UnpicklingError, RuntimeError, ValueError, EOFError),
        *(KeyError, AttributeError, TypeError),
    ) as error:
        raise InputFileError(
            f"{path}: holds no weights, or damaged ones; give the .pt file that training wrote, "
            "with all its pieces"
        ) from error
