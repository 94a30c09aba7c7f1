"""Checkpoints for resuming a run, and weights for inference and fine-tuning.

A checkpoint holds everything the next step depends on, so that a resumed run is bit-identical to
an uninterrupted one. A weights file holds only the network and its recipe.
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
"""Largest part of a weights file: below the usual size limits of mail and code hosting."""

_FREE = {"minutes", "epochs", "note", "rate.peak", "validation.cases"}
"""Settings, in addition to those of the device, that may be changed when a run is resumed."""

_DAMAGED = (
    *(UnpicklingError, RuntimeError, ValueError, EOFError, BadZipFile),
    *(KeyError, AttributeError, TypeError),
)
"""Exceptions raised when reading a damaged file or a file of another kind."""


@dataclass(frozen=True)
class Run:
    """Recipe and data of a run.

    Attributes:
        recipe: All settings of the run.
        bank: SHA-256 of the bank, see `bank.digest`; empty if unknown.
    """

    recipe: Recipe
    bank: str = ""


@dataclass
class Position:
    """Progress of a run.

    Attributes:
        step: Number of weight updates.
        samples: Volumes processed, over all devices.
        seconds: Training time, over all sessions.
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
    """Everything that changes during training.

    Attributes:
        network: The network being trained.
        mean: Running mean of its weights; None if the recipe keeps none.
        optimiser: Adam, with its moments.
        plateau: Plateau schedule of the learning rate; used only by recipes with a plateau.
        windows: Random generator of the windows.
        position: Progress of the run.
    """

    network: nn.Module
    mean: nn.Module | None
    optimiser: torch.optim.Optimizer
    plateau: torch.optim.lr_scheduler.ReduceLROnPlateau
    windows: torch.Generator
    position: Position

    @property
    def candidate(self) -> nn.Module:
        """The network to score and export: the running mean if there is one."""
        return self.network if self.mean is None else self.mean


def make_learner(recipe: Recipe, rank: int, device: str) -> Learner:
    """Build network and optimiser from the recipe and its seed."""
    # Initial weights come from torch's global generator, whose state is restored afterwards.
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
        # torch reduces after patience + 1 stale scores, Keras and the paper after `patience`.
        plateau=torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimiser, factor=rate.factor, patience=rate.patience - 1, min_lr=rate.floor
        ),
        windows=torch.Generator().manual_seed(recipe.seed + rank),
        position=Position(),
    )


def _started(known: Weights, recipe: Recipe, network: nn.Module) -> dict[str, Tensor]:
    """Return the initial weights: the known weights, widened or converted to slices if needed."""
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
    """Drop the weights of input channels that a network does not have.

    The IS map is the last channel of every design, so a network without it can start from one with
    it. The reverse is not possible: there are no weights for the additional channel.

    Raises:
        InputFileError: If the weights belong to another design or to other input channels.
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
    """Return the weights file of a bundled network, by name, or the given path."""
    shipped = f"networks/{start}.pt"
    return assets.path(shipped) if shipped in assets.index() else Path(start)


def save(path: Path, run: Run, learner: Learner, streams: list[Any]) -> None:
    """Write a checkpoint; a crash while writing keeps the previous one.

    Args:
        path: File to write.
        run: Recipe and data of the run, stored in the checkpoint.
        learner: Network, optimiser and progress.
        streams: State of the stream and of the windows of each process, see `loop.train`.
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
    """Restore a learner from a checkpoint, in place.

    Args:
        path: The checkpoint.
        run: Recipe and data of the resumed run.
        learner: To be restored.
        rank: Number of this process.
        device: Device of the tensors.

    Returns:
        The state of the stream of process `rank`.

    Raises:
        InputFileError: If the checkpoint is damaged or belongs to another run.
    """
    content = _read(path, map_location=device)
    _make_sure_it_is_of(run, content, path)
    learner.network.load_state_dict(content["network"])
    if learner.mean is not None:
        learner.mean.load_state_dict(content["mean"])
    learner.optimiser.load_state_dict(content["optimiser"])
    for group in learner.optimiser.param_groups:
        # With a plateau schedule nothing else lowers the rate after training has diverged.
        group["lr"] = min(group["lr"], run.recipe.rate.peak)
    learner.plateau.load_state_dict(content["plateau"])
    learner.position = Position(**content["position"])
    own: Mapping[str, Any] = content["streams"][rank]
    learner.windows.set_state(own["windows"].cpu())
    stream: Mapping[str, Any] = own["stream"]
    return stream


def make_sure_it_goes_on(path: Path, run: Run) -> None:
    """Check that a checkpoint can be resumed, before anything is written.

    Args:
        path: The checkpoint.
        run: Recipe and data of the resumed run.

    Raises:
        InputFileError: If the checkpoint is damaged or belongs to another run.
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
    """Return the settings that must not change when a run is resumed, by their TOML names."""
    flat: dict[str, Any] = {}
    for name, value in config.to_dict(recipe).items():
        inner = isinstance(value, Mapping)
        flat |= {f"{name}.{key}": x for key, x in value.items()} if inner else {name: value}
    kept = {k: x for k, x in flat.items() if k not in _FREE and not k.startswith("device.")}
    # A checkpoint stores one state per stream, so their number must not change.
    device = recipe.device
    return kept | {"device.streams": device.streams if device.second_process else 1}


@dataclass(frozen=True)
class Weights:
    """Weights of a trained network.

    Attributes:
        recipe: Recipe of the training run.
        position: Progress of the run.
        weights: Tensors by name, float32.
    """

    recipe: Recipe
    position: Position
    weights: dict[str, Tensor]

    def network(self) -> nn.Module:
        """Build the network with these weights, in evaluation mode.

        Raises:
            InputFileError: If the weights do not match the network of the recipe.
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
    """Return a copy with kernels rounded to float16, stored and computed as float32.

    The exported ONNX file stores kernels as float16; scoring the rounded network makes scores and
    ONNX file agree. Biases and normalisations are few and stay exact.
    """
    copy = deepcopy(network).eval()
    for tensor in copy.state_dict().values():
        if tensor.ndim > 1:
            tensor.copy_(tensor.half())
    return copy


def write_weights(
    path: Path, recipe: Recipe, position: Position, network: nn.Module, *, whole: bool = False
) -> list[Path]:
    """Write weights, kernels as float16, splitting large files into parts.

    Args:
        path: Ends in `.pt`; a file larger than `PIECE_BYTES` becomes `.pt.000`, `.pt.001` ....
        recipe: Recipe of the training run.
        position: Progress of the run.
        network: Network with the weights.
        whole: Whether to write a single file regardless of its size.

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
    """Return the content of a weights file, joining its parts."""
    pieces = [path] if path.is_file() else _pieces(path)
    if not pieces:
        raise InputFileError(f"{path}: weights not found; give the .pt file written by training")
    return io.BytesIO(b"".join(piece.read_bytes() for piece in pieces))


def read_weights(path: Path) -> Weights:
    """Read a weights file, single or in parts, or the weights of a checkpoint.

    Args:
        path: The path given to `write_weights` or `save`.

    Raises:
        InputFileError: If the file is missing, damaged or of another kind.
    """
    data = _joined(path)
    try:
        with ZipFile(data) as archive:
            # torch accepts parts of two different files; only the checksums reveal the mix.
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
