"""DeepMedic: two paths with small receptive fields, one on a coarser image, without pooling.

References:
    Kamnitsas et al. 2017, Medical Image Analysis 36:61-78, Fig. 5: eight 3^3 layers in each path
    (30, 30, 40, 40, 40, 40, 50, 50 features), two 1^3 layers of 150, the second path on an image
    three times coarser.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

FACTOR = 3
"""Downsampling factor of the second path."""
MARGIN = 24
"""Voxels of context on every side of a voxel: 8 layers of the coarse path."""

_FEATURES = (30, 30, 40, 40, 40, 40, 50, 50)
_TOP = 150


def _path(channels: int) -> nn.Sequential:
    """Eight unpadded 3 x 3 x 3 convolutions with batch normalisation and PReLU."""
    layers: list[nn.Module] = []
    for features in _FEATURES:
        layers += [
            nn.Conv3d(channels, features, 3, bias=False),
            nn.BatchNorm3d(features),
            nn.PReLU(features),
        ]
        channels = features
    return nn.Sequential(*layers)


class DeepMedic(nn.Module):
    """The two-path network with the default sizes of its paper.

    The output of a voxel depends only on 48 neighbours along each axis, so a volume can be tiled
    without seams: `answer_tile` takes a tile with its margin.

    Args:
        channels: Number of input channels.
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.fine = _path(channels)
        self.coarse = _path(channels)
        self.top = nn.Sequential(
            nn.Conv3d(2 * _FEATURES[-1], _TOP, 1, bias=False),
            nn.BatchNorm3d(_TOP),
            nn.PReLU(_TOP),
            nn.Dropout3d(0.5),
            nn.Conv3d(_TOP, _TOP, 1, bias=False),
            nn.BatchNorm3d(_TOP),
            nn.PReLU(_TOP),
            nn.Dropout3d(0.5),
            nn.Conv3d(_TOP, 1, 1),
        )

    def answer_tile(self, tile: Tensor) -> Tensor:
        """Segment the centre of a tile.

        Args:
            tile: (N, C, X + 48, Y + 48, Z + 48), where X, Y and Z are divisible by 3.

        Returns:
            Logits (N, 1, X, Y, Z) of the tile without its margin.
        """
        context = MARGIN - len(_FEATURES)
        fine = self.fine(tile[..., context:-context, context:-context, context:-context])
        coarse = self.coarse(functional.avg_pool3d(tile, FACTOR))
        raised = functional.interpolate(coarse, scale_factor=FACTOR, mode="nearest")
        logits: Tensor = self.top(torch.cat([fine, raised], dim=1))
        return logits

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Segment a batch of any size, padded with 0 as outside the brain.

        Args:
            image: (N, C, X, Y, Z).

        Returns:
            One logit map (N, 1, X, Y, Z).
        """
        x, y, z = image.shape[2:]
        pad = [p for size in (z, y, x) for p in (MARGIN, MARGIN + -size % FACTOR)]
        return (self.answer_tile(functional.pad(image, pad))[..., :x, :y, :z],)
