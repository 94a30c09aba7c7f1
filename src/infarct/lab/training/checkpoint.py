"""What a run writes and continues from: checkpoints to resume, weights to ship.

A checkpoint holds everything the next step depends on, so that a resumed run is the run that was
never interrupted, bit for bit. Weights hold only what answers, with the recipe that made them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor, nn

from infarct.core import assets
from infarct.core.atomic_write import atomic_file
from infarct.core.errors import InputFileError
from infarct.lab.networks import DESIGNS, build
from infarct.lab.training import config
from infarct.lab.training.config import Recipe
from infarct.lab.training.from_sub_volumes import for_slices
from infarct.lab.training.widening import widened

PIECE_BYTES = 15 * 2**20
"""Largest piece of a weights file: below what mail, forges and lent machines let through."""

_FREE = {"minutes", "epochs", "note", "rate.peak", "validation.cases"}
"""Settings, beside those of the device, that a run may go on with another value of."""

_DAMAGED = (
    *(UnpicklingError, RuntimeError, ValueError, EOFError, BadZipFile),
    *(KeyError, AttributeError, TypeError),
)
"""What reading a file that is damaged, or something else, can end with."""


@dataclass(frozen=True)
class Run:
    """What a run is made from.

    Attributes:
        recipe: Everything that decides it.
        bank: sha256 of what it learns from, see `bank.digest`; empty if nobody knows.
    """

    recipe: Recipe
    bank: str = ""


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
        known = read_weights(_weights_of(recipe.start))
        network.load_state_dict(_started(known, recipe, network))
    if recipe.device.channels_last:
        network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    rate = recipe.rate
    optimiser = torch.optim.AdamW(network.parameters(), rate.peak, weight_decay=rate.weight_decay)
    return Learner(
        network=network,
        mean=deepcopy(network).requires_grad_(False) if recipe.ema else None,
        optimiser=optimiser,
        # torch waits for more than `patience` stale scores, Keras and the paper for as many.
        plateau=torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimiser, factor=rate.factor, patience=rate.patience - 1, min_lr=rate.floor
        ),
        windows=torch.Generator().manual_seed(recipe.seed + rank),
        position=Position(),
    )


def _started(known: Weights, recipe: Recipe, network: nn.Module) -> dict[str, Tensor]:
    """Return the weights a network starts with: those that are known, widened or for slices."""
    theirs, wanted = (DESIGNS[name] for name in (known.recipe.network, recipe.network))
    if theirs.slices == wanted.slices:
        return widened(_fitting(known, recipe, network), network, recipe.seed)
    original = recipe.network.partition("_slices")[0]
    if theirs.slices or original not in DESIGNS:
        raise InputFileError(
            f"start = {recipe.start!r}: {recipe.network} cannot start from "
            f"{known.recipe.network}; a network for measured slices can start from its original, "
            "not the other way round"
        )
    narrow = build(original, recipe.features or None)
    as_original = replace(recipe, network=original)
    return for_slices(widened(_fitting(known, as_original, narrow), narrow, recipe.seed), network)


def _fitting(known: Weights, recipe: Recipe, network: nn.Module) -> dict[str, Tensor]:
    """Leave out what weights know of images that a network does not read.

    The IS map is the last image of every design: a network without it can go on from one with it.
    The other way round nothing is known of it, and the weights of another image would be taken.

    Raises:
        InputFileError: If they are of another design, or of a network that reads other images.
    """
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    theirs = known.recipe.network
    if known.weights.keys() != shapes.keys():
        raise InputFileError(
            f"start = {recipe.start!r}: {recipe.network} cannot start from {theirs}; the designs "
            "differ"
        )
    read, wanted = (DESIGNS[name].channels for name in (theirs, recipe.network))
    if read[: len(wanted)] != wanted:
        raise InputFileError(
            f"start = {recipe.start!r}: trained on {', '.join(read)}, but {recipe.network} needs "
            f"{', '.join(wanted)}; the IS map can be dropped, but no input can be added"
        )
    return {
        name: tensor[:, : shapes[name][1]] if tensor.ndim > 1 else tensor
        for name, tensor in known.weights.items()
    }


def _weights_of(start: str) -> Path:
    """Return the file a recipe means: its path, or that of a network that ships, by name."""
    shipped = f"networks/{start}.pt"
    return assets.path(shipped) if shipped in assets.index() else Path(start)


def save(path: Path, run: Run, learner: Learner, streams: list[Any]) -> None:
    """Write a checkpoint; a crash while writing leaves the one before.

    Args:
        path: Where to.
        run: Goes along, so that a checkpoint says what it is.
        learner: What has been learned.
        streams: State of the stream and of the windows of each process, see `training`.
    """
    content = {
        "recipe": config.to_dict(run.recipe),
        "bank": run.bank,
        "position": asdict(learner.position),
        "network": learner.network.state_dict(),
        "mean": None if learner.mean is None else learner.mean.state_dict(),
        "optimiser": learner.optimiser.state_dict(),
        "plateau": learner.plateau.state_dict(),
        "streams": streams,
    }
    with atomic_file(path) as draft:
        torch.save(content, draft)


def resume(path: Path, run: Run, learner: Learner, rank: int, device: str) -> Mapping[str, Any]:
    """Bring a learner to where a checkpoint was.

    Returns:
        The state of the stream of process `rank`.

    Raises:
        InputFileError: If the checkpoint is damaged, or of another run.
    """
    content = _read(path, map_location=device)
    _make_sure_it_is_of(run, content, path)
    learner.network.load_state_dict(content["network"])
    if learner.mean is not None:
        learner.mean.load_state_dict(content["mean"])
    learner.optimiser.load_state_dict(content["optimiser"])
    for group in learner.optimiser.param_groups:
        # On a plateau nothing else would lower it, where a loss has run away.
        group["lr"] = min(group["lr"], run.recipe.rate.peak)
    learner.plateau.load_state_dict(content["plateau"])
    learner.position = Position(**content["position"])
    own: Mapping[str, Any] = content["streams"][rank]
    learner.windows.set_state(own["windows"].cpu())
    stream: Mapping[str, Any] = own["stream"]
    return stream


def make_sure_it_goes_on(path: Path, run: Run) -> None:
    """Make sure that a checkpoint can be resumed, at no cost, before anything is written.

    Raises:
        InputFileError: If it is damaged, or of another run.
    """
    _make_sure_it_is_of(run, _read(path, mmap=True), path)


def _read(path: Path, **how: Any) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True, **how)
        content["recipe"] = config.parse(Recipe, content["recipe"])
    except (*_DAMAGED, OSError) as error:
        raise InputFileError(
            f"{path}: damaged, or not a checkpoint of this version; start a new run in another "
            "folder"
        ) from error
    return content


def _make_sure_it_is_of(run: Run, content: Mapping[str, Any], path: Path) -> None:
    before = content["recipe"]
    old, new = _deciding(before), _deciding(run.recipe)
    others = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    if run.bank and content.get("bank") not in (None, "", run.bank):
        others.append("bank")
    if others:
        raise InputFileError(
            f"{path}: this run of {before.network} ({before.features or 'default'} features) was "
            f"started with different values of {', '.join(others)}; resume with the original "
            "values, or choose another folder"
        )


def _deciding(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that a run must go on with, by their names in the file."""
    flat: dict[str, Any] = {}
    for name, value in config.to_dict(recipe).items():
        inner = isinstance(value, Mapping)
        flat |= {f"{name}.{key}": x for key, x in value.items()} if inner else {name: value}
    kept = {k: x for k, x in flat.items() if k not in _FREE and not k.startswith("device.")}
    # What the streams have come to is kept for each of them.
    device = recipe.device
    return kept | {"device.streams": device.streams if device.second_process else 1}


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
                f"the weights do not match {self.recipe.network}: {error}"
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


