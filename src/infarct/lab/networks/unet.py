"""UNet: encoder and decoder with skip connections, the main baseline of the paper.

References:
    Cicek et al. 2016, 3D U-Net: learning dense volumetric segmentation from sparse annotation.
    Ronneberger et al. 2015, U-Net.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 4


def _block(channels: int, features: int) -> nn.Sequential:
    """Two 3 x 3 x 3 convolutions, each with batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv3d(channels, features, 3, padding=1, bias=False),
        nn.BatchNorm3d(features),
        nn.ReLU(inplace=True),
        nn.Conv3d(features, features, 3, padding=1, bias=False),
        nn.BatchNorm3d(features),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """Four levels of encoder and decoder; the features double at every level.

    Args:
        channels: Number of input channels.
        features: Features of the first level; 42 gives as many parameters as DAGMNet at Nf 32.
    """

    def __init__(self, channels: int = 3, features: int = 42) -> None:
        super().__init__()
        widths = [features * 2**k for k in range(LEVELS)]
        finer = list(pairwise(widths))
        self.encode = nn.ModuleList([_block(channels, features)])
        self.encode.extend(_block(above, w) for above, w in finer)
        self.up = nn.ModuleList([nn.ConvTranspose3d(below, w, 2, 2) for w, below in finer])
        self.decode = nn.ModuleList([_block(2 * w, w) for w in widths[:-1]])
        self.answer = nn.Conv3d(features, 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Segment a batch.

        Args:
            image: (N, C, X, Y, Z), the three axes divisible by 8.

        Returns:
            One logit map (N, 1, X, Y, Z).
        """
        skips = [self.encode[0](image)]
        for encode in self.encode[1:]:
            skips.append(encode(functional.max_pool3d(skips[-1], 2)))
        features = skips.pop()
        for up, decode in zip(reversed(self.up), reversed(self.decode), strict=True):
            features = decode(torch.cat([skips.pop(), up(features)], dim=1))
        return (self.answer(features),)
