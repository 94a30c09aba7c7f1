"""Packs 2 x 2 pixels into channels and back, so that one pass processes every measured pixel.

Both operations are convolutions with kernels of ones and zeros. An exported network then accepts
images of any size; a reshape would fix the traced size.

References:
    Shi et al. 2016, Real-time single image super-resolution (sub-pixel convolution).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 2
PIXELS = SIDE * SIDE
"""Number of pixels in a block."""


def pack(image: Tensor) -> Tensor:
    """Turn the four pixels of each in-plane block into channels.

    Args:
        image: (N, C, X, Y, Z), X and Y even.

    Returns:
        (N, 4 C, X / 2, Y / 2, Z); the four pixels of an image are adjacent channels.
    """
    channels = image.shape[1]
    kernels = _one_hot(image).repeat(channels, 1, 1, 1, 1)
    return functional.conv3d(image, kernels, stride=(SIDE, SIDE, 1), groups=channels)


def unpack(image: Tensor) -> Tensor:
    """Spread groups of four channels over in-plane blocks; the inverse of `pack`.

    Args:
        image: (N, 4 C, X, Y, Z).

    Returns:
        (N, C, 2 X, 2 Y, Z).
    """
    groups = image.shape[1] // PIXELS
    kernels = _one_hot(image).repeat(groups, 1, 1, 1, 1)
    return functional.conv_transpose3d(image, kernels, stride=(SIDE, SIDE, 1), groups=groups)


def _one_hot(like: Tensor) -> Tensor:
    """Return one kernel for each pixel of a block, (4, 1, 2, 2, 1)."""
    eye = torch.eye(PIXELS, dtype=like.dtype, device=like.device)
    return eye.reshape(PIXELS, 1, SIDE, SIDE, 1)


def with_mirror(image: Tensor) -> Tensor:
    """Append the head mirrored at the midplane as additional channels.

    Args:
        image: (N, C, X, Y, Z), symmetric about the midplane of the head along X.

    Returns:
        (N, 2 C, X, Y, Z).
    """
    return torch.cat([image, image.flip(2)], dim=1)