def write_weights(
    path: Path, recipe: Recipe, position: Position, network: nn.Module, *, whole: bool = False
) -> list[Path]:
    """Write weights, kernels as float16, in pieces small enough to travel.

    Args:
        path: Ends in `.pt`; a file larger than `PIECE_BYTES` becomes `.pt.000`, `.pt.001` ....
        recipe: What they were trained by.
        position: After how much training.
        network: Whose weights.
        whole: Whether they become one file, however large.

    Returns:
        The files written.
    """
    weights = {
        name: (tensor.half() if tensor.ndim > 1 else tensor).cpu().contiguous()
        for name, tensor in network.state_dict().items()
    }
    content = {
        "recipe": config.to_dict(recipe),
        "position": asdict(position),
        "weights": weights,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getvalue()
    parts = {path: data}
    if len(data) > PIECE_BYTES and not whole:
        parts = {
            path.with_name(f"{path.name}.{k:03d}"): data[start : start + PIECE_BYTES]
            for k, start in enumerate(range(0, len(data), PIECE_BYTES))
        }
    stale = {path, *_pieces(path)} - parts.keys()
    for file, part in parts.items():
        with atomic_file(file) as draft:
            draft.write_bytes(part)
    for file in stale:
        file.unlink(missing_ok=True)
    return list(parts)


def _pieces(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.[0-9][0-9][0-9]"))


def _joined(path: Path) -> io.BytesIO:
    """Return a file of weights, whole or in pieces, as one."""
    pieces = [path] if path.is_file() else _pieces(path)
    if not pieces:
        raise InputFileError(f"{path}: weights not found; give the .pt file written by training")
    return io.BytesIO(b"".join(piece.read_bytes() for piece in pieces))


def read_weights(path: Path) -> Weights:
    """Read weights, whole or in pieces, or those of a checkpoint.

    Args:
        path: What `write_weights` or `save` was given.

    Raises:
        InputFileError: If there is no such file, or it is damaged or something else.
    """
    data = _joined(path)
    try:
        with ZipFile(data) as archive:
            # torch believes pieces of two files: only the checksums tell that they are.
            if archive.testzip():
                raise BadZipFile(path)
        data.seek(0)
        content = torch.load(data, map_location="cpu", weights_only=True)
        weights = content.get("weights") or content["mean"] or content["network"]
        return Weights(
            config.parse(Recipe, content["recipe"]),
            Position(**content["position"]),
            {n: w.float() if w.is_floating_point() else w for n, w in weights.items()},
        )
    except _DAMAGED as error:
        raise InputFileError(
            f"{path}: damaged, or not a weights file; give the .pt file written by training, "
            "with all its parts"
        ) from error
