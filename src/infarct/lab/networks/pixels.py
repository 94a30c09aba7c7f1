"""Packs 2 x 2 pixels into channels and back, so that one pass reads every measured pixel.

References:
    Shi et al. 2016, Real-time single image super-resolution (sub-pixel convolution).
"""

from __future__ import annotations

import torch
from torch import Tensor

SIDE = 2
PIXELS = SIDE * SIDE
"""Pixels of a block."""


def pack(image: Tensor) -> Tensor:
    """Turn the four pixels of each in-plane block into channels.

    Args:
        image: (N, C, X, Y, Z), X and Y even.

    Returns:
        (N, 4 C, X / 2, Y / 2, Z); the four pixels of an image are neighbouring channels.
    """
    n, c, x, y, z = image.shape
    blocks = image.reshape(n, c, x // SIDE, SIDE, y // SIDE, SIDE, z)
    blocks = blocks.permute(0, 1, 3, 5, 2, 4, 6)
    return blocks.reshape(n, c * PIXELS, x // SIDE, y // SIDE, z)


def unpack(image: Tensor) -> Tensor:
    """Spread groups of four channels over in-plane blocks; the inverse of `pack`.

    Args:
        image: (N, 4 C, X, Y, Z).

    Returns:
        (N, C, 2 X, 2 Y, Z).
    """
    n, c, x, y, z = image.shape
    blocks = image.reshape(n, c // PIXELS, SIDE, SIDE, x, y, z)
    blocks = blocks.permute(0, 1, 4, 2, 5, 3, 6)
    return blocks.reshape(n, c // PIXELS, x * SIDE, y * SIDE, z)


def with_mirror(image: Tensor) -> Tensor:
    """Append the head mirrored at the midplane as further channels.

    Args:
        image: (N, C, X, Y, Z), symmetric about the midplane of the head along X.

    Returns:
        (N, 2 C, X, Y, Z).
    """
    return torch.cat([image, image.flip(2)], dim=1)
