"""Converts weights of a network for sub-volumes to its variant for measured slices.

The first convolutions average each block of 2 x 2 pixels, and the four pixels of a block get the
same output. Before training, the variant therefore equals the original applied to block means. The
weights of the new inputs, mirrored head and spacing, start at zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from infarct.lab.networks.pixels import PIXELS


def for_slices(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return weights for the variant of a network that reads measured slices.

    Args:
        weights: Weights of the network for sub-volumes, by name, with the width of `network`.
        network: The variant; unchanged.

    Returns:
        Weights by name, with the shapes of `network`.
    """
    return {
        name: _fitted(weights[name], wanted.shape) for name, wanted in network.state_dict().items()
    }


def _fitted(given: Tensor, wanted: torch.Size) -> Tensor:
    if given.shape == wanted:
        return given
    if given.shape[0] == 1 and wanted[0] == PIXELS:  # output: one voxel becomes four pixels
        return given.repeat_interleave(PIXELS, dim=0)
    fitted = given.new_zeros(wanted)
    known = given.repeat_interleave(PIXELS, dim=1) / PIXELS
    fitted[:, : known.shape[1]] = known
    return fitted
