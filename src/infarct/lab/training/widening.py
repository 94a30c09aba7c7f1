"""Widens a network without changing its output, to start a wide network from a narrower one.

Every feature is copied, and the weights of the next layer are divided among the copies. The shares
are uneven: with equal shares the copies would receive equal gradients and remain identical.

References:
    Chen, Goodfellow and Shlens 2016, Net2Net: accelerating learning via knowledge transfer.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from infarct.core.errors import InputFileError

UNEVEN = (0.25, 0.75)
"""Range of the random share of a copy, before the shares of a feature are normalised to sum 1."""


def widened(weights: Mapping[str, Tensor], network: nn.Module, seed: int) -> dict[str, Tensor]:
    """Return weights for a wider network of the same design with the same output.

    Args:
        weights: Weights of the narrow network, by name.
        network: The wide network; unchanged. If its width is the same, so are the weights.
        seed: Random seed of the shares.

    Returns:
        Weights by name, of the shapes of `network`.

    Raises:
        InputFileError: If the network is narrower than the weights.
    """
    generator = torch.Generator().manual_seed(seed)
    wide = dict(weights)
    for name, module in network.named_modules():
        for part, own in module.named_parameters(prefix=name, recurse=False):
            given = weights[part]
            if own.ndim > 1:
                transposed = isinstance(module, nn.ConvTranspose3d)
                reads, finds = (0, 1) if transposed else (1, 0)
                given = _shared_out(
                    _copied(given, own.shape[finds], finds), own.shape[reads], reads, generator
                )
            else:
                given = _copied(given, own.shape[0], 0)
            wide[part] = given
        for part, own in module.named_buffers(prefix=name, recurse=False):
            if own.ndim:
                wide[part] = _copied(weights[part], own.shape[0], 0)
    return wide


def _originals(old: int, new: int) -> Tensor:
    """Return the index of the original of each of `new` features; copies are adjacent.

    Copying two concatenated groups of features therefore equals concatenating the copied groups.
    """
    return torch.arange(new) * old // new


def _copied(tensor: Tensor, new: int, axis: int) -> Tensor:
    if new < tensor.shape[axis]:
        raise InputFileError(
            f"cannot load weights with {tensor.shape[axis]} features into a network with {new}; "
            "a network can be widened, not narrowed"
        )
    return tensor.index_select(axis, _originals(tensor.shape[axis], new))


def _shared_out(tensor: Tensor, new: int, axis: int, generator: torch.Generator) -> Tensor:
    """Copy along the input axis, dividing the weights among the copies."""
    old = tensor.shape[axis]
    if old == new:
        return tensor
    originals = _originals(old, new)
    copies = _copied(tensor, new, axis)
    low, high = UNEVEN
    shares = torch.rand(copies.shape, generator=generator) * (high - low) + low
    sums = torch.zeros_like(tensor).index_add_(axis, originals, shares)
    return copies * shares / sums.index_select(axis, originals)
