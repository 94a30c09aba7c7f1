"""Recovers trainable weights from a bundled ONNX file without a `.pt` file.

Export folds each batch normalisation into a scale and a bias and discards the batch statistics.
These are measured again on a few scans. The output of the network stays the same, and training can
continue.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice, pairwise
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from infarct.core import assets
from infarct.lab.networks import build
from infarct.lab.training.checkpoint import Position, write_weights
from infarct.lab.training.config import Recipe
from infarct.lab.training.data_loader import crop, examples
from infarct.lab.training.sources import open_stream


def recover_weights(name: str, features: int, bank: Path, scans: int, out: Path) -> None:
    """Write trainable weights of a bundled network that ships as ONNX only.

    Args:
        name: Name of the network, a key of `networks.DESIGNS`.
        features: Number of features of its first level.
        bank: Bank of the synthetic scans.
        scans: Number of scans for the batch statistics.
        out: File to write.

    Raises:
        AssetError: If the network is not bundled.
    """
    recipe = Recipe(name, features, batch=1)
    network = build(name, features)
    recover(assets.path(f"networks/{name}"), network)
    source = open_stream(bank, recipe)(0, "train", "cpu")
    drawn = islice(examples(source, name), scans)
    measure_batches(network, (crop(example).image for example in drawn))
    write_weights(out, recipe, Position(), network, whole=True)


def recover(path: Path, network: nn.Module) -> None:
    """Load the weights of an ONNX file into the network it was exported from, in place.

    Args:
        path: File written by `export_onnx.to_onnx`.
        network: Network of the same design and width. Its normalisations assume mean 0 and
            variance 1 until `measure_batches` is called.

    Raises:
        KeyError: If the file has another design.
    """
    stored = {
        tensor.name.removeprefix("network."): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in onnx.load(path).graph.initializer
    }

    def kernel(name: str) -> Tensor:
        half, full = f"{name}.weight_half", f"{name}.weight"
        return stored[half if half in stored else full].float()

    with torch.no_grad():
        for name, (convolution, normalisation) in _pairs(network):
            convolution.weight.copy_(kernel(name))
            scale = stored[f"{name}.weight_scale"].flatten()
            normalisation.weight.copy_(scale)
            normalisation.bias.copy_(stored[f"{name}.bias"])
            normalisation.get_buffer("running_mean").zero_()
            normalisation.get_buffer("running_var").fill_(1 - normalisation.eps)
        normalised = {id(convolution) for _, (convolution, _) in _pairs(network)}
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d) and id(module) not in normalised:
                module.weight.copy_(kernel(name))
                if module.bias is not None:
                    module.bias.copy_(stored[f"{name}.bias"])


@torch.no_grad()
def measure_batches(network: nn.Module, images: Iterable[Tensor]) -> None:
    """Set the batch statistics of a recovered network from actual batches, in place.

    The output in evaluation mode stays the same.

    Args:
        network: From `recover`; left in evaluation mode.
        images: Batches (N, C, X, Y, Z) as in training.
    """
    network.eval()
    sums: dict[str, list[Tensor]] = {}

    def keep(name: str, value: Tensor) -> None:
        space = (0, 2, 3, 4)
        mean, square = value.mean(space), value.square().mean(space)
        sums.setdefault(name, []).append(torch.stack([mean, square]))

    handles = [
        normalisation.register_forward_pre_hook(lambda _, inputs, name=name: keep(name, inputs[0]))
        for name, (_, normalisation) in _pairs(network)
    ]
    for image in images:
        network(image)
    for handle in handles:
        handle.remove()
    for name, (_, normalisation) in _pairs(network):
        mean, square = torch.stack(sums[name]).mean(0)
        variance = square - mean**2
        scale = normalisation.weight.clone()  # so far for a variance of 1
        normalisation.weight.copy_(scale * (variance + normalisation.eps).sqrt())
        normalisation.bias.add_(scale * mean)
        normalisation.get_buffer("running_mean").copy_(mean)
        normalisation.get_buffer("running_var").copy_(variance)


def _pairs(network: nn.Module) -> list[tuple[str, tuple[nn.Conv3d, nn.BatchNorm3d]]]:
    """List the convolutions followed by a normalisation, with the name of the convolution."""
    found = []
    for name, block in network.named_modules():
        if isinstance(block, nn.Sequential):
            for k, (first, second) in enumerate(pairwise(block)):
                if isinstance(first, nn.Conv3d) and isinstance(second, nn.BatchNorm3d):
                    found.append((f"{name}.{k}", (first, second)))
    return found
